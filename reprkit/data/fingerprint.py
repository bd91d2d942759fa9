"""A short description of a data set's values, by which a resumed run knows whether it has the same data."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset, Subset
from reprkit.data.formats.tensors import Tensors
from reprkit.data.streams import Stream
from reprkit.errors import ReprkitError

_SAMPLES = 16  # examples that are read of data that is not in memory
_IN_MEMORY = 1 << 26  # bytes that are hashed of data in memory
_TOLERANCE = 0.02  # of the largest mean: decoders of images and sound differ a little between machines


def fingerprint(data: Any) -> dict[str, Any] | None:
    """Return the fingerprint of a data set as plain JSON; None for a stream, or where the examples cannot be read.

    Values in memory are hashed.  Of other data the means of a few examples are kept, without fields whose values are drawn at
    random whenever they are read.  Global random states must be put back by the caller.
    """
    if not isinstance(data, Dataset) or isinstance(data, Stream) or not len(data):
        return None
    count = len(data)
    try:
        if isinstance(data.data if isinstance(data, Subset) else data, Tensors):
            return _hash(data, count)
        chosen = torch.linspace(0, count - 1, min(count, _SAMPLES), dtype=torch.float64).long()
        first, second = (_means(data, chosen, seed) for seed in (0, 1))
    except (ReprkitError, OSError, NotImplementedError):
        return None  # the loop reports it when it needs this example
    return {"means": {name: values for name, values in first.items() if values == second[name]}}


def is_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two fingerprints are of equal values, as far as they show."""
    if "sha256" in before and "sha256" in now:
        return bool(before["sha256"] == now["sha256"])
    one, other = before.get("means"), now.get("means")
    if not isinstance(one, dict) or not isinstance(other, dict):
        return True
    return all(_are_close(one[name], other[name]) for name in one.keys() & other.keys())


def _are_close(one: Any, other: Any) -> bool:
    if not isinstance(one, list) or not isinstance(other, list) or len(one) != len(other):
        return False
    largest = max((abs(value) for value in (*one, *other)), default=0.0)
    return all(
        math.isclose(a, b, rel_tol=0, abs_tol=_TOLERANCE * largest) for a, b in zip(one, other, strict=True)
    )


def _hash(data: Dataset, count: int) -> dict[str, Any]:
    example = data.batch([0])
    bytes_each = sum(value.nbytes for value in example.values())
    rows = min(count, max(_SAMPLES, _IN_MEMORY // max(1, bytes_each)))
    chosen = torch.linspace(0, count - 1, rows, dtype=torch.float64).long()
    digest = hashlib.sha256(str(count).encode())
    for part in chosen.split(max(1, (1 << 22) // max(1, bytes_each))):
        for name, value in sorted(data.batch(part).items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return {"sha256": digest.hexdigest()}


def _means(data: Dataset, chosen: Tensor, seed: int) -> dict[str, list[float]]:
    """Return the means of the chosen examples, read with these seeds of the global generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return {
        name: [float(f"{mean:.6g}") for mean in value.double().reshape(len(value), -1).mean(1).tolist()]
        for name, value in sorted(data.batch(chosen).items())
    }
