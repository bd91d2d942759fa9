"""Training: the visible loop, its state on disk, a run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.lazy import lazily

if TYPE_CHECKING:
    from reprkit.training.entry import fit, loop
    from reprkit.training.looping import Loop
    from reprkit.training.run import Run
    from reprkit.training.step import Step

# Lazily: a command that reads a run's folder must not wait for torch.
_HOMES = {"Loop": "looping", "Run": "run", "Step": "step", "fit": "entry", "loop": "entry"}

__all__ = ["Loop", "Run", "Step", "fit", "loop"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
