"""Tensors of which this process may hold only a shard: gather them, shard them, use the local part."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reprkit.utils import collectives


def is_sharded(tensor: Tensor) -> bool:
    """Return whether this process holds only its shard of a tensor."""
    return hasattr(tensor, "full_tensor")


def is_block(tensor: Tensor) -> bool:
    """Return whether a sharded tensor's shard is one block of the whole, and not rows of several parts divided one by one."""
    return all(getattr(placement, "split_factor", 1) == 1 for placement in tensor.placements)  # type: ignore[attr-defined]


def local_shard(tensor: Tensor) -> Tensor:
    """Return this process's shard, sharing its memory; a tensor that is not sharded is returned as is."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor on every process, on its device; all processes that hold its shards must call it."""
    detached = tensor.detach()
    placements = detached.placements  # type: ignore[attr-defined]
    times = getattr(placements[0], "split_factor", 1) if len(placements) == 1 else 1
    if times == 1:
        return detached.full_tensor()  # type: ignore[attr-defined]
    # Parts that are divided one by one, such as the queries, keys and values of one matrix: torch shards but does not gather these.
    mine = local_shard(detached).contiguous()
    shards = [torch.empty_like(mine) for _ in range(detached.device_mesh.size())]  # type: ignore[attr-defined]
    dist.all_gather(shards, mine, group=detached.device_mesh.get_group())  # type: ignore[attr-defined]
    pieces = [shard.chunk(times) for shard in shards]
    return torch.cat([piece[part] for part in range(times) for piece in pieces])


def gather(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor on rank 0's CPU (empty on other ranks); others are returned as is.  All ranks must call it."""
    if not is_sharded(tensor):
        return tensor
    full = whole(tensor)
    # Copied: the full tensor may be a view of longer, padded memory, which neither a checkpoint nor a state should hold.
    return full.to("cpu", copy=True) if collectives.is_main() else full.new_empty(0, device="cpu")


def shard_like(whole: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor, which every process has, as ``like`` is sharded; without communication.

    A tensor that is sharded already is returned as is.
    """
    if not is_sharded(like) or is_sharded(whole):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class FullStateDict:
    """A module's ``state_dict`` with whole tensors, on rank 0; must be created on all ranks.

    Args:
        module: the module.
        separate_views: copy tensors that share memory with another one without being equal to it, such as the two halves of a
            buffer; a file of weights stores each tensor by itself.
    """

    def __init__(self, module: nn.Module, *, separate_views: bool = False) -> None:
        self._tensors = {name: gather(tensor) for name, tensor in module.state_dict().items()}
        if separate_views:
            self._separate_views()

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the module's own ``state_dict`` would be if it were whole."""
        return dict(self._tensors)

    def _separate_views(self) -> None:
        by_storage: dict[int, list[str]] = {}
        for name, tensor in self._tensors.items():
            if tensor.numel():
                by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
        for names in by_storage.values():
            views = {
                (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
                for tensor in map(self._tensors.__getitem__, names)
            }
            if len(views) > 1:
                for name in names:
                    self._tensors[name] = self._tensors[name].clone()
