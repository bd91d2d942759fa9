"""Ranks that are groups of processes: collectives join the processes with different examples."""

import pytest
import torch
import torch.distributed as dist

from reprkit.testing.pool import together
from reprkit.utils import collectives


def in_groups(rank):
    """Two pairs of processes with the same examples: 0 and 1, 2 and 3."""
    groups = [dist.new_group(ranks) for ranks in ([0, 2], [1, 3])]
    before = collectives.set_data_group(groups[rank % 2])
    number = torch.tensor([float(rank)], requires_grad=True)
    try:
        gathered = collectives.gather_with_gradient(number)
        (gathered * torch.tensor([1.0, 10.0])).sum().backward()
        found = {
            "rank": (collectives.rank(), collectives.world_size()),
            "main": (collectives.is_main(), collectives.processes()),
            "sum": float(collectives.sum_over_ranks(number)),
            "max": float(collectives.max_over_ranks(number)),
            "max of all": float(collectives.max_over_processes(number)),
            "gather": collectives.gather(number).tolist(),
            "gradient": (gathered.tolist(), float(number.grad)),
        }
        torch.manual_seed(0)
        found["draw"] = collectives.global_draw(torch.rand, (2,)).tolist()
        with collectives.local_only():
            found["alone"] = (collectives.rank(), collectives.world_size(), collectives.is_main())
    finally:
        assert collectives.set_data_group(before) is groups[rank % 2]
    return found, collectives.world_size()


@pytest.mark.ranks
@pytest.mark.slow
def test_collectives_join_the_processes_with_different_examples():
    found = together(4, in_groups)
    torch.manual_seed(0)
    drawn = torch.rand(4)
    for process, (values, afterwards) in enumerate(found):
        rank, same = process // 2, [float(process % 2), float(process % 2 + 2)]
        assert afterwards == 4
        assert values["rank"] == (rank, 2)
        assert values["main"] == (process == 0, 4)
        assert values["sum"] == sum(same)
        assert values["max"] == max(same)
        assert values["max of all"] == 3
        assert values["gather"] == same
        assert values["gradient"] == (same, 2 * [1.0, 10.0][rank]), "summed over the ranks that used it"
        assert values["draw"] == drawn[2 * rank : 2 * rank + 2].tolist()
        assert values["alone"] == (0, 1, True)
