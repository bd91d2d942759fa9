"""Two processes train as one does on the joint batch, stop together, and resume each other's states."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loop_helpers import assert_states_close

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_metrics, read_record
from reprkit.testing.pool import together
from reprkit.training.resume import state

pytestmark = pytest.mark.ranks
LATENTS = ["gaussian(dim=4)", "vq(codes=16, dim=2, codebooks=2)"]


def train(rank, latent, out, steps=8, action=None, **options):
    """Train on this process; returns the weights, and what ended it."""
    torch.set_num_threads(1)
    data = rk.dataset("digits").split()[0]
    model = rk.build(data=data, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))")
    given = {
        "batch": 32,
        "lr": 1e-3,
        "optimizer": "sgd(momentum=0.9)",
        "clip": 10.0,
        "out": out,
        "log_every": 1,
        "device": "cpu",
    }
    ended, drawn = "end", None
    try:
        for step in rk.loop(model, data, **{**given, "steps": steps, **options}):
            losses = step.model(step.batch)
            total = losses.total
            if step.index == 3 and rank == 1 and action == "nan":
                total = total * float("nan")
            step.backward(total)
            step.update()
            if step.index == 3 and rank == 1 and action == "term":
                os.kill(os.getpid(), signal.SIGTERM)
            if step.last:  # what torch would draw next; a draw of its own would be in the saved state
                with torch.random.fork_rng(devices=()):  # the saved random state stays that of the step
                    drawn = torch.rand(3, generator=torch.Generator().set_state(torch.get_rng_state()))
    except (TrainingError, SystemExit) as error:
        ended = f"{type(error).__name__}: {error}"
    usage = model.factors["code"].usage
    return model.state_dict(), ended, float(usage.value()), drawn


def losses_of(out):
    return [(line["step"], line["loss"], *line["terms"].values()) for line in read_metrics(out)]


@pytest.mark.parametrize("latent", LATENTS)
def test_two_processes_train_as_one_on_the_joined_batch(latent, tmp_path):
    alone, _, usage, drawn = train(0, latent, tmp_path / "one")
    first, second = together(2, train, latent, tmp_path / "two")
    assert_states_close(first[0], alone)
    assert_states_close(second[0], alone)
    assert first[2] == second[2] == pytest.approx(usage)
    assert torch.equal(first[3], second[3])
    assert torch.equal(first[3], drawn), "the random states of all are where one process's is"
    for one, two in zip(losses_of(tmp_path / "one"), losses_of(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-5, abs=1e-5)
    assert read_record(tmp_path / "two")["stages"]["main"]["ranks"] == 2


def test_pieces_on_two_processes_add_up(tmp_path):
    alone, *_ = train(0, "continuous(dim=3)", None)
    for weights, *_ in together(2, train, "continuous(dim=3)", None, 8, None):
        assert_states_close(weights, alone)
    for weights, *_ in together(2, in_pieces):
        assert_states_close(weights, alone)


def in_pieces(rank):
    return train(rank, "continuous(dim=3)", None, accumulate=4)


@pytest.mark.parametrize("latent", LATENTS)
def test_another_number_of_processes_resumes_exactly(latent, tmp_path):
    whole, *_ = train(0, latent, tmp_path / "whole", steps=8)
    train(0, latent, tmp_path / "out", steps=5)
    for weights, *_ in together(2, resumed, latent, tmp_path / "out"):
        assert_states_close(weights, whole)
    assert [line["step"] for line in read_metrics(tmp_path / "out")] == list(range(1, 9))


@pytest.mark.slow
def test_both_processes_refuse_a_folder_that_holds_a_run(tmp_path):
    train(0, LATENTS[0], tmp_path, steps=3)
    before = read_record(tmp_path)
    first, second = (ended for _, ended, *_ in together(2, train, LATENTS[0], tmp_path))
    assert "holds a run: gaussian(dim=4)" in first
    assert "process 0 cannot train into" in second
    assert read_record(tmp_path) == before
    for _, ended, *_ in together(2, overwriting, LATENTS[0], tmp_path):
        assert ended == "end"
    assert read_record(tmp_path)["stages"]["main"]["ranks"] == 2


def overwriting(rank, latent, out):
    return train(rank, latent, out, overwrite=True)


def resumed(rank, latent, out):
    return train(rank, latent, out, resume=True)


def apart(rank, out):
    return resumed(rank, LATENTS[0], out / str(rank))[1]


@pytest.mark.slow
def test_processes_that_find_different_states_are_refused(tmp_path):
    """As on two machines without a shared disk."""
    train(0, LATENTS[0], tmp_path / "0", steps=3)
    first, second = together(2, apart, tmp_path)
    assert first.startswith("TrainingError: this process finds the state of step 3 ")
    assert second.startswith("TrainingError: this process finds the state of step 0 ")


def test_a_signal_to_one_stops_all_after_the_same_step(tmp_path):
    first, second = together(2, train, LATENTS[0], tmp_path, 8, "term")
    assert first[1] == second[1] == "SystemExit: 143"
    assert_states_close(first[0], second[0], 0)
    (saved,) = state.list_saved(tmp_path / "state")
    step = json.loads((saved / "state.json").read_text())["step"]
    assert 4 <= step <= 5, "one step later than in one process"
    assert read_record(tmp_path)["status"] == "stopped"
    whole, *_ = train(0, LATENTS[0], tmp_path / "whole")
    for weights, *_ in together(2, resumed, LATENTS[0], tmp_path):
        assert_states_close(weights, whole)


def evaluated_by_one(rank):
    """Rank 0 alone evaluates while both train, as recipes do that print."""
    torch.set_num_threads(1)
    data, test = rk.dataset("digits").split()
    model = rk.build(data=data, encoder="mlp(widths=(16,))", latent=LATENTS[1], decoder="mlp(widths=(16,))")
    found = []
    for step in rk.loop(model, data, steps=3, batch=32, device="cpu", progress=False):
        step.backward(step.model(step.batch).total)
        if rank == 0:
            rk.evaluate(model, test, "reconstruction", "codebook", "knn", fit_on=data, progress=False)
        step.update()
        found.append(rk.evaluate(model, test, "reconstruction", progress=False)["reconstruction"]["error"])
    return found


def test_evaluation_exchanges_nothing_and_is_equal_on_all():
    first, second = together(2, evaluated_by_one)
    assert first == second
    assert len(set(first)) == 3


def spoiled(rank, out):
    return train(rank, LATENTS[0], out, action="nan", clip=None)


def test_a_non_finite_loss_on_one_rank_stops_all(tmp_path):
    first, second = together(2, spoiled, tmp_path)
    assert first[1].startswith("TrainingError: the gradient's norm is nan at step 3"), (
        "DDP has brought it there"
    )
    assert second[1].startswith("TrainingError: the loss is nan at step 3")
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert len(record["failure"]["indices"]) == 32, "of all processes"


@pytest.mark.slow
def test_torchrun_runs_the_same_recipe(tmp_path):
    recipe = Path(__file__).with_name("recipe.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, str(recipe), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "destroy_process_group" not in done.stderr
    record = read_record(tmp_path)
    assert (record["status"], record["stages"]["main"]["ranks"]) == ("finished", 2)
    assert rk.load(tmp_path).latent().in_dim == 8
    assert len(read_metrics(tmp_path)) == 60
