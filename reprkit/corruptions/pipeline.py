"""How objectives damage a batch: a chain of corruptions on every field that the encoders read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Corruption
from reprkit.registry.create import create
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


class CorruptionPipeline(nn.Module):
    """Corruptions, one after another, on every field but labels that a factor of the model reads.

    A reference is made once a field, for that field's own kind and range; an instance serves all of them.

    Args:
        references: corruptions in the order in which they are applied, or a function that names them for a
            field.
    """

    def __init__(self, references: Sequence[Any] | Callable[[Field | None], Sequence[Any]]) -> None:
        super().__init__()
        self.references = references
        self.fields = nn.ModuleDict()

    def bind(self, model: Model) -> None:
        """Make the corruptions of each field that is read, labels aside; called once at build.

        Raises:
            BuildError: one of them is no corruption, or does not fit the data.
            UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
        """
        chains, signature = {}, model.signature
        for name in dict.fromkeys(path.input for path in model.factors.values()):
            if signature is None or signature[name].kind != "label":
                chains[name] = self._made(None if signature is None else signature.reading(name))
        self.fields = nn.ModuleDict(chains)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, "b ..."]]]:
        """The damaged batch, and for each field that is read where it was hit (of the field's shape)."""
        damaged, hits = dict(batch), {}
        for name, chain in self.fields.items():
            view: Batch = {"x": batch[name]}
            if f"{name}_mask" in batch:
                view = {**view, "x_mask": batch[f"{name}_mask"]}
            hit = torch.zeros_like(batch[name], dtype=torch.bool)
            for corruption in _each(chain):
                with corruption.error_context(f", field {name}"):
                    view, struck = corruption(view, generator)
                hit = hit | struck
            damaged[name], hits[name] = view["x"], hit
        return damaged, hits

    def _made(self, data: Signature | None) -> nn.ModuleList:
        wanted = self.references
        if callable(wanted):
            wanted = wanted(None if data is None else data["x"])
        made = [create("corruption", each, data=data) for each in wanted]
        for each in made:
            if not isinstance(each, Corruption):
                raise BuildError(f"{type(each).__name__} is not a Corruption")
        return nn.ModuleList(made)


def _each(chain: nn.Module) -> list[Corruption]:
    return [each for each in chain.children() if isinstance(each, Corruption)]
