"""The base class of corruptions that replace elements, and their random draws, which agree over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.padding import broadcast_mask
from reprkit.data.signature import Field, Kind, Signature
from reprkit.errors import BuildError, DataError
from reprkit.interfaces import Corruption
from reprkit.layers.value_embedding import column_scales
from reprkit.types import Batch
from reprkit.utils.collectives import global_draw


class ElementCorruption(Corruption):
    """Base class: choose elements of ``x`` and replace them; padding (``x_mask`` False) is never changed.

    A subclass defines ``choose`` (which elements) and ``replacement`` (by what).  Symbols (``tokens``, ``map``) are
    replaced by the mask symbol, the id ``vocab``, one past the data's own ids; encoders of tokens embed it.

    Where the field has columns (``reprkit.data.Column``), ``choose`` and ``replacement`` see standardized numbers: one strength
    fits columns of different units, and the value 0 is a column's mean.

    Attributes:
        kinds: the kinds of field that it can corrupt.
        advice: what to use for other kinds, added to the error.
        field: the signature of ``x``; None where the data is not known.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "vector", "sequence")
    advice: ClassVar[str] = ""

    center: Tensor | None
    scale: Tensor | None

    def __init__(self, data: Signature | None = None) -> None:
        super().__init__()
        self.field: Field | None = None if data is None else data["x"]
        if self.field is not None and self.field.kind not in self.kinds:
            raise BuildError(self.kind_error(self.field.kind))
        center, scale = (
            column_scales(self.field) if self.field is not None and self.field.columns else (None, None)
        )
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "b ..."]]:
        """Return the batch with a corrupted ``x`` (b ...), and ``hit``, Bool of its shape, True at corrupted elements.

        Args:
            batch: contains ``x``, and ``x_mask`` Bool (b t) where lengths vary.
            generator: generator of the draws; None means torch's global one.  Ranks with equal generators draw
                what one process would for their joined batch.

        Raises:
            DataError: the batch has no ``x``.
            BuildError: ``x`` is of a kind that it cannot corrupt.
        """
        if "x" not in batch:
            raise DataError(
                f"a corruption reads field 'x', and the batch has {', '.join(batch) or 'no fields'}"
            )
        x = batch["x"]
        if not x.is_floating_point() and not {"tokens", "map"} & set(self.kinds):
            raise BuildError(self.kind_error("tokens"))
        center, scale = self.center, self.scale
        standard = x if center is None or scale is None else (x - center.to(x)) / scale.to(x)
        hit = self.choose(standard, generator)
        if "x_mask" in batch:
            hit = hit & broadcast_mask(batch["x_mask"], x)
        changed = self.replacement(standard, generator)
        if center is not None and scale is not None:
            changed = changed * scale.to(x) + center.to(x)
        return {**batch, "x": torch.where(hit, changed, x)}, hit

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Bool[Tensor, "b ..."]:
        """Return the mask of the elements of ``x`` (b ...) to corrupt, of its shape."""
        raise NotImplementedError

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the new values, of the type of ``x`` and broadcastable to its shape."""
        raise NotImplementedError

    def fill_value(self, x: Tensor, value: float) -> Tensor:
        """Return ``value`` as a scalar of the type of ``x``; for tokens, the mask symbol."""
        if x.is_floating_point():
            return x.new_full((), value)
        if self.field is None or self.field.vocab is None:
            raise BuildError(
                f"{type(self).__name__} replaces symbols by the mask symbol, whose id is vocab, and vocab is not known: "
                "give data=, or build the objective through rk.build(data=...)"
            )
        return x.new_full((), self.field.vocab)

    def kind_error(self, kind: str) -> str:
        """Return the message for a field of a kind that it cannot corrupt."""
        advice = f"\n  {self.advice}" if self.advice else ""
        return f"{type(self).__name__} corrupts {', '.join(self.kinds)} data, and x is {kind}{advice}"


class MaskingCorruption(ElementCorruption):
    """Base class of corruptions that set real elements to one ``value``, and replace symbols by the mask symbol."""

    def __init__(self, value: float, data: Signature | None) -> None:
        super().__init__(data)
        if value and self.field is not None and self.field.discrete:
            raise BuildError("symbols are replaced by the mask symbol, so value= has no effect: remove it")
        self.value = value

    def replacement(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return ``value``, or the mask symbol."""
        return self.fill_value(x, self.value)


def draw_uniform(
    shape: Sequence[int], x: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "b ..."]:
    """Draw from [0, 1) for a shape that begins with the batch, on the device of ``x``: this rank's rows of the global draw."""
    device = x.device if generator is None else generator.device
    return global_draw(lambda s: torch.rand(s, generator=generator, device=device), tuple(shape)).to(x.device)


def draw_normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from N(0, 1) with the shape, type and device of ``x``: this rank's rows of the global draw."""
    device = x.device if generator is None else generator.device
    return global_draw(lambda s: torch.randn(s, generator=generator, device=device), tuple(x.shape)).to(x)
