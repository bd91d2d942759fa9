"""A checker of pages, and the files of a run written by hand."""

import json
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}
MEASURES = ("reconstruction", "linear-probe", "knn", "codebook", "projection(tsne=False)")


class Checker(HTMLParser):
    """Parser that collects sources, ids, headings and text, and asserts that every element is closed."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.sources, self.ids, self.headings, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [named["id"]] if "id" in named else []
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            if name in named:
                self.sources.append(named[name])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        last = self.open.pop()
        assert last == tag, f"<{last}> is closed by </{tag}>"

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def check_page(path):
    """Check that a page is well-formed and self-contained; return its parser and its text."""
    text = path.read_text(encoding="utf-8")
    page = Checker()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "two elements have one id"
    for source in page.sources:
        assert source.startswith(("data:", "#")), source
        assert not source.startswith("#") or source[1:] in page.ids
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    return page, " ".join(page.text)


def write_run(folder, *lines, **record):
    """Write ``metrics.jsonl`` and, with a record, ``run.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if record:
        (folder / "run.json").write_text(json.dumps(record))


LINES = [
    {
        "step": step,
        "seconds": step / 10,
        "loss": 100 - step,
        "lr": 1e-3,
        "terms": {"reconstruction": 90 - step, "kl": step},
        "metrics": {"usage": 1.0, "error": 3.0},
        "results": {"reconstruction": {"error": 4.0, "mse": 0.1}},
    }
    for step in (0, 10, 20)
]
RECORD = {
    "command": "python recipe.py --latent 'gaussian(dim=4)'",
    "status": "finished",
    "seed": 7,
    "pid": 4242,
    "host": "secret",
    "versions": {"python": "3.11.7", "torch": "2.11.0"},
    "started": "2026-01-01T00:00:00+00:00",
    "data": {
        "name": "digits (train)",
        "size": 240,
        "signature": {
            "x": {"kind": "image", "shape": [8, 8, 1], "range": [0.0, 1.0], "vocab": None},
            "label": {"kind": "label", "shape": [], "range": None, "vocab": 10},
        },
    },
    "stages": {"main": {"steps": 20, "step": 20, "seconds": 200.0}},
}
