"""``ranks``: results in rank order, tracebacks in the parent, a time limit."""

import os
import pickle
import time

import pytest
import torch
import torch.distributed as dist

from reprkit.testing.processes import RanksError, ranks
from reprkit.utils import collectives

pytestmark = pytest.mark.ranks


def scaled_sum(rank: int, value: torch.Tensor, factor: float) -> dict:
    total = collectives.sum_over_ranks(value * (rank + factor))
    return {
        "rank": rank,
        "total": total,
        "draw": torch.rand(3),
        "world": collectives.world_size(),
        "env": os.environ["RANK"],
    }


def one_fails(rank: int) -> None:
    if rank == 1:
        raise ValueError("the second one is odd")
    dist.barrier()  # blocks: the other rank has failed


def one_hangs(rank: int) -> None:
    if rank == 1:
        time.sleep(60)


def one_dies(rank: int) -> None:
    if rank == 0:
        os._exit(3)


@pytest.mark.slow
def test_results_are_in_rank_order():
    first, second = ranks(2, scaled_sum, torch.tensor([1.0, 2.0]), 1.0)
    assert (first["rank"], second["rank"]) == (0, 1)
    assert (first["world"], first["env"], second["env"]) == (2, "0", "1")
    assert first["total"].tolist() == second["total"].tolist() == [3.0, 6.0]
    assert torch.equal(first["draw"], second["draw"]), "all ranks start from the same random state"


@pytest.mark.slow
def test_a_single_process():
    assert ranks(1, scaled_sum, torch.ones(1), 5.0)[0]["total"].tolist() == [5.0]
    with pytest.raises(ValueError, match="at least one process, not 0"):
        ranks(0, scaled_sum)


@pytest.mark.slow
def test_a_failure_is_reported_with_its_traceback_at_once():
    start = time.monotonic()
    with pytest.raises(
        RanksError, match=r"(?s)^rank 1 of 2 raised:.*in one_fails.*ValueError: the second one is odd"
    ):
        ranks(2, one_fails, timeout=300.0)
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_a_hang_is_stopped_and_located():
    with pytest.raises(RanksError, match=r"(?s)rank 1 of 2 was still running.*in one_hangs"):
        ranks(2, one_hangs, timeout=2.0)


@pytest.mark.slow
def test_a_process_that_exits_without_an_error_is_reported():
    with pytest.raises(RanksError, match="process 0 terminated with exit code 3"):
        ranks(2, one_dies)


def test_functions_that_cannot_be_pickled_are_refused():
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"(?i)pickle"):
        ranks(2, lambda rank: rank)
