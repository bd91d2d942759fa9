"""Evaluation mode for a while, and every module's own mode again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """A block in which these modules, and all inside them, do as in evaluation; each has its own mode again behind it.

    Parts that were in evaluation before, such as frozen ones, stay so.
    """
    modes = [(inner, inner.training) for module in modules for inner in module.modules()]
    try:
        for inner, _ in modes:
            inner.training = False
        yield
    finally:
        for inner, mode in modes:
            inner.training = mode
