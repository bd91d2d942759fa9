"""The corruptions of an objective: a chain for every field that the encoders read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
    """Apply corruptions in sequence to every input field of the model's factors, except labels.

    A reference is created once per field, for that field's kind and range; an instance is shared by all fields.

    Args:
        references: corruptions in the order in which they are applied, or a function that returns them for a
            field.
    """

    def __init__(self, references: Sequence[Any] | Callable[[Field | None], Sequence[Any]]) -> None:
        super().__init__()
        self.references = references
        self.fields = nn.ModuleDict()

    def bind(self, model: Model, inputs: Collection[str] | None = None) -> None:
        """Create the corruptions of each input field, except labels; called once at build.

        Args:
            model: the model, whose factors read the fields.
            inputs: names of the fields; None: those of all factors.

        Raises:
            BuildError: one of them is not a corruption, or does not fit the data.
            UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
        """
        chains, signature = {}, model.signature
        if inputs is None:
            inputs = [factor.input for factor in model.factors.values()]
        for name in dict.fromkeys(inputs):
            if signature is None or signature[name].kind != "label":
                chains[name] = self._create(None if signature is None else signature.reading(name))
        self.fields = nn.ModuleDict(chains)
        for corruption in dict.fromkeys(each for chain in chains.values() for each in _corruptions(chain)):
            with corruption.error_context():
                corruption.bind(model)

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, "b ..."]]]:
        """Return the corrupted batch, and for each input field a mask of its shape, True at corrupted elements."""
        corrupted, hits = dict(batch), {}
        for name, chain in self.fields.items():
            view: Batch = {"x": batch[name]}
            if f"{name}_mask" in batch:
                view = {**view, "x_mask": batch[f"{name}_mask"]}
            hit = torch.zeros_like(batch[name], dtype=torch.bool)
            for corruption in _corruptions(chain):
                with corruption.error_context(f", field {name}"):
                    view, changed = corruption(view, generator)
                hit = hit | changed
            corrupted[name], hits[name] = view["x"], hit
        return corrupted, hits

    def _create(self, data: Signature | None) -> nn.ModuleList:
        references = self.references
        if callable(references):
            references = references(None if data is None else data["x"])
        corruptions = [create("corruption", reference, data=data) for reference in references]
        for corruption in corruptions:
            if not isinstance(corruption, Corruption):
                raise BuildError(f"{type(corruption).__name__} is not a Corruption")
        return nn.ModuleList(corruptions)


def as_corruptions(corruption: str | Corruption | Sequence[str | Corruption]) -> tuple[str | Corruption, ...]:
    """Return one corruption, or several, as a tuple."""
    return (corruption,) if isinstance(corruption, str | Corruption) else tuple(corruption)


def _corruptions(chain: nn.Module) -> list[Corruption]:
    return [child for child in chain.children() if isinstance(child, Corruption)]
