"""Folders written by an older reprkit: loading with equal outputs, resuming, inspecting and reporting.

The fixtures are never changed; ``tests/checkpoints/fixtures/make_old_folders.py`` wrote them at the commit that their folder is
named after.
"""

import json
import shutil
from pathlib import Path

import old_folders_made
import pytest
import torch
from safetensors.torch import load_file

import reprkit as rk
from reprkit.commands.main import main

OLD = Path(__file__).parent / "fixtures" / "a4c3b9a"
MODELS = sorted(each.name for each in (OLD / "models").iterdir())
RUNS = sorted(each.name for each in (OLD / "runs").iterdir())
PLUGINS = {"audio": "reprkit_audio", "vision": "reprkit_vision", "text": "reprkit_text"}
NEAR = {"atol": 1e-6, "rtol": 1e-5}  # processors differ in the order of summation
# A policy loss multiplies the difference of two equal rewards by log-probabilities: what is left is rounding of 150 nats.
ABSOLUTE = {"terms.policy": 1e-3}


def folder_of(name):
    """Return a model's fixture; skip the test if the plugin of its parts is not installed."""
    module = PLUGINS.get(name.partition("_")[0])
    if module is not None:
        pytest.importorskip(module)
    return OLD / "models" / name


def expected(folder):
    """Return the batch and the recorded outputs of the model."""
    found = load_file(folder / "expected.safetensors")
    batch = {name.removeprefix("batch."): v for name, v in found.items() if name.startswith("batch.")}
    return batch, {name: value for name, value in found.items() if not name.startswith("batch.")}


