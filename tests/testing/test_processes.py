"""``ranks``: results in order, tracebacks in the parent, hangs cut off."""

import os
import pickle
import time

import pytest
import torch
import torch.distributed as dist

from reprkit.testing.processes import RanksError, ranks
from reprkit.utils import collectives

pytestmark = pytest.mark.ranks


def summed(rank: int, value: torch.Tensor, factor: float) -> dict:
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
    dist.barrier()  # never meets the other one


def one_hangs(rank: int) -> None:
    if rank == 1:
        time.sleep(60)


def one_dies(rank: int) -> None:
    if rank == 0:
        os._exit(3)


def test_results_come_home_in_order():
    first, second = ranks(2, summed, torch.tensor([1.0, 2.0]), 1.0)
    assert (first["rank"], second["rank"]) == (0, 1)
    assert (first["world"], first["env"], second["env"]) == (2, "0", "1")
    assert first["total"].tolist() == second["total"].tolist() == [3.0, 6.0]
    assert torch.equal(first["draw"], second["draw"]), "all ranks start from the same random state"


def test_one_process_is_a_world_of_its_own():
    assert ranks(1, summed, torch.ones(1), 5.0)[0]["total"].tolist() == [5.0]
    with pytest.raises(ValueError, match="at least one process, not 0"):
        ranks(0, summed)


def test_a_failure_is_told_with_its_traceback_and_does_not_wait():
    start = time.monotonic()
    with pytest.raises(
        RanksError, match=r"(?s)^rank 1 of 2 raised:.*in one_fails.*ValueError: the second one is odd"
    ):
        ranks(2, one_fails, timeout=300.0)
    assert time.monotonic() - start < 60


def test_a_hang_is_cut_off_and_located():
    with pytest.raises(RanksError, match=r"(?s)rank 1 of 2 was still running.*in one_hangs"):
        ranks(2, one_hangs, timeout=2.0)


def test_a_process_that_dies_without_a_word_is_reported():
    with pytest.raises(RanksError, match="process 0 terminated with exit code 3"):
        ranks(2, one_dies)


def test_what_a_new_process_could_not_find_is_refused_at_once():
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"(?i)pickle"):
        ranks(2, lambda rank: rank)
