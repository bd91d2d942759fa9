"""Sharded states of several processes: each writes its part, and any number of processes, under either strategy, resumes them."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from loop_helpers import assert_same, assert_states_close, leaves
from safetensors.torch import load_file

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.testing.pool import together
from reprkit.testing.processes import free_port, process_group
from reprkit.training.resume import part_files, state

pytestmark = pytest.mark.ranks
PARTS = {"encoder": "mlp(widths=(24, 17))", "decoder": "mlp(widths=(17,))"}
SETTINGS = {
    "batch": 36,
    "lr": 1e-3,
    "optimizer": "adamw(eps=1e-2)",
    "ema": 0.9,
    "keep": 3,
    "device": "cpu",
    "progress": False,
    "log_every": 1,
}


def built(latent="vq(codes=16, dim=2)"):
    torch.set_num_threads(1)
    data = rk.dataset("digits").split()[0]
    return data, rk.build(data=data, latent=latent, **PARTS)


def train(rank, out, steps, latent="vq(codes=16, dim=2)", **options):
    """Train on this process; returns the weights, and what ended it."""
    data, model = built(latent)
    ended = "end"
    try:
        for step in rk.loop(model, data, out=out, steps=steps, **SETTINGS | options):
            step.backward(step.model(step.batch).total)
            step.update()
    except (TrainingError, SystemExit) as error:
        ended = f"{type(error).__name__}: {error}"
    return {name: value.clone() for name, value in model.state_dict().items()}, ended


def with_options(rank, out, steps, options):
    return train(rank, out, steps, **options)


def trained(ranks, out, steps, **options):
    """Train in that many processes; all must end well with equal weights, which are returned."""
    if ranks == 1:
        weights, ended = train(0, out, steps, **options)
        assert ended == "end"
        return weights
    results = together(ranks, with_options, out, steps, options, timeout=250)
    for weights, ended in results:
        assert ended == "end"
        assert_states_close(weights, results[0][0], 0)
    return results[0][0]


def loaded(out):
    return state.load_newest(out / "state")[1]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_parts_hold_what_a_gathered_state_does(strategy, tmp_path):
    for saving in ("gathered", "sharded"):
        trained(2, tmp_path / saving, 3, saving=saving, strategy=strategy)
    assert_same(loaded(tmp_path / "sharded"), loaded(tmp_path / "gathered"))
    (place,) = state.list_saved(tmp_path / "sharded" / "state")
    parts = [load_file(place / part_files.part_name(rank)) for rank in range(2)]
    sizes = [sum(value.numel() for value in part.values()) for part in parts]
    whole = sum(
        value.numel() for _, value in leaves(loaded(tmp_path / "gathered")) if isinstance(value, torch.Tensor)
    )
    assert max(sizes) < 1.2 * min(sizes), "the parts are of similar size"
    assert sum(sizes) <= whole, "nothing is written twice"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_sharded_run_that_resumes_is_the_uninterrupted_one(strategy, tmp_path):
    given = {"saving": "sharded", "strategy": strategy}
    whole = trained(2, tmp_path / "whole", 6, **given)
    trained(2, tmp_path / "halves", 3, **given)
    assert_states_close(trained(2, tmp_path / "halves", 6, resume=True, **given), whole, 0)
    assert_same(loaded(tmp_path / "halves"), loaded(tmp_path / "whole"))


CHANGES = [
    ((2, "fsdp", "sharded"), (1, "ddp", "sharded")),
    ((2, "fsdp", "sharded"), (3, "fsdp", "sharded")),
    ((3, "fsdp", "sharded"), (2, "ddp", "gathered")),
    ((2, "ddp", "sharded"), (2, "fsdp", "sharded")),
    ((1, "ddp", "sharded"), (3, "fsdp", "gathered")),
    ((2, "fsdp", "gathered"), (3, "ddp", "sharded")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_other_numbers_of_processes_and_strategies_resume(before, after, tmp_path):
    """What they load is what was saved, to the bit; what they train then differs by rounding."""
    whole = trained(1, tmp_path / "whole", 6)
    for steps, (ranks, strategy, saving) in ((3, before), (6, after)):
        options = {"strategy": strategy, "saving": saving, "resume": steps > 3}
        if steps > 3:
            shutil.copytree(tmp_path / "run", tmp_path / "first")
        weights = trained(ranks, tmp_path / "run", steps, **options)
    assert_states_close(weights, whole, 1e-5)
    # Saved again at the step at which it was resumed: nothing but the form may differ.
    ranks, strategy, saving = after
    options = {"strategy": strategy, "saving": saving}
    if ranks > 1:
        together(ranks, resumed_and_saved, tmp_path / "first", tmp_path / "again", options)
        again = state.load_newest(tmp_path / "again")[1]
        assert_same(again["model"]["tensors"], loaded(tmp_path / "first")["model"]["tensors"])
        assert_same(again["average"], loaded(tmp_path / "first")["average"])
        assert_same(*(by_name(each["optimisers"]["main"]) for each in (again, loaded(tmp_path / "first"))))


def by_name(saved):
    return {saved["names"][index]: entries for index, entries in saved["state"].items()}


def resumed_and_saved(rank, run, out, options):
    """Resume a copy of a run, and save the state again before the first step."""
    from reprkit.training.resume.background import BackgroundSaver

    data, model = built()
    for step in rk.loop(model, data, out=run, steps=6, resume=True, **SETTINGS | options):
        train_state = step._train_state
        engine = train_state.engine
        saver = BackgroundSaver(out, 1, engine.device, engine.rank, engine.ranks)
        metadata = {"seconds": 0.0, "options": {"data": {}}}
        saver.start(3, metadata, train_state.capture(whole=False), model)
        saver.finish()
        saver.close()
        break
    return "saved"


def damaged_on_one(rank, out, options):
    """Rank 1's share of the digests is wrong: both take the state before."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ended = train(rank, out, 5, resume=True, **options)[1]
    return ended, [str(each.message) for each in caught if "resuming from" in str(each.message)]


