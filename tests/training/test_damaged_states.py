"""A damaged state is found by its digest or its structure, said, and an older one is resumed."""

import json
import random
import shutil

import pytest
import torch

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.training.resume import state
from reprkit.utils import atomic_files


def train(digits, out, steps=4, **options):
    model = rk.build(
        data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))"
    )
    settings = {"batch": 8, "out": out, "keep": 3, "save_every": 1e-9, "progress": False}
    done = 0
    for step in rk.loop(model, digits, steps=steps, **settings | options):
        step.backward(step.model(step.batch).total)
        step.update()
        done += 1
    return done


@pytest.fixture(scope="module")
def original(digits, tmp_path_factory):
    """A run of four steps with the states of steps 2, 3 and 4."""
    folder = tmp_path_factory.mktemp("states") / "run"
    assert train(digits, folder) == 4
    return folder


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def newest(run):
    return state.list_saved(run / "state")[0]


def rewrite(place, change, *, digest=True):
    """Change the metadata; the digest is that of the changed state, as an attacker's, or none, as of earlier versions."""
    path = place / "state.json"
    metadata = json.loads(path.read_text())
    metadata.pop("sha256")
    change(metadata)
    if digest:
        metadata["sha256"] = state._digest(metadata, place / "tensors.pt")
    path.write_text(json.dumps(metadata))


def test_every_flipped_bit_is_found(run):
    generator = random.Random(0)
    for name in ("tensors.pt", "state.json"):
        path = newest(run) / name
        good = path.read_bytes()
        for _ in range(20):
            bad = bytearray(good)
            bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
            path.write_bytes(bad)
            with pytest.warns(UserWarning, match="resuming from .*step-000000003, since a newer state is"):
                metadata, _ = state.load_newest(run / "state")
            assert metadata["step"] == 3
        path.write_bytes(good)
    assert state.load_newest(run / "state")[0]["step"] == 4


def test_flipped_bit_resumes_from_the_state_before_with_a_warning(digits, run):
    path = newest(run) / "tensors.pt"
    bad = bytearray(path.read_bytes())
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bad)
    with pytest.warns(UserWarning, match="step-000000004: its digest does not match: it was changed after"):
        assert train(digits, run, steps=5, resume=True) == 2


def drop(*keys):
    def change(saved):
        for key in keys[:-1]:
            saved = saved[key]
        del saved[keys[-1]]

    return change


STRUCTURES = {
    "list": lambda saved: [saved],
    "no model": drop("model"),
    "model": lambda saved: {**saved, "model": 3},
    "no tensors": drop("model", "tensors"),
    "no scalars": drop("model", "scalars"),
    "no random state": drop("random", "python"),
    "random state": lambda saved: {**saved, "random": {**saved["random"], "torch": torch.zeros(3)}},
    "optimizer": lambda saved: {**saved, "optimisers": {"main": [1]}},
    "tensors": lambda saved: {
        **saved,
        "model": {**saved["model"], "tensors": dict.fromkeys(saved["model"]["tensors"], 1)},
    },
}


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_that_is_not_a_state_is_no_traceback(digits, run, structure, digest):
    path = newest(run) / "tensors.pt"
    saved = torch.load(path, weights_only=True)
    torch.save(STRUCTURES[structure](saved) or saved, path)
    rewrite(newest(run), lambda metadata: None, digest=digest)
    with pytest.warns(UserWarning, match=r"resuming from .*step-000000003, .*step-000000004: "):
        assert train(digits, run, steps=4, resume=True) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata.update(step=400),
        lambda metadata: metadata.update(step="4"),
        lambda metadata: metadata.update(options=[1]),
        lambda metadata: metadata.update(metrics_size="long"),
        lambda metadata: metadata.update(format=None),
        lambda metadata: metadata.update(watch={"ranks": 3}),
        lambda metadata: metadata.pop("seconds"),
    ],
)
def test_metadata_that_is_not_a_states_is_no_traceback(digits, run, change):
    rewrite(newest(run), change)
    with pytest.warns(UserWarning, match=r"resuming from .*step-000000003, .*step-000000004: "):
        assert train(digits, run, steps=4, resume=True) == 1


def test_all_damaged_is_one_error(digits, run):
    for place in state.list_saved(run / "state"):
        (place / "state.json").write_text("[" * 100_000)
    with pytest.raises(TrainingError, match="no saved state can be read: .*\n  start again: resume=False"):
        train(digits, run, resume=True)


def test_state_without_a_digest_still_resumes(digits, run, recwarn):
    """As earlier versions wrote it."""
    rewrite(newest(run), lambda metadata: None, digest=False)
    assert train(digits, run, steps=5, resume=True) == 1
    assert not [each for each in recwarn if "damaged" in str(each.message)]


def test_kill_between_two_renames_leaves_a_state_that_is_found(run, monkeypatch):
    """Where folders cannot be exchanged, as on NFS, saving the same step again takes two renames."""
    monkeypatch.setattr(atomic_files, "_exchange", lambda *_: False)
    rename, renamed = type(run).rename, []

    def killed(self, target):
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        return rename(self, target)

    metadata, saved = state.load_newest(run / "state")
    monkeypatch.setattr(type(run), "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        state.save(run / "state", 4, {**metadata, "seconds": 9.0}, saved, keep=3)
    monkeypatch.undo()
    assert not (run / "state" / "step-000000004").exists()
    found, _ = state.load_newest(run / "state")
    assert (found["step"], found["seconds"]) == (4, metadata["seconds"])


def test_a_run_whose_states_are_gone_is_not_replaced_by_a_resume(digits, run):
    shutil.rmtree(run / "state")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(
        TrainingError, match=r"has no state to resume from, although its run.json says that the one of step 4"
    ):
        train(digits, run, resume=True)
    assert (run / "metrics.jsonl").read_bytes() == before
    assert train(digits, run, overwrite=True) == 4
