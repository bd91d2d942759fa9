"""Temporary evaluation mode that restores the training mode of every module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Context in which these modules and their submodules are in evaluation mode; each one's own mode is restored at the end.

    Modules that were in evaluation mode before, such as frozen ones, stay in it.
    """
    modes = [(submodule, submodule.training) for module in modules for submodule in module.modules()]
    try:
        for submodule, _ in modes:
            submodule.training = False
        yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode
