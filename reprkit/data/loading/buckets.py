"""Batches of examples of similar lengths, and batches as long as their longest example on every process."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.padding import pad_to_length
from reprkit.data.signature import Signature
from reprkit.errors import DataError

WINDOW = 50  # batches that are sorted together when nothing else is said
NOISE = 0.05  # of a length: otherwise the longest examples of a window would always meet each other


def lengths_for_buckets(data: Dataset) -> Int[Tensor, " n"]:
    """The lengths to put batches together by: of ``x`` where it varies, else of the first field that does.

    Raises:
        DataError: nothing varies, or the data set does not know its lengths.
    """
    found = data.lengths()
    if found is None:
        raise DataError(
            f"buckets need every example's length, and {data.name} does not know them: {type(data).__name__} must define "
            "lengths(), which gives the lengths without making the examples; or go on without buckets"
        )
    if not found:
        raise DataError(
            f"buckets put examples of similar lengths together, and in {data.name} no length varies: {data.signature!r}"
        )
    lengths = found.get("x", next(iter(found.values())))
    if lengths.shape != (len(data),):
        raise DataError(
            f"{type(data).__name__}.lengths() gave shape {tuple(lengths.shape)} for {len(data)} examples of {data.name}"
        )
    return lengths


def bucket_by_length(
    shuffled: Int[Tensor, " n"],
    lengths: Int[Tensor, " n"],
    batch: int,
    window: int,
    generator: torch.Generator,
) -> Int[Tensor, " n"]:
    """The same examples in another order, in which a batch's lengths are near each other.

    ``window`` batches after another of a shuffled order are sorted by length, give or take 5 %, and cut into batches, which are
    then shuffled over the whole epoch.  So a batch's company still changes from epoch to epoch.

    Args:
        shuffled: an epoch's order, a whole number of batches (n,).
        lengths: of all examples, in the data set's order.
        batch: examples in a batch.
        window: batches that are sorted together, from 1.
        generator: of the noise and the order of batches.
    """
    noise = torch.rand(len(shuffled), generator=generator)
    keys = lengths[shuffled] * (1 + NOISE * (2 * noise - 1))
    # One stable sort does for all windows: by length first, and then by window.
    by_length = keys.argsort(stable=True)
    windows = torch.arange(len(shuffled)) // (window * batch)
    place = by_length[windows[by_length].argsort(stable=True)]
    batches = shuffled[place].reshape(-1, batch)
    return batches[torch.randperm(len(batches), generator=generator)].reshape(-1)


def fit_to_longest(
    batch: dict[str, Tensor], signature: Signature, longest: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """A batch whose fields of varying length are as long as the longest example, not longer.

    Args:
        batch: fields (b t ...) with their masks (b t).
        signature: says which lengths vary.
        longest: field -> length of the longest example of the whole batch, over all processes; None looks at this one's masks.
    """
    for name, field in signature.items():
        if None not in field.shape or name not in batch:
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
