"""Activation checkpointing: blocks of encoders and decoders store their inputs only; the backward pass computes the rest.

Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Generator, Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from reprkit.errors import TrainingError
from reprkit.models.model import Model


class RecomputedBlocks:
    """Blocks whose activations are computed again, until ``undo``.

    A block is an entry of a ``ModuleList`` or ``Sequential`` that has modules of its own and neither buffers nor generators: what a
    block changes or draws elsewhere would happen twice.  The global generators' draws, such as dropout, are repeated.

    Args:
        model: the model, prepared for training.

    Raises:
        TrainingError: no encoder and no decoder has such a block.
    """

    def __init__(self, model: Model) -> None:
        tops: list[nn.Module] = [factor.encoder for factor in model.factors.values()]
        tops += [output.decoder for output in model.outputs.values()]
        self.blocks = list(dict.fromkeys(block for top in tops for block in _blocks_of(top)))
        if not self.blocks:
            names = ", ".join(dict.fromkeys(type(top).__name__ for top in tops)) or "there are none"
            raise TrainingError(
                f"recompute=True computes blocks of encoders and decoders again, and these have none ({names}): leave it out; "
                "accumulate= saves memory with every part"
            )
        self._classes = [type(block) for block in self.blocks]
        for block in self.blocks:
            # A class of its own, not an attribute: a copy of the module, such as a fine-tuned one, then calls its own weights.
            cls: type[nn.Module] = type(block)
            block.__class__ = type(
                cls.__name__, (cls,), {"forward": _recomputed(cls), "__module__": cls.__module__}
            )

    def undo(self) -> None:
        """Let the blocks store their activations again."""
        for block, cls in zip(self.blocks, self._classes, strict=True):
            block.__class__ = cls


def _recomputed(cls: type[nn.Module]) -> Any:
    """Return a ``forward`` that stores no activations where gradients are computed."""

    def forward(self: nn.Module, *arguments: Any, **keywords: Any) -> Any:
        if not (self.training and is_grad_enabled()):
            return cls.forward(self, *arguments, **keywords)
        return checkpoint(cls.forward, self, *arguments, use_reentrant=False, **keywords)

    return forward


def _blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost blocks of a module's stacks."""
    for child in module.children():
        for block in child if isinstance(child, nn.ModuleList | nn.Sequential) else ():
            if isinstance(block, nn.ModuleList | nn.ModuleDict | nn.Sequential):
                continue
            if any(True for _ in block.children()) and not _keeps_state(block):
                yield block
        if not isinstance(child, nn.ModuleList | nn.Sequential):
            yield from _blocks_of(child)


def _keeps_state(block: nn.Module) -> bool:
    """Whether a block has more than weights and settings: buffers, tensors or generators outside of its parameters."""
    return any(
        bool(module._buffers) or any(isinstance(value, Tensor | Generator) for value in vars(module).values())
        for module in block.modules()
    )
