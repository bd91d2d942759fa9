"""What the corruptions share: what they may touch, where their draws come from, how damage is laid on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.signature import Field, Kind, Signature
from reprkit.errors import BuildError, DataError
from reprkit.interfaces import Corruption
from reprkit.types import Batch
from reprkit.utils.collectives import global_draw


class ElementCorruption(Corruption):
    """Chooses elements of ``x`` and replaces them; padding (``x_mask`` False) is never hit.

    A subclass defines ``choose`` (which elements) and ``replacement`` (by what).  Symbols (``tokens``) are
    replaced by the mask symbol, the id ``vocab``, one past the data's own; encoders of tokens embed it.

    Attributes:
        kinds: which kinds of field it can damage.
        field: what ``x`` is, where the data is known.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "vector", "sequence")
    advice: ClassVar[str] = ""

    def __init__(self, data: Signature | None = None) -> None:
        super().__init__()
        self.field: Field | None = None if data is None else data["x"]
        if self.field is not None and self.field.kind not in self.kinds:
            raise BuildError(self._unfit(self.field.kind))

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "b ..."]]:
        """The batch with ``x`` (b ...) damaged, and ``hit``, Bool of its shape, True where it was.

        Args:
            batch: with ``x``, and ``x_mask`` Bool (b t) where lengths vary.
            generator: of the draws; torch's global one when None.  Ranks with equal generators draw what one
                process would for their joined batch.

        Raises:
            DataError: the batch has no ``x``.
            BuildError: ``x`` is of a kind that it cannot damage.
        """
        if "x" not in batch:
            raise DataError(f"a corruption damages field 'x', and the batch has {', '.join(batch) or 'none'}")
        x = batch["x"]
        if not x.is_floating_point() and "tokens" not in self.kinds:
            raise BuildError(self._unfit("tokens"))
        hit = self.choose(x, generator)
        if "x_mask" in batch:
            hit = hit & broadcast_mask(batch["x_mask"], x)
        return {**batch, "x": torch.where(hit, self.replacement(x, generator), x)}, hit

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Bool[Tensor, "b ..."]:
        """Which elements of ``x`` (b ...) to damage; of its shape."""
        raise NotImplementedError

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """What to put there: of x's type, its shape or broadcastable to it."""
        raise NotImplementedError

    def blank(self, x: Tensor, value: float) -> Tensor:
        """A scalar of x's type: ``value``, or the mask symbol of tokens."""
        if x.is_floating_point():
            return x.new_full((), value)
        if self.field is None or self.field.vocab is None:
            raise BuildError(
                f"{type(self).__name__} hides symbols behind the id vocab, and does not know it: give data=, "
                "or build the objective through rk.build(data=...)"
            )
        return x.new_full((), self.field.vocab)

    def _unfit(self, kind: str) -> str:
        advice = f"\n  {self.advice}" if self.advice else ""
        return f"{type(self).__name__} damages {', '.join(self.kinds)} data, and x is {kind}{advice}"


def broadcast_mask(mask: Bool[Tensor, "b t"], x: Tensor) -> Bool[Tensor, "b ..."]:
    """A mask of steps, broadcastable over ``x`` (b t ...)."""
    return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)).to(x.device)


def draw_uniform(
    shape: Sequence[int], x: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "b ..."]:
    """Uniform numbers in [0, 1) of a shape that begins with the batch, on x's device, alike on all ranks."""
    device = x.device if generator is None else generator.device
    return global_draw(lambda s: torch.rand(s, generator=generator, device=device), tuple(shape)).to(x.device)


def draw_normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers of x's shape, type and device, alike on all ranks."""
    device = x.device if generator is None else generator.device
    return global_draw(lambda s: torch.randn(s, generator=generator, device=device), tuple(x.shape)).to(x)
