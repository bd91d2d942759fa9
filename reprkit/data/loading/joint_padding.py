"""Pad the batches of all ranks to one length, where a rank reads its own examples only."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from reprkit.data.loading.buckets import fit_to_longest
from reprkit.data.signature import Signature
from reprkit.utils import collectives


def pad_jointly(
    batches: Iterator[dict[str, Tensor]], signature: Signature, ranks: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches, padded to the longest example of all ranks; every rank must read as many batches.

    The ranks exchange one number a field and step, over a process group of their own on the CPU.  Where the order is for another
    number of ranks than there are processes, each batch has its own length.
    """
    if collectives.world_size() != ranks:
        yield from batches
        return
    names, group = signature.varying_fields(), dist.new_group(backend="gloo")
    try:
        for batch in batches:
            lengths = torch.tensor([batch[name].shape[1] for name in names])
            dist.all_reduce(lengths, op=dist.ReduceOp.MAX, group=group)
            padded = fit_to_longest(batch, signature, dict(zip(names, lengths.tolist(), strict=True)))
            pin = any(value.is_pinned() for value in batch.values())
            yield {name: value.pin_memory() for name, value in padded.items()} if pin else padded
    finally:
        if dist.is_initialized():
            dist.destroy_process_group(group)
