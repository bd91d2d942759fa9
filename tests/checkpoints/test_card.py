"""The model card: it describes the model and its run, is deterministic, and never overwrites text written by hand."""

import json
import re
import warnings

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.registry.registry import Registry, using_registry
from reprkit.runs.filenames import CARD


class Plain(rk.Latent):
    """A plugin's latent."""

    def __init__(self, dim: int = 3):
        super().__init__(in_dim=dim, out_dim=dim)

    def forward(self, features):
        return rk.Code.of(features, z=features.x)


class Plugin:
    @hookimpl
    def reprkit_latents(self):
        yield Spec("plain", f"{__name__}:Plain", "As it is | no more (arXiv 0000.00000)")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run with all its files, and its results."""
    out = tmp_path_factory.mktemp("card") / "run"
    train, test = rk.dataset("digits").split(seed=3)
    parts = {"encoder": "mlp(widths=(16,))", "decoder": "mlp(widths=(16,))"}
    model = rk.build(data=train, latent="gaussian(dim=4, beta=0.5)", objective="reconstruction", **parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = rk.fit(
            model, train, steps=12, batch=64, seed=7, valid=test, evaluators=("reconstruction",), out=out
        )
    return out, done, test


def test_card_of_a_run_describes_parts_data_training_and_results(run):
    out, done, _ = run
    text = (out / "model" / CARD).read_text()
    front = ModelCard(text).data.to_dict()
    assert front["library_name"] == "reprkit"
    assert front["pipeline_tag"] == "image-feature-extraction"
    assert {"representation-learning", "mlp", "gaussian", "reconstruction"} <= set(front["tags"])
    assert "license" not in front
    assert "# gaussian(dim=4, beta=0.5) on digits (train)" in text
    latent = next(line for line in text.splitlines() if line.startswith("| latent |"))
    assert "`gaussian(dim=4, beta=0.5)`" in latent
    assert "2013" in latent or "1312.6114" in latent or "Kingma" in latent, "its Spec's line names the paper"
    total = sum(value.numel() for value in done.model.parameters())
    assert re.search(
        rf"\| encoder \|.*\| {sum(v.numel() for v in done.model.factors['code'].encoder.parameters()):,} \|",
        text,
    )
    assert f"{total:,} parameters in all" in text
    assert "Trained on digits (train), 1,438 of 1,797 examples, split by seed 3." in text
    assert "| `x` | image | 8 × 8 × 1 | 0 to 1 |" in text
    assert "12 steps; batch 64, lr 0.001, seed 7, optimizer adamw, schedule constant\n" in text
    assert f"reprkit {rk.__version__}" in text
    assert f"torch {torch.__version__}" in text
    assert f"| reconstruction.error | {done.results['reconstruction']['error']:.6g} |" in text


def test_code_example_of_the_card_runs(run, monkeypatch):
    out, done, test = run
    text = (out / "model" / CARD).read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)[1].replace('"PATH"', repr(str(out / "model")))
    names = {"x": test.batch(range(5))["x"]}
    exec(code, names)
    assert names["vectors"].shape == (5, 4)
    assert "(b 4)" in code
    assert "# x: float32 (b 8 8 1), values in 0 to 1" in code
    assert torch.equal(names["vectors"], done.model.represent(test.batch(range(5))))


@pytest.mark.slow
def test_report_updates_the_card_deterministically(run, tmp_path):
    out, done, _ = run
    place = out / "model" / CARD
    before = place.read_text()
    rk.report(out, {"reconstruction": {"error": 12.5}})
    after = place.read_text()
    assert "| reconstruction.error | 12.5 |" in after
    rk.report(out, done.results)
    assert place.read_text() == before
    done.model.save(out / "model")
    assert place.read_text() == before


def test_card_lists_every_recorded_option_that_differs_from_its_default(tmp_path):
    stage = {
        "steps": 9, "batch": 8, "lr": 0.5, "seed": 0, "optimizer": "sgd", "optimizers": {"critic": "adam(lr=0.1)"},
        "schedule": "constant", "warmup": 0, "accumulate": 2, "precision": "fp32", "clip": None, "buckets": True, "ranks": 2,
    }  # fmt: skip
    parts = {"encoder": "mlp(widths=(4,))", "latent": "continuous(dim=2)", "decoder": "mlp(widths=(4,))"}
    model = rk.build(data=rk.Signature({"x": rk.Field(kind="vector", shape=(3,))}), **parts)
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"main": stage}}))
    text = (model.save(tmp_path / "model") / CARD).read_text()
    assert (
        "9 steps; batch 8, lr 0.5, seed 0, optimizer sgd, optimizers (critic adam(lr=0.1)), schedule constant, "
        "accumulate 2, buckets True, ranks 2\n"
    ) in text


def test_edited_cards_are_preserved(run, tmp_path):
    _, done, _ = run
    folder = done.model.save(tmp_path / "model")
    generated = (folder / CARD).read_text()
    edited = generated.replace("---\n\n#", "license: mit\n---\n\n#", 1)
    assert edited != generated
    for text in (edited, "# My model\n", generated + "More of my own.\n"):
        (folder / CARD).write_text(text)
        done.model.save(folder)
        assert (folder / CARD).read_text() == text
    (folder / CARD).unlink()
    done.model.save(folder)
    assert (folder / CARD).read_text() == generated
    assert ModelCard(edited).data.license == "mit"
    # A fresh clone of an empty repository may be saved into.
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    (tmp_path / "clone" / CARD).write_text("# Mine\n")
    done.model.save(tmp_path / "clone")
    assert (tmp_path / "clone" / CARD).read_text() == "# Mine\n"
    assert rk.load(tmp_path / "clone").latent().out_dim == 4


def test_card_names_plugin_versions(tmp_path):
    with using_registry(Registry(installed=False)) as own:
        own.register(Plugin(), name="acme-latents", version="0.3.1")
        data = rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 3))})
        factors = {
            "what": rk.factor("gru(width=8)", "plain(dim=3)", pool=True),
            "how": rk.factor("gru(width=8)", "vq(codes=6, dim=4)"),
        }
        model = rk.build(
            data=data, factors=factors, decoder="gru(width=8)", weights={"how.commit": 0.5},
            objective="autoregressive",
        )  # fmt: skip
        text = (model.save(tmp_path / "model") / CARD).read_text()
    assert "pip install reprkit\n" in text
    assert "pip install acme-latents==0.3.1\n" in text
    assert (
        r"| latent of what | `acme-latents/plain(dim=3)` | As it is \| no more (arXiv 0000.00000) |" in text
    )
    assert "Weights of losses: how.commit 0.5." in text
    assert 'batch = {"x": x, "x_mask": x_mask}' in text
    assert "(b 7)" in text
    assert "## Figures" not in text
    assert yaml.safe_load(text.split("---")[1])["pipeline_tag"] == "feature-extraction"


def test_report_is_written_despite_a_damaged_model(run, tmp_path):
    _, done, _ = run
    folder = done.model.save(tmp_path / "run" / "model")
    (folder / "reprkit.json").write_text("{")
    with pytest.warns(
        UserWarning, match="the card of .* could not be renewed: .*reprkit.json cannot be read"
    ):
        page = rk.report(tmp_path / "run", done.results)
    assert page.is_file()
