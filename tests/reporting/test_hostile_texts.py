"""Markup and terminal escapes in everything that others write: nothing of it reaches a page, a model card or a terminal."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from reprkit.checkpoints import card
from reprkit.commands import main
from reprkit.errors import CheckpointError, ReprkitError
from reprkit.reporting.figures import Bars, Curves, Images, Matrix, Scatter, Symbols
from reprkit.reporting.page import Legend, Listing, Note, Page, Section, Table, Tiles
from reprkit.reporting.page_store import PageContent, RenderedFigure, read_page_store, write_page_store
from reprkit.reporting.sanitize import sanitize_html
from reprkit.reporting.sounds import Sounds
from reprkit.reporting.writer import report
from reprkit.runs.results import Results

HOSTILE = "<script>alert(1)</script><img src=http://evil/x onerror=alert(1)>\"'$a_{1}$\x1b]0;t\x07\x1b[2J"
ALLOWED = {"data:image/png;base64", "data:audio/flac;base64", "data:audio/wav;base64"}


class Tags(HTMLParser):
    """Collects what a page must not have."""

    def __init__(self):
        super().__init__()
        self.faults, self.count = [], 0

    def handle_starttag(self, tag, attributes):
        self.count += 1
        values = dict(attributes)
        if tag in ("script", "iframe", "object", "embed", "form", "link", "base"):
            self.faults.append(tag)
        self.faults += [f"{tag} {name}" for name in values if name.startswith("on")]
        for name in ("src", "href"):
            value = values.get(name) or "#"
            if not value.startswith("#") and value.partition(",")[0] not in ALLOWED:
                self.faults.append(f"{tag} {name}={value[:40]}")


def faults_of(html):
    tags = Tags()
    tags.feed(html)
    assert tags.count > 0
    return tags.faults


def test_the_check_sees_markup():
    assert faults_of(f"<p>{HOSTILE}</p>") == ["script", "img onerror", "img src=http://evil/x"]


FIGURES = {
    "images": lambda text: Images(title=text, caption=text, rows={text: np.zeros((2, 4, 4, 1))}),
    "curves": lambda text: Curves(
        title=text, caption=text, xlabel=text, ylabel=text, lines={text: ([0, 1], [1, 2]), "b": ([0], [1])}
    ),
    "scatter": lambda text: Scatter(
        title=text, points=np.zeros((4, 2)), labels=np.arange(4) % 2, names={0: text, 1: text}
    ),
    "bars": lambda text: Bars(title=text, values=np.arange(3), xlabel=text, ylabel=text),
    "matrix": lambda text: Matrix(title=text, values=np.eye(2), xlabel=text, ticks=[text, text]),
    "symbols": lambda text: Symbols(title=text, rows={text: [[text, 1]], "b": [[2, text]]}),
    "sounds": lambda text: Sounds(title=text, rows={text: {text: np.zeros(9)}}, notes={text: {text: text}}),
}
BLOCKS = {
    "table": lambda text: Table([text, "b"], {text: [text, 1.0]}, corner=text, caption=text),
    "tiles": lambda text: Tiles({text: text}),
    "listing": lambda text: Listing({text: text, "b": text}, frozenset({"b"})),
    "legend": lambda text: Legend([text]),
    "note": lambda text: Note(text),
}


@pytest.mark.parametrize("block", [*FIGURES, *BLOCKS])
def test_blocks_of_a_page_escape_their_texts(block):
    made = {**FIGURES, **BLOCKS}[block](HOSTILE)
    page = Page(HOSTILE, [Section(HOSTILE, [made], HOSTILE)], verdict=HOSTILE, made=HOSTILE).html()
    assert not faults_of(page)
    assert "Content-Security-Policy" in page


def test_a_page_store_is_no_trusted_html(tmp_path):
    figure = RenderedFigure(HOSTILE + "<svg><path d='M0 0'/></svg>", HOSTILE, HOSTILE)
    results = Results({HOSTILE: {HOSTILE: 1.0}}, figures={HOSTILE: {HOSTILE: figure}}, about={"parts": {}})
    content = PageContent(
        {"": results}, HOSTILE, HOSTILE, {f"{HOSTILE}.{HOSTILE}": HOSTILE}, {HOSTILE: {"e": {"x": 1.0}}}
    )
    content.sections = [Section(HOSTILE, [figure], HOSTILE)]
    write_page_store(tmp_path, content)
    (tmp_path / "results.json").write_text(json.dumps({HOSTILE: {HOSTILE: 1.0}}))
    (tmp_path / "run.json").write_text(json.dumps(record()))
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "loss": 1.0, "metrics": {HOSTILE: 2.0}}) + "\n"
    )
    assert read_page_store(tmp_path) is not None
    html = report(tmp_path).read_text()
    assert not faults_of(html)
    assert html.count("&lt;script&gt;") > 10
    assert '<path d="M0 0">' in html, "drawings are kept"


def record():
    data = {
        "name": HOSTILE,
        "reference": HOSTILE,
        "size": 3,
        "signature": {HOSTILE: {"kind": HOSTILE, "shape": [3]}},
    }
    data |= {"skipped": [{"name": HOSTILE, "why": HOSTILE}], "skipped_count": 1, HOSTILE: HOSTILE}
    stage = {
        "status": HOSTILE,
        "step": 1,
        "steps": 2,
        "optimizer": HOSTILE,
        "lr": HOSTILE,
        "waiting": {HOSTILE: 0.1},
    }
    stage["best"] = {"metric": HOSTILE, "end": "min", "value": 1.0, "step": 1}
    return {
        "command": HOSTILE, "status": "failed", "error": HOSTILE, "folder": HOSTILE, "started": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "data": data, "warnings": [{"step": 1, "stage": HOSTILE, "text": HOSTILE}], "stages": {HOSTILE: stage},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A run whose record, results and manifest hold hostile texts wherever a text is allowed."""
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record()))
    (run / "results.json").write_text(json.dumps({HOSTILE: {HOSTILE: 1.0}}))
    entry = {"kind": HOSTILE, "shape": [4], "range": [0, 1], "vocab": None}
    part = {"id": "reprkit/mlp", "arguments": {"widths": [8], HOSTILE: HOSTILE}}
    manifest = {
        "format": 1, "reprkit": "0.1.0", "factors": {"code": {"encoder": part, "latent": part, "input": HOSTILE, "pool": False}},
        "decoder": part, "objective": part, "output": HOSTILE, "weights": {HOSTILE: 1.0}, "plugins": {"reprkit": "0.1.0"},
        "signature": {HOSTILE: entry, "x": entry},
    }  # fmt: skip
    (run / "model" / "reprkit.json").write_text(json.dumps(manifest))
    header = json.dumps(
        {"__metadata__": {"format": HOSTILE}, HOSTILE: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    )
    (run / "model" / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header.encode() + b"\0" * 4
    )
    return run


def test_a_model_card_has_no_markup(folder):
    path = card.update_card(folder / "model")
    text = path.read_text()
    outside = re.sub(r"(`+).+?\1|```.*?```", "", text, flags=re.DOTALL).replace(card._MARK, "")
    assert "<script" not in outside
    assert "<img" not in outside
    assert "\x1b" not in text
    assert "http://evil" not in outside
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(block, "card", "exec")


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "{}"],
        ["inspect", "{}", "--json"],
        ["runs", "{}"],
        ["runs", "{}", "--json"],
        ["report", "{}"],
        ["probe", "{}"],
    ],
)
def test_no_control_characters_reach_the_terminal(folder, command, capsys):
    with pytest.raises(SystemExit):
        main.main([part.format(folder) for part in command])
    out, err = capsys.readouterr()
    shown = out + err
    assert shown.strip()
    assert not [char for char in shown if not char.isprintable() and char not in "\n\t"]


