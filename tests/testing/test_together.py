"""``together``: the same processes for many calls, new ones after a failure."""

import os
import time

import pytest
import torch

from reprkit.testing import pool
from reprkit.testing.pool import together
from reprkit.testing.processes import RanksError
from reprkit.utils import collectives

pytestmark = pytest.mark.ranks


def sum_of_ranks(rank, value):
    total = collectives.sum_over_ranks(torch.tensor(float(value + rank)))
    return {"rank": rank, "total": float(total), "draw": float(torch.rand(())), "pid": os.getpid()}


def one_fails(rank):
    if rank == 1:
        raise ValueError("the second one is odd")
    return collectives.sum_over_ranks(torch.ones(()))  # blocks: the other rank has failed


def one_hangs(rank):
    if rank == 1:
        time.sleep(60)
    return rank


def one_dies(rank):
    if rank == 0:
        os._exit(3)
    return rank


def one_is_aborted(rank, first=None):
    if rank == 0 and (first is None or not first.exists()):
        if first is not None:
            first.touch()
        os.abort()
    return rank


def one_fails_and_one_is_aborted(rank, folder):
    (folder / f"{rank}-{os.getpid()}").touch()
    if rank == 1:
        raise ValueError("the second one is odd")
    time.sleep(0.5)
    os.abort()


def test_processes_are_reused():
    one, two = together(2, sum_of_ranks, 1), together(2, sum_of_ranks, 5)
    assert [each["total"] for each in (*one, *two)] == [3, 3, 11, 11]
    assert [each["rank"] for each in one] == [0, 1]
    assert [each["pid"] for each in one] == [each["pid"] for each in two]
    assert {each["draw"] for each in (*one, *two)} == {one[0]["draw"]}, "each call starts from one seed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "timeout", "message"),
    [
        (one_fails, 60, "ValueError: the second one is odd"),
        (one_hangs, 2, "in one_hangs"),
        (one_dies, 60, "rank 0 of 2 ended with exit code 3 and without a traceback"),
    ],
)
def test_a_failure_is_reported_and_the_next_call_works(function, timeout, message):
    before = together(2, sum_of_ranks, 1)
    start = time.monotonic()
    with pytest.raises(RanksError) as caught:
        together(2, function, timeout=timeout)
    assert message in str(caught.value)
    if function is one_fails:
        assert str(caught.value).startswith("rank 1 of 2 raised")
    assert time.monotonic() - start < 45
    after = together(2, sum_of_ranks, 1)
    assert {each["pid"] for each in before}.isdisjoint(each["pid"] for each in after)
    assert after[0]["total"] == 3


@pytest.mark.slow
def test_a_function_is_run_again_where_a_signal_ends_a_used_process(tmp_path):
    together(2, sum_of_ranks, 1)
    with pytest.warns(
        UserWarning, match=r"(?s)rank 0 of 2 ended with exit code -6.*in one_is_aborted.*run again"
    ):
        assert together(2, one_is_aborted, tmp_path / "first") == [0, 1]


@pytest.mark.slow
def test_an_error_is_not_run_again_where_another_rank_is_aborted_after_it(tmp_path):
    together(2, sum_of_ranks, 1)
    with pytest.raises(RanksError, match="the second one is odd"):
        together(2, one_fails_and_one_is_aborted, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_the_signal_that_ends_a_new_process_is_an_error():
    pool.close()
    with pytest.raises(
        RanksError,
        match=r"(?s)rank 0 of 2 ended with exit code -6.*rank 0 of 2 received a signal.*in one_is_aborted",
    ):
        together(2, one_is_aborted)


@pytest.mark.slow
def test_another_environment_gets_new_processes(monkeypatch):
    before = together(2, sum_of_ranks, 1)[0]["pid"]
    monkeypatch.setenv("REPRKIT_PLUGINS", "")
    assert together(2, sum_of_ranks, 1)[0]["pid"] != before
    pool.close()
    pool.close()
