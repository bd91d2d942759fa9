"""A limit of what a model may allocate while it is built from a manifest: what its file of weights holds, and some more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reprkit.errors import CheckpointError

_SLACK = 1 << 28  # bytes beside the weights, such as buffers that are computed and not saved
_TIMES = 4  # weights of half precision are built in float32, and initialized through temporary tensors
_CALLS = 10_000  # operations beside those for the stored tensors
_CALLS_PER_TENSOR = 1_000


class AllocationLimit(TorchDispatchMode):
    """Context that raises a CheckpointError before a tensor larger than the limit, or one too many, is allocated.

    A constructor must not ask for terabytes because a manifest says so.  Sizes are read from the arguments of the operations that
    make tensors from sizes alone; all others make tensors from tensors that were counted.

    Args:
        sizes: bytes of each tensor in the file of weights.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        super().__init__()
        stored = list(sizes)
        self._largest = _SLACK + _TIMES * max(stored, default=0)
        self._left = _SLACK + _TIMES * 2 * sum(stored)
        self._calls = _CALLS + _CALLS_PER_TENSOR * len(stored)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what the operation allocates, then run it."""
        kwargs = kwargs or {}
        self._calls -= 1
        asked = requested_elements(func, args, kwargs)
        if asked is not None:
            size = asked * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
            self._left -= size
            if not 0 <= size <= self._largest or self._left < 0:
                raise CheckpointError(
                    f"the manifest describes a tensor of {asked:,} values, and the file of weights holds no such tensor"
                )
        if self._calls < 0:
            raise CheckpointError(
                "the manifest describes a model of more parts than the file of weights holds"
            )
        return func(*args, **kwargs)


def requested_elements(func: Any, args: Any, kwargs: Mapping[str, Any]) -> int | None:
    """Return how many values an operation makes from sizes in its arguments; None for one without sizes."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    name = func._schema.name
    if name in ("aten::arange", "aten::range"):
        start, step = given.get("start", 0), given.get("step", 1) or 1
        return max(0, math.ceil((given.get("end", 0) - start) / step))
    if name == "aten::eye":
        return given["n"] * given.get("m", given["n"])
    if name in ("aten::linspace", "aten::logspace"):
        return int(given["steps"])
    if name == "aten::randperm" or "window" in name:
        return int(given.get("n", given.get("window_length", 0)))
    if name == "aten::repeat":
        return given["self"].numel() * math.prod(given["repeats"])
    if name in ("aten::tril_indices", "aten::triu_indices"):
        return 2 * given["row"] * given["col"]
    size = given.get("size")
    if not isinstance(size, list | tuple) or func.is_view or name.startswith("aten::_unsafe_view"):
        return None
    return min(size) if min(size, default=0) < 0 else math.prod(size)