def with_present_weights(model, wanted):
    """Return the recorded outputs with the totals of today.

    In turns other than "main" the weights of a sum are 1.  Objective vocoder sums over the frames of an example.
    """
    wanted = dict(wanted)
    if model.objective.qualified == "reprkit-audio/vocoder":
        frames = wanted["decoded"].shape[1]
        for name in wanted:
            if name.startswith("losses."):
                wanted[name] = frames * wanted[name]
    for turn in set(model.objective.turns) - {"main"}:
        pairs = zip(model.objective.weights, model.objective.members, strict=True)
        weights = {weight for weight, member in pairs if turn in member.turns}
        assert len(weights) == 1
        (weight,) = weights
        for kind in {name.partition(".")[0] for name in wanted if f".{turn}." in name}:
            prefix = f"{kind}.{turn}."
            own = [
                n
                for n in wanted
                if n.startswith(f"{prefix}terms.") and "." not in n.removeprefix(f"{prefix}terms.")
            ]
            more = sum((1 - weight) * wanted[name] for name in own)
            wanted[f"{prefix}total"] = wanted[f"{prefix}total"] + more
    return wanted


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        near = NEAR | {"atol": ABSOLUTE.get(name.partition(".")[2].partition(".")[2], NEAR["atol"])}
        torch.testing.assert_close(found[name], value, **near, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture
def command(capsys):
    """Run a command, which must succeed, and return its output."""

    def call(*args):
        code = None
        try:
            main([str(each) for each in args])
        except SystemExit as left:
            code = left.code
        out, err = capsys.readouterr()
        assert not code, err
        return out

    return call


@pytest.fixture
def copy(tmp_path):
    """Copy a run's folder so that it can be changed."""

    def make(name):
        return Path(shutil.copytree(OLD / "runs" / name / "run", tmp_path / "runs" / name))

    return make


# ------------------------------------------------------------------ models


def test_fixtures_cover_the_core_and_every_plugin():
    assert {name.partition("_")[0] for name in MODELS} >= set(PLUGINS)
    assert RUNS == ["finished", "stages", "vq"]
    sizes = {each.parent: 0 for each in OLD.glob("*/*/*/")}
    for folder in sizes:
        sizes[folder] = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    assert max(sizes.values()) < 300_000


@pytest.mark.parametrize("name", MODELS)
def test_loaded_model_has_equal_outputs(name):
    folder = folder_of(name)
    batch, wanted = expected(folder)
    given = json.loads((folder / "given.json").read_text())
    model = rk.load(folder / "model")
    found = old_folders_made.used(model, batch, given["teacher"])
    assert_equal(found, with_present_weights(model, wanted))


@pytest.mark.parametrize("name", MODELS)
def test_model_can_be_saved_and_loaded_again(name, tmp_path):
    folder = folder_of(name)
    batch, wanted = expected(folder)
    again = rk.load(folder / "model").save(tmp_path / "model")
    card = (again / "README.md").read_text()
    assert "reprkit" in card
    latents = json.loads((folder / "model" / "reprkit.json").read_text())["factors"].values()
    assert all(each["latent"]["id"].partition("/")[2] in card for each in latents)
    old, new = (load_file(each / "model.safetensors") for each in (folder / "model", again))
    assert old.keys() == new.keys()
    assert all(torch.equal(old[each], new[each]) for each in old)
    given = json.loads((folder / "given.json").read_text())
    model = rk.load(again)
    assert_equal(old_folders_made.used(model, batch, given["teacher"]), with_present_weights(model, wanted))


@pytest.mark.parametrize("name", MODELS)
def test_old_references_build_the_same_model(name):
    folder = folder_of(name)
    build = json.loads((folder / "given.json").read_text())["build"]
    if build is None:
        pytest.skip("it was built of instances")
    old = rk.load(folder / "model")
    new = old_folders_made.built(build, old.signature)
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (old, new)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", MODELS)
def test_model_can_be_inspected(name, command):
    folder = OLD / "models" / name / "model"
    recorded = json.loads(command("inspect", folder, "--json"))
    weights = load_file(folder / "model.safetensors")
    sizes = {name: value.numel() for name, value in weights.items() if value.is_floating_point()}
    assert recorded["numbers"] == sum(sizes.values())
    assert command("inspect", folder)


# ------------------------------------------------------------------ runs


@pytest.mark.parametrize("name", ["vq", "stages"])
def test_resumed_run_gives_the_same_result(name, copy, command):
    out, folder = copy(name), OLD / "runs" / name
    recorded = json.loads((folder / "expected.json").read_text())
    (row,) = json.loads(command("runs", out.parent, "--json"))
    assert (row["name"], row["step"], row["saved"]) == (name, recorded["stopped"], recorded["stopped"])
    text = (folder / "recipe.json").read_text().replace("anneal=30,", "anneal=30, entropy=0.0,")
    # The critic's weight in the sum multiplied its own turn, too.
    recipe = json.loads(text.replace('"rest.kl": 0.5', '"rest.kl": 0.5, "critic": 0.1'))
    model, teacher = old_folders_made.trained(recipe, out, resume=True)
    assert_equal(old_folders_made.final(model, teacher), load_file(folder / "expected.safetensors"))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (len(lines), lines[-1]["step"]) == (recorded["lines"], recorded["step"])
    assert lines[-1]["loss"] == pytest.approx(recorded["loss"], rel=1e-5)
    (row,) = json.loads(command("runs", out.parent, "--json"))
    assert (row["state"], row["step"]) == ("finished", recorded["step"])
    assert row["best"]["step"] == recorded["best"]["step"]
    assert row["best"]["value"] == pytest.approx(recorded["best"]["value"], rel=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_run_can_be_listed_inspected_and_reported(name, copy, command):
    out = copy(name)
    assert name in command("runs", out.parent)
    inner = {"finished": out, "vq": out / "best", "stages": out / "best" / "factors"}[name]
    recorded = json.loads(command("inspect", inner, "--json"))
    assert recorded["run"]["metrics"]
    assert command("inspect", inner)
    (out / "report.html").unlink(missing_ok=True)
    assert command("report", out).strip() == str(out / "report.html")
    assert "total loss" in (out / "report.html").read_text()
    assert rk.load(inner).factors


def test_finished_run_has_results_figures_and_model(copy, command):
    out = copy("finished")
    results = json.loads((out / "results.json").read_text())
    recorded = json.loads(command("inspect", out, "--json"))["run"]
    assert recorded["metrics"]["knn.accuracy"] == results["knn"]["accuracy"]
    command("report", out)
    page = (out / "report.html").read_text()
    wanted_images = json.loads((OLD / "runs" / "finished" / "expected.json").read_text())["images"]
    assert page.count("data:image/png") == wanted_images > 0
    assert "An old run" in page
    batch, wanted = expected(OLD / "runs" / "finished")
    assert_equal(old_folders_made.used(rk.load(out), batch), wanted)
    probed = json.loads(command("probe", out, "--trust-data", "--labels", 60, "--json"))
    assert {"linear-probe, model", "knn, model"} <= probed["results"].keys()


def test_finished_run_is_not_trained_again(copy):
    out = copy("finished")
    model, train = rk.load(out), rk.dataset("digits").split(seed=4, valid=True)[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.random.fork_rng():
        taken = list(rk.loop(model, train, steps=60, batch=64, lr=5e-3, out=out, resume=True, progress=False))
    assert not taken
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
