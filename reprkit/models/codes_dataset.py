"""The codes that a trained model gives another data set: what a second model learns a prior over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data.base import Dataset, Subset
from reprkit.data.formats.tensors import Tensors
from reprkit.data.padding import pad_to_length
from reprkit.data.signature import Signature
from reprkit.registry.constraints import Count

if TYPE_CHECKING:
    from reprkit.models.model import Model

_NARROW = 2**15  # symbols that fit into 16 bits


class CodesOf(Tensors):
    """One factor's codes of every example, encoded once, in evaluation mode: field ``x``, and the data's labels.

    Discrete latents give tokens (n*q,), the slots of a token side by side, in reading order; continuous ones
    a sequence of vectors (n d).  Examples are those of ``data``, in its order, and ``split`` divides them as
    ``data.split`` does: what was test to the first model is test to the second.

    Two-stage models: van den Oord et al. 2017 (arXiv 1711.00937), section 3.3.

    Args:
        model: the folder of a checkpoint, or a model.
        data: a data set, or a reference to one.
        factor: whose codes; the only one when not given.
        batch: examples encoded at a time.
        device: where to encode; a GPU when there is one.

    Raises:
        BuildError: several factors and none named, or slots of different vocabularies.
        CheckpointError: no such checkpoint.
        DataError: data that is not what the model was made for.
    """

    def __init__(
        self,
        model: str | Model,
        data: str | Dataset,
        *,
        factor: str | None = None,
        batch: Count = 256,
        device: str | None = None,
    ) -> None:
        from reprkit.checkpoints.save_load import load
        from reprkit.data.resolve import dataset
        from reprkit.evaluation.encoding import label_fields
        from reprkit.models.factor import factor_of
        from reprkit.models.priors import field_of

        made = load(model) if isinstance(model, str | Path) else model
        place = device or (
            "cuda" if torch.cuda.is_available() and isinstance(model, str | Path) else made.device
        )
        self.model, self.source = made.to(place), dataset(data)
        self.factor, self._batch = factor_of(made.factors, factor, "data set codes"), batch
        latent = made.latent(self.factor)
        values = self._encode()
        varies = "x_mask" in values
        width = values["x"].shape[1] // (1 if latent.vocab is None else len(latent.vocab))
        labels = {name: self.source.signature[name] for name in label_fields(self.source)}
        signature = Signature({"x": field_of(latent, None if varies else width), **labels})
        super().__init__(values, signature, name=f"codes of {self.source.name}")

    def split(self, seed: int = 0, *, valid: bool = False, **shares: Any) -> tuple[Dataset, ...]:
        """The parts of ``data.split``, as codes."""
        parts = self.source.split(seed, valid=valid, **shares)
        made: list[Dataset] = []
        for part in parts:
            if isinstance(part, Subset) and part.data is self.source:
                mine: Dataset = Subset(self, part.indices, part=part.part)
                mine.origin.update(part.origin)  # type: ignore[attr-defined]
            else:  # a division of the set's own
                mine = CodesOf(self.model, part, factor=self.factor, batch=self._batch)
            made.append(mine)
        return tuple(made)

    @torch.no_grad()
    def _encode(self) -> dict[str, Tensor]:
        from reprkit.evaluation.encoding import label_fields
        from reprkit.models.priors import as_data

        latent, training = self.model.latent(self.factor), self.model.training
        narrow = torch.int16 if latent.vocab and max(latent.vocab) < _NARROW else torch.int32
        parts: dict[str, list[Tensor]] = {}
        self.model.eval()
        try:
            for batch in self.source.batches(self._batch):
                made = as_data(self.model.encode(batch, factors=[self.factor])[self.factor], latent)
                made |= {name: batch[name] for name in label_fields(self.source)}
                for name, value in made.items():
                    value = value.detach().cpu()
                    parts.setdefault(name, []).append(
                        value.to(narrow) if name == "x" and latent.vocab else value
                    )
        finally:
            self.model.train(training)
        return {name: _joined(values) for name, values in parts.items()}


def _joined(values: list[Tensor]) -> Tensor:
    """Batches one after another; those padded to a shorter length are filled up with zeros."""
    if values[0].ndim == 1:
        return torch.cat(values)
    longest = max(value.shape[1] for value in values)
    return torch.cat([pad_to_length(value, longest) for value in values])
