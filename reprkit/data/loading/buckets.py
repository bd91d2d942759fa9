"""Buckets: batches of examples of similar lengths, trimmed or padded to the longest example of all processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.padding import pad_to_length
from reprkit.data.signature import Signature
from reprkit.errors import DataError

WINDOW = 50  # batches that are sorted together by default
# As a share of the length; without noise the longest examples of a window would always share a batch.
NOISE = 0.05


def lengths_for_buckets(data: Dataset) -> Int[Tensor, " n"]:
    """Return the lengths that buckets sort by: of ``x`` where it varies, else of the first field that does.

    Raises:
        DataError: no length varies, or the data set does not know its lengths.
    """
    by_field = data.lengths()
    if by_field is None:
        raise DataError(
            f"buckets need the length of every example, and {data.name} does not know them: {type(data).__name__} must define "
            "lengths(), which returns the lengths without loading the examples; or train without buckets"
        )
    if not by_field:
        raise DataError(
            f"buckets put examples of similar lengths together, and in {data.name} no length varies: {data.signature!r}"
        )
    lengths = by_field.get("x", next(iter(by_field.values())))
    if lengths.shape != (len(data),):
        raise DataError(
            f"{type(data).__name__}.lengths() returned shape {tuple(lengths.shape)} for {len(data)} examples of {data.name}"
        )
    return lengths


def bucket_by_length(
    shuffled: Int[Tensor, " n"],
    lengths: Int[Tensor, " n"],
    batch: int,
    window: int,
    generator: torch.Generator,
) -> Int[Tensor, " n"]:
    """Reorder an epoch so that the examples of a batch have similar lengths.

    Every ``window`` consecutive batches of the shuffled order are sorted by length (with 5 % of noise) and cut into batches, which
    are then shuffled over the whole epoch.  So the examples that share a batch still change from epoch to epoch.

    Args:
        shuffled: order of an epoch, a whole number of batches (n,).
        lengths: of all examples, in the data set's order.
        batch: number of examples in a batch.
        window: number of batches that are sorted together, from 1.
        generator: for the noise and the order of batches.
    """
    noise = torch.rand(len(shuffled), generator=generator)
    keys = lengths[shuffled] * (1 + NOISE * (2 * noise - 1))
    # Sort by length and then stably by window: this sorts within all windows at once.
    by_length = keys.argsort(stable=True)
    windows = torch.arange(len(shuffled)) // (window * batch)
    indices = by_length[windows[by_length].argsort(stable=True)]
    batches = shuffled[indices].reshape(-1, batch)
    return batches[torch.randperm(len(batches), generator=generator)].reshape(-1)


def fit_to_longest(
    batch: dict[str, Tensor], signature: Signature, longest: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Trim or pad the fields of varying length to the longest example.

    Args:
        batch: fields (b t ...) with their masks (b t).
        signature: declares which lengths vary.
        longest: field -> length of the longest example of the global batch, over all processes; None takes it from this batch's
            masks.
    """
    for name in signature.varying_fields():
        if name not in batch:
            continue
        own = f"{name}_mask"
        value, mask = batch[name], batch[own]
        if longest is not None:
            steps = longest[name]
        else:
            steps = value.shape[1] if bool(mask[:, -1].any()) else int(mask.any(0).nonzero()[-1]) + 1
        if steps < value.shape[1]:
            batch[name], batch[own] = value[:, :steps].contiguous(), mask[:, :steps].contiguous()
        elif steps > value.shape[1]:
            batch[name], batch[own] = pad_to_length(value, steps), pad_to_length(mask, steps)
    return batch
