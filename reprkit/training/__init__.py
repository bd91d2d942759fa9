"""Training: the loop, its steps, its options and its saved state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.utils.lazy import attach

if TYPE_CHECKING:
    from reprkit.runs.run import Run
    from reprkit.training.entry import fit, loop
    from reprkit.training.loop_iterator import Loop
    from reprkit.training.step import Step

__all__ = ["Loop", "Run", "Step", "fit", "loop"]

# Lazy imports: a command that reads a run's folder must not import torch.
__getattr__, __dir__ = attach(
    __name__,
    submod_attrs={
        "loop_iterator": ["Loop"],
        "step": ["Step"],
        "entry": ["fit", "loop"],
    },
    elsewhere={"Run": "reprkit.runs.run"},
)
