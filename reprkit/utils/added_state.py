"""Entries of a module's state that its earlier versions did not have."""

from __future__ import annotations

from torch import nn


def added_state(module: nn.Module) -> set[str]:
    """Return the names of the entries that a state may lack: saved before they existed, or not set when it was saved.

    A class names them in ``added_state``; see ``reprkit.interfaces.Part``.
    """
    return {
        f"{path}.{name}" if path else name
        for path, submodule in module.named_modules()
        for name in getattr(type(submodule), "added_state", ())
        if getattr(submodule, name, None) is not None
    }
