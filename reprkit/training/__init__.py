"""Training: the visible loop, its state on disk, a run's folder."""

from reprkit.training.entry import fit, loop
from reprkit.training.looping import Loop
from reprkit.training.run import Run
from reprkit.training.step import Step

__all__ = ["Loop", "Run", "Step", "fit", "loop"]