def test_both_processes_leave_a_state_of_which_one_finds_a_part_damaged(tmp_path):
    options = {"saving": "sharded", "strategy": "fsdp"}
    trained(2, tmp_path, 4, save_every=1e-9, **options)
    newest, before, *_ = state.list_saved(tmp_path / "state")
    path = newest / part_files.part_name(1)
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 4
    path.write_bytes(raw)
    first, second = together(2, damaged_on_one, tmp_path, options)
    assert first[0] == second[0] == "end"
    assert "another process finds it damaged" in first[1][0]
    assert "the digest of part-00001.safetensors does not match" in second[1][0]
    assert all(before.name in told[0] for _, told in (first, second))


def failing_on_one(rank, out, error):
    write = part_files.write_part

    def broken(path, *given):
        if rank == 1:
            raise error
        return write(path, *given)

    part_files.write_part = broken
    try:
        return train(rank, out, 60, saving="sharded", strategy="fsdp", save_every=1e-9, resume=True)[1]
    finally:
        part_files.write_part = write


def test_a_failure_of_one_thread_ends_all_ranks_at_the_same_step(tmp_path):
    trained(2, tmp_path, 2, saving="sharded", strategy="fsdp")
    first, second = together(2, failing_on_one, tmp_path, ValueError("a fault"))
    assert first == second
    assert first.startswith("TrainingError: the state at step ")
    assert "ValueError: a fault\n  older states are untouched" in first
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000000002"]


