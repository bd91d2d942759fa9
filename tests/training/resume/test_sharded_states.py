"""Sharded states: what they hold, that they resume as gathered ones do, and what follows from damage and failures."""

import json
import shutil
import threading
import warnings

import pytest
import torch
from loop_helpers import assert_same, equal, weights
from safetensors.torch import load_file

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_record
from reprkit.training.resume import background, part_files, state

SETTINGS = {"batch": 32, "lr": 1e-2, "save_every": 1e-9, "keep": 3, "progress": False, "ema": 0.9}


def train(digits, out, steps=6, latent="vq(codes=16, dim=2)", **options):
    model = rk.build(data=digits, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))")
    for step in rk.loop(model, digits, steps=steps, out=out, **SETTINGS | options):
        step.backward(step.model(step.batch).total)
        step.update()
    return weights(model)


@pytest.fixture(scope="module")
def original(digits, tmp_path_factory):
    """A run with the same states in both forms."""
    folder = tmp_path_factory.mktemp("states")
    saved = train(digits, folder / "gathered"), train(digits, folder / "sharded", saving="sharded")
    assert equal(*saved)
    return folder


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original / "sharded", tmp_path / "run")


def newest(run):
    return state.list_saved(run / "state")[0]


def test_a_sharded_state_holds_what_a_gathered_one_does(original):
    (about, gathered), (also, sharded) = (
        state.load_newest(original / name / "state") for name in ("gathered", "sharded")
    )
    assert about["step"] == also["step"] == 6
    assert_same(gathered, sharded)


def test_parameters_moments_and_averages_are_in_the_part_under_their_names(original):
    place = newest(original / "sharded")
    part = load_file(place / "part-00000.safetensors")
    _, saved = state.read_state(newest(original / "gathered"))
    names = saved["optimisers"]["main"]["names"]
    moments = saved["optimisers"]["main"]["state"]
    for name in ("factors.code.encoder.layers.0.weight", "factors.code.adapter.bias"):
        assert torch.equal(part[f"model/{name}"], saved["model"]["tensors"][name])
        assert torch.equal(part[f"optimizers/main/{name}/exp_avg"], moments[names.index(name)]["exp_avg"])
    assert sum(key.startswith("average/") for key in part) == len(saved["average"]["average"])
    assert not any("usage" in key or "/step" in key for key in part), "buffers and counters are rank 0's"