def test_messages_of_errors_are_printable():
    assert str(ReprkitError(f"{HOSTILE}\nsecond line")).count("\n") == 1
    assert "\x1b" not in str(CheckpointError(HOSTILE))
    assert "\\x1b[2J" in str(CheckpointError(HOSTILE))
    assert str(CheckpointError("as it is – é")) == "as it is – é"


def test_a_hostile_name_in_advice_is_quoted(folder, capsys):
    path = folder / "model" / "reprkit.json"
    manifest = json.loads(path.read_text())
    manifest.update(format=99, plugins={"x'; touch y; '": "1'; touch z; '"})
    path.write_text(json.dumps(manifest))
    with pytest.raises(SystemExit):
        main.main(["inspect", str(folder)])
    import shlex

    (line,) = [line for line in capsys.readouterr().out.splitlines() if "pip install" in line]
    assert shlex.split(line.partition("pip install ")[2]) == ["x'; touch y; '==1'; touch z; '"]


@pytest.mark.parametrize(
    "html",
    [
        "<svg><a href='javascript:alert(1)'>x</a></svg>",
        "<svg><use href='http://evil/x#a'/></svg>",
        "<svg><foreignObject><iframe src='http://evil'></iframe></foreignObject></svg>",
        "<img src='data:image/svg+xml;base64,AAAA'>",
        "<img src='http://evil/x.png'>",
        "<div style='background:url(http://evil)'>x</div>",
        "<div style='background:u\\72l(http://evil)'>x</div>",
        "<div style='position:fixed'>x</div>",
        "<style>*{background:url(http://evil)}</style>",
        "<meta http-equiv=refresh content='0;url=http://evil'>",
        "<form action='http://evil'><input></form>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
        "<!--><img src=x onerror=alert(1)>-->",
    ],
)
def test_html_of_figures_makes_no_request_and_runs_nothing(html):
    clean = sanitize_html(f"<b>kept</b>{html}")
    assert not faults_of(clean)
    assert "<b>kept</b>" in clean
    assert not re.search(r"evil|javascript|<style|position", clean)


def test_figures_survive_sanitizing():
    for make in FIGURES.values():
        html = make("title & text").html()
        clean = sanitize_html(html)
        before, after = Tags(), Tags()
        before.feed(html)
        after.feed(clean)
        assert after.count == before.count
        assert len(clean) > 0.95 * len(html)
