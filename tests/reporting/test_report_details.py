"""Details of pages: own sections, pictures of every kind of data, numbers that are not finite, stopped stages, long curves."""

import json

import numpy as np
import pytest
import torch
from page_checks import check_page, write_run

import reprkit as rk
from reprkit.data import Tensors
from reprkit.evaluation import Results
from reprkit.reporting import Note, Section
from reprkit.reporting.run_history import describe_run, format_duration


def test_own_sections(trained, tmp_path):
    own = Section("Listening", [Note("three of four preferred it")])
    page, text = check_page(rk.report(tmp_path, trained[2]["binary(bits=6)"][1], sections=[own]))
    assert page.headings.index("Listening") < page.headings.index("Parts and parameters")
    assert "three of four" in text


def kinds_of_data():
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]] * 4)
    varying = rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 2))})
    frames = rk.Signature({"x": rk.Field(kind="sequence", shape=(6, 5), range=(-5, 5))})
    words = rk.Signature({"x": rk.Field(kind="tokens", shape=(6,), vocab=9)})
    plain = rk.Signature({"x": rk.Field(kind="vector", shape=(7,))})
    color = rk.Signature({"x": rk.Field(kind="image", shape=(8, 8, 3), range=(0, 1))})
    real = {"encoder": "gru(width=8)", "decoder": "transformer(width=8, depth=1, heads=2)"}
    flat = {"encoder": "mlp(widths=(8,))", "decoder": "mlp(widths=(8,))"}
    yield "varying", Tensors({"x": torch.randn(12, 6, 2, generator=generator), "x_mask": mask}, varying), real
    yield "frames", Tensors({"x": torch.randn(12, 6, 5, generator=generator).clamp(-5, 5)}, frames), real
    yield "words", Tensors({"x": torch.randint(0, 9, (12, 6), generator=generator)}, words), real
    yield "plain", Tensors({"x": torch.randn(12, 7, generator=generator)}, plain), flat
    yield "color", Tensors({"x": torch.rand(12, 8, 8, 3, generator=generator)}, color), flat


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "parts"),
    list(kinds_of_data()),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_data_has_pictures(name, data, parts, tmp_path):
    model = rk.build(data=data, latent="gaussian(dim=2)", **parts)
    page, text = check_page(rk.report(tmp_path, rk.evaluate(model, data, "reconstruction", "codebook")))
    assert "Inputs and reconstructions" in page.headings
    assert "Latent traversals" in page.headings
    assert ("Samples from the prior" in page.headings) == (name != "varying")
    shown = {
        "varying": "example 1, channel 1",
        "plain": "input",
        "words": "reconstruction",
        "frames": "input",
        "color": "input",
    }
    assert shown[name] in text or f'alt="{shown[name]} 1"' in (tmp_path / "report.html").read_text()


def test_only_the_first_rank_writes(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("reprkit.utils.collectives.is_main", lambda: False)
    assert rk.report(tmp_path, trained[2]["binary(bits=6)"][1]) == tmp_path / "report.html"
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_shown_as_dashes(tmp_path):
    results = Results({"reconstruction": {"error": float("nan"), "nll": float("inf")}})
    _, text = check_page(rk.report(tmp_path, results))
    assert text.count("–") == 3, "of the tile and of both rows"
    assert "inf" not in text
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "reconstruction": {"error": None, "nll": None}
    }


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_formatted_for_reading(seconds, text):
    assert format_duration(seconds) == text


def test_stages_that_were_stopped():
    stages = {
        "ae": {"steps": 1000, "step": 1000, "seconds": 5.0},
        "gan": {"steps": 2000, "step": 500, "seconds": 5.0},
    }
    facts = describe_run({"stages": stages, "status": "stopped"})
    assert facts["steps"] == "ae 1,000, gan 500 of 2,000"
    assert facts["time"] == "10 s"


def test_long_curves_are_downsampled_to_means(tmp_path):
    from reprkit.reporting.run_history import read_run_history

    write_run(tmp_path, *({"step": step, "loss": step % 2} for step in range(4000)))
    steps, values = read_run_history(tmp_path).curves["loss"]
    assert len(steps) == 400
    assert np.allclose(values, 0.5)


def test_skipped_examples_are_listed(tmp_path):
    lines = [f"line {number}".encode() for number in range(200)]
    for place in range(0, 200, 8):
        lines[place] = b"caf\xe9 <i>"
    (tmp_path / "set.txt").write_bytes(b"\n".join(lines))
    train, test = rk.dataset(f"lines(path={str(tmp_path / 'set.txt')!r}, max_corrupt=0.2)").split()
    model = rk.build(data=train, encoder="gru", latent="gaussian(dim=2)", decoder="gru")
    for step in rk.loop(model, train, steps=1, batch=8, lr=1e-3, out=tmp_path / "run"):
        step.backward(step.model(step.batch).total)
        step.update()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["skipped_count"] == 25
    results = rk.evaluate(model, test, "reconstruction")
    _, text = check_page(rk.report(tmp_path / "run", results))
    assert text.count("because they could not be read: 25; the first 20 are named") == 1
    assert text.count("set.txt:9 ") == 1
    assert text.count("not valid UTF-8") == 20
    assert "set.txt:161" not in text
    named = [{"name": "a<b>.png", "why": "<oops> & more"}]
    facts = {
        "name": "pets",
        "size": 3,
        "signature": {},
        "skipped": named,
        "skipped_count": 1,
        "alphabet": "xyz" * 200,
    }
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "run.json").write_text(json.dumps({"data": facts}))
    _, text = check_page(rk.report(tmp_path / "two"))
    assert "because they could not be read: 1." in text
    assert "a<b>.png" in text
    assert "<oops> & more" in text
    assert "xyz" not in text


def test_ignored_files_are_listed(tmp_path):
    from PIL import Image

    from reprkit.reporting.provenance import data_section

    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "list.csv").write_text("")
    (tmp_path / ".cache").write_text("")
    data = rk.dataset(f"images(root={str(tmp_path)!r}, size=8)")
    section = data_section({"one": Results({}, about={"data": data.describe()})}, {})
    table = section.blocks[-1]
    assert table.rows == {"hidden": [1, ".cache"], "suffix .csv": [1, "list.csv"]}
    assert section.blocks[0].columns[-1] == "ignored"