@pytest.mark.parametrize("first", ["gathered", "sharded"])
def test_each_form_is_resumed_from_the_other(digits, original, tmp_path, first):
    second = "sharded" if first == "gathered" else "gathered"
    train(digits, tmp_path, steps=4, saving=first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(digits, tmp_path, resume=True, saving=second)
    ((about, saved), (_, whole)) = (
        state.load_newest(each / "state") for each in (tmp_path, original / "gathered")
    )
    assert ("parts" in about) == (second == "sharded")
    assert_same(saved, whole)


def test_the_format_number_tells_sharded_states_from_gathered_ones(original):
    assert json.loads((newest(original / "sharded") / "state.json").read_text())["format"] == 2
    assert json.loads((newest(original / "gathered") / "state.json").read_text())["format"] == 1


DAMAGES = {
    "a flipped bit": (
        lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:],
        "digest of part-00000.* not match",
    ),
    "cut short": (lambda raw: raw[:-8], "has [0-9]* bytes and was written with"),
    "empty": (lambda raw: b"", "has 0 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_a_warning_and_the_previous_state_is_resumed(digits, run, damage):
    change, message = DAMAGES[damage]
    path = newest(run) / "part-00000.safetensors"
    path.write_bytes(change(path.read_bytes()))
    before = state.list_saved(run / "state")[1].name
    with pytest.warns(
        UserWarning, match=f"resuming from .*{before}, since a newer state is damaged .*{message}"
    ):
        train(digits, run, resume=True)


def test_a_missing_part_is_damage(run):
    (newest(run) / "part-00000.safetensors").unlink()
    with pytest.warns(UserWarning, match="part-00000.safetensors cannot be read: No such file"):
        state.load_newest(run / "state")


def forged(place, change):
    """Change the header of the part, and write digests that fit."""
    path = place / "part-00000.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    metadata = json.loads((place / "state.json").read_text())
    del metadata["sha256"]
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    metadata["parts"][0].update(bytes=path.stat().st_size, sha256=digest)
    state.write_metadata(place, metadata)


def in_header(what, change):
    def changed(header):
        places = json.loads(header["__metadata__"][what])
        change(places)
        header["__metadata__"][what] = json.dumps(places)

    return changed


KEY = "model/factors.code.adapter.weight"
FORGERIES = {
    "a shape beyond the file": in_header("shapes", lambda places: places.update({KEY: [2**40, 16]})),
    "an offset outside": in_header("offsets", lambda places: places.update({KEY: [5, 0]})),
    "a negative offset": in_header("offsets", lambda places: places.update({KEY: [-1, 0]})),
    "no offset": in_header("offsets", lambda places: places.pop(KEY)),
    "texts": in_header("offsets", lambda places: places.update({KEY: ["0", "0"]})),
    "another shape": in_header("shapes", lambda places: places.update({KEY: [32]})),
    "no places": lambda header: header["__metadata__"].pop("offsets"),
    "no header": lambda header: header.pop("__metadata__"),
    "another name": lambda header: header.update(other=header.pop(KEY)),
    "another type": lambda header: header[KEY].update(
        dtype="F8_E4M3", shape=[4 * header[KEY]["shape"][0], header[KEY]["shape"][1]]
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_part_is_one_warning(digits, run, forgery):
    forged(newest(run), FORGERIES[forgery])
    with pytest.warns(UserWarning, match="resuming from .*, since a newer state is damaged"):
        train(digits, run, resume=True)


@pytest.mark.parametrize("name", ["../../run.json", "part-00001.safetensors", "/etc/passwd"])
def test_a_part_of_another_name_is_not_opened(run, name):
    metadata = json.loads((newest(run) / "state.json").read_text())
    del metadata["sha256"]
    metadata["parts"][0]["name"] = name
    state.write_metadata(newest(run), metadata)
    with pytest.warns(UserWarning, match="its parts have other names"):
        state.load_newest(run / "state")


# ------------------------------------------------------------------ in the background


@pytest.fixture
def held(monkeypatch):
    """Holds every write of a part until the event is set."""
    event, write = threading.Event(), part_files.write_part
    names = []

    def slow(path, *given):
        names.append(path.parent.name)
        assert event.wait(20)
        return write(path, *given)

    monkeypatch.setattr(part_files, "write_part", slow)
    event.names = names
    return event


def test_training_goes_on_while_a_state_is_written(digits, tmp_path, held):
    """And no second state is started meanwhile; the older one stays until the newer is complete."""
    train(digits, tmp_path, steps=1, saving="gathered", keep=1)
    seen, model = (
        [],
        rk.build(
            data=digits,
            encoder="mlp(widths=(16,))",
            latent="vq(codes=16, dim=2)",
            decoder="mlp(widths=(16,))",
        ),
    )
    given = SETTINGS | {"steps": 8, "out": tmp_path, "resume": True, "saving": "sharded", "keep": 1}
    for step in rk.loop(model, digits, **given):
        step.backward(step.model(step.batch).total)
        step.update()
        seen.append(([path.name for path in state.list_saved(tmp_path / "state")], len(held.names)))
        if step.index == 6:
            held.set()
    assert [names for names, _ in seen[:6]] == [["step-000000001"]] * 6
    assert [count for _, count in seen[2:6]] == [1] * 4
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000000008"]
    saved = read_record(tmp_path)["stages"]["main"]
    assert saved["saved"] == 8
    assert saved["waiting"]["saves"] > 0


def test_a_state_is_that_of_its_step_although_it_is_written_later(digits, original, tmp_path, held):
    """The buffer is a copy: the steps that follow do not change it."""
    model = rk.build(
        data=digits, encoder="mlp(widths=(16,))", latent="vq(codes=16, dim=2)", decoder="mlp(widths=(16,))"
    )
    taken = {}
    for step in rk.loop(model, digits, **SETTINGS | {"steps": 4, "out": tmp_path, "saving": "sharded"}):
        step.backward(step.model(step.batch).total)
        step.update()
        taken[step.index + 1] = model.factors["code"].encoder.layers[0].weight.detach().clone()
        if step.index == 2:
            held.set()
    for place in state.list_saved(tmp_path / "state"):
        metadata, saved = state.read_state(place)
        weight = saved["model"]["tensors"]["factors.code.encoder.layers.0.weight"]
        assert torch.equal(weight, taken[metadata["step"]])
    assert len(state.list_saved(tmp_path / "state")) > 1
    assert "step-000000001" in [place.name for place in state.list_saved(tmp_path / "state")]


def failing(error, monkeypatch, times=1):
    write, calls = part_files.write_part, []

    def broken(path, *given):
        calls.append(path)
        if len(calls) <= times:
            raise error
        return write(path, *given)

    monkeypatch.setattr(part_files, "write_part", broken)
    return calls


def test_a_full_disk_is_a_warning_and_the_next_state_is_saved(digits, tmp_path, monkeypatch):
    failing(OSError(28, "No space left on device"), monkeypatch)
    with pytest.warns(
        UserWarning, match="cannot save the state at step 1 .*no space left on the disk; older states are"
    ):
        train(digits, tmp_path, saving="sharded")
    assert newest(tmp_path).name == "step-000000006"
    assert not list((tmp_path / "state").glob(".*")), "nothing half-written is left"


def test_a_full_disk_at_the_end_is_an_error(digits, tmp_path, monkeypatch):
    failing(OSError(28, "No space left on device"), monkeypatch, times=99)
    with pytest.raises(TrainingError, match="cannot save the state at step 6"):
        train(digits, tmp_path, saving="sharded", save_every=None)


def test_another_error_of_the_thread_ends_the_run_at_the_next_step(digits, tmp_path, monkeypatch):
    train(digits, tmp_path, steps=1, saving="sharded")
    failing(ValueError("a fault"), monkeypatch, times=99)
    with pytest.raises(
        TrainingError,
        match=r"(?s)the state at step 2 was not saved to .*: ValueError: a fault\n  older states are untouched, and resume=True",
    ):
        train(digits, tmp_path, steps=500, saving="sharded", resume=True)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000000001"]
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert record["stages"]["main"]["step"] < 100
    monkeypatch.undo()
    train(digits, tmp_path, saving="sharded", resume=True)


def test_an_error_in_the_body_waits_for_the_state_in_flight(digits, tmp_path, held):
    threading.Timer(0.5, held.set).start()
    model = rk.build(
        data=digits, encoder="mlp(widths=(16,))", latent="vq(codes=16, dim=2)", decoder="mlp(widths=(16,))"
    )

    def fails():
        for step in rk.loop(model, digits, **SETTINGS | {"steps": 9, "out": tmp_path, "saving": "sharded"}):
            step.backward(step.model(step.batch).total)
            step.update()
            if step.index == 2:
                raise RuntimeError("the body's")

    with pytest.raises(RuntimeError, match="the body's"):
        fails()
    assert [path.name for path in state.list_saved(tmp_path / "state")] == ["step-000000001"]


def test_what_a_killed_process_left_is_removed_by_the_next(digits, run):
    left = run / "state" / ".step-000000009.abcd.new"
    left.mkdir()
    (left / "part-00003.safetensors").write_bytes(b"half")
    train(digits, run, steps=7, resume=True, saving="sharded")
    assert not left.exists()


def test_a_state_of_the_same_step_is_replaced(digits, run):
    metadata, saved = state.load_newest(run / "state")
    model = rk.build(
        data=digits, encoder="mlp(widths=(16,))", latent="vq(codes=16, dim=2)", decoder="mlp(widths=(16,))"
    )
    saver = background.BackgroundSaver(run / "state", 3, torch.device("cpu"), 0, 1)
    metadata = {key: value for key, value in metadata.items() if key not in ("parts", "format", "step")}
    saver.start(6, {**metadata, "seconds": 9.0}, saved, model)
    assert saver.finish().step == 6
    saver.close()
    again, found = state.read_state(newest(run))
    assert again["seconds"] == 9.0
    assert_same(found, saved)
    assert not list((run / "state").glob(".*"))


def test_weights_that_are_not_finite_are_not_saved(digits, tmp_path):
    train(digits, tmp_path, steps=2, saving="sharded")

    def spoiled():
        model = rk.build(
            data=digits,
            encoder="mlp(widths=(16,))",
            latent="vq(codes=16, dim=2)",
            decoder="mlp(widths=(16,))",
        )
        given = SETTINGS | {"steps": 9, "out": tmp_path, "saving": "sharded", "resume": True}
        for step in rk.loop(model, digits, **given):
            step.update()
            with torch.no_grad():
                model.factors["code"].encoder.layers[0].bias[3] = float("-inf")

    with pytest.raises(
        TrainingError, match=r"weights are no longer finite: factors.code.encoder.layers.0.bias\n"
    ):
        spoiled()
    assert newest(tmp_path).name == "step-000000002"
    assert read_record(tmp_path)["status"] == "failed"