def counting(rank, out):
    """The steps at which a state is saved, by a clock that advances a second a step."""
    from reprkit.training import saving
    from reprkit.training.resume.background import BackgroundSaver

    start, vote, steps, now = BackgroundSaver.start, saving.Saving.vote, [], itertools.count()

    def counted(self, step, *given):
        steps.append(step)
        return start(self, step, *given)

    def written_vote(self):
        """The vote of a step, when nothing is in flight."""
        self.settle()
        clock.seconds = next(now)
        return vote(self)

    clock = SimpleNamespace(seconds=0)
    clock.monotonic, clock.perf_counter = lambda: clock.seconds, time.perf_counter
    BackgroundSaver.start, saving.Saving.vote, saving.time = counted, written_vote, clock
    try:
        train(rank, out, 40, saving="sharded", save_every=3600.0)
        first = list(steps)
        steps.clear()
        train(rank, out.with_name("twice"), 60, saving="sharded", save_every=10.0)
    finally:
        BackgroundSaver.start, saving.Saving.vote, saving.time = start, vote, time
    return first, steps


def test_a_due_save_is_done_once(tmp_path):
    """The ranks' vote comes a step later; it must not be asked for again in that step."""
    (first, steps), (_, others) = together(2, counting, tmp_path / "once")
    assert first == [40]
    assert steps == others
    gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
    assert len(gaps) >= 4
    assert all(10 <= gap <= 13 for gap in gaps[:-1]), gaps  # the last state is saved at the end, due or not


# ------------------------------------------------------------------ kill -9


def member(rank, folder, port, out, steps, strategy, fatal):
    """One rank of a run; if ``fatal`` names it, it is killed in a write: at ``(rank, write, point)``."""
    write, count = part_files.write_part, itertools.count(1)
    points = {number: point for who, number, point in fatal if who == rank}

    def killed(path, chunks, buffer):
        point = points.get(next(count))
        if point == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        part = write(path, chunks, buffer)
        if point == "half":
            os.truncate(path, path.stat().st_size // 2)
        if point is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    part_files.write_part = killed
    with process_group(rank, 2, folder, port, 100):
        torch.manual_seed(0)
        options = {"saving": "sharded", "strategy": strategy, "save_every": 1e-9, "keep": 1, "resume": True}
        _, ended = train(rank, out, steps, **options)
        assert ended == "end", ended
    os._exit(0)


def start_pair(context, place, out, steps, strategy, fatal=()):
    folder = place / f"meet-{time.monotonic_ns()}"
    folder.mkdir()
    port = free_port()
    pair = [
        context.Process(target=member, args=(rank, str(folder), port, out, steps, strategy, fatal))
        for rank in range(2)
    ]
    for process in pair:
        process.start()
    return pair


# Which ranks are killed, in which of their writes, and where in it.
KILLS = [
    [(0, 2, "half")],
    [(1, 3, "before")],
    [(0, 2, "after"), (1, 2, "half")],
    [(1, 2, "half")],
    [(0, 3, "before")],
    [(1, 4, "after")],
]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_kill_9_in_the_middle_of_a_write_loses_nothing_older(strategy, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "accelerate", "sklearn.datasets"])
    out, steps, positions = tmp_path / "run", 60, [0]
    for fatal in KILLS:
        pair = start_pair(context, tmp_path, out, steps, strategy, fatal)
        for process in pair:
            process.join(60)
            assert process.exitcode not in (None, 0)
        first, *_ = fatal[0]
        assert pair[first].exitcode == -signal.SIGKILL
        if first == 0:
            assert list((out / "state").glob(".step-*.new")), "rank 0 could not remove what it had begun"
        positions.append(state.load_newest(out / "state")[0]["step"])
    assert all(later > earlier for earlier, later in itertools.pairwise(positions)), positions
    assert positions[-1] < steps
    pair = start_pair(context, tmp_path, out, steps, strategy)
    for process in pair:
        process.join(120)
        assert process.exitcode == 0
    trained(2, tmp_path / "whole", steps, saving="sharded", strategy=strategy)
    saved = loaded(out)
    assert_same(saved, loaded(tmp_path / "whole"))
    assert not list((out / "state").glob(".step-*")), "what was half-written is gone"
    assert json.loads((state.list_saved(out / "state")[0] / "state.json").read_text())["step"] == steps
