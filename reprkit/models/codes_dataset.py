"""A data set of the codes of a trained model, on which a second model can learn a prior."""

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
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.models.model import Model

_INT16_SYMBOLS = 2**15  # symbols that fit into 16 bits


class CodesOf(Tensors):
    """The codes of one factor for every example, encoded once, in evaluation mode: field ``x``, and the data's labels.

    Discrete latents give tokens (n*q,), the q slots of a token next to each other, in reading order; continuous ones
    a sequence of vectors (n d).  Examples are those of ``data``, in its order, and ``split`` divides them as
    ``data.split`` does: a test example of the first model is a test example of the second.

    Two-stage models: van den Oord et al. 2017 (arXiv 1711.00937), section 3.3.

    Args:
        model: the folder of a checkpoint, or a model.
        data: a data set, or a reference to one.
        factor: the factor whose codes are used; by default the only one.
        batch: number of examples that are encoded at a time.
        device: device for encoding, to which the model is moved; by default a GPU if there is one, or a given model's own.

    Raises:
        BuildError: several factors and none named, or slots of different vocabularies.
        CheckpointError: no such checkpoint.
        DataError: data that the model cannot read.
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
        from reprkit.models.factor import resolve_factor
        from reprkit.models.priors import code_field

        loaded = load(model) if isinstance(model, str | Path) else model
        target = device or (
            "cuda" if torch.cuda.is_available() and isinstance(model, str | Path) else loaded.device
        )
        self.model, self.source = loaded.to(target), dataset(data)
        self.factor, self._batch = resolve_factor(loaded.factors, factor, "data set codes"), batch
        latent = loaded.latent(self.factor)
        values = self._encode()
        varies = "x_mask" in values
        width = values["x"].shape[1] // (1 if latent.vocab is None else len(latent.vocab))
        labels = {name: self.source.signature[name] for name in self.source.signature.label_fields()}
        signature = Signature({"x": code_field(latent, None if varies else width), **labels})
        super().__init__(values, signature, name=f"codes of {self.source.name}")

    def split(self, seed: int = 0, *, valid: bool = False, **shares: Any) -> tuple[Dataset, ...]:
        """Return the codes of the parts of ``data.split``."""
        parts = self.source.split(seed, valid=valid, **shares)
        encoded: list[Dataset] = []
        for part in parts:
            if isinstance(part, Subset) and part.data is self.source:
                codes: Dataset = Subset(self, part.indices, part=part.part)
                codes.origin.update(part.origin)  # type: ignore[attr-defined]
            else:  # the data set has a split of its own, whose parts are no subsets of it
                codes = CodesOf(self.model, part, factor=self.factor, batch=self._batch)
            encoded.append(codes)
        return tuple(encoded)

    @torch.no_grad()
    def _encode(self) -> dict[str, Tensor]:
        from reprkit.models.priors import code_to_batch

        latent = self.model.latent(self.factor)
        dtype = torch.int16 if latent.vocab and max(latent.vocab) < _INT16_SYMBOLS else torch.int32
        parts: dict[str, list[Tensor]] = {}
        with eval_mode(self.model):
            for batch in self.source.batches(self._batch):
                fields = code_to_batch(self.model.encode(batch, factors=[self.factor])[self.factor], latent)
                fields |= {name: batch[name] for name in self.source.signature.label_fields()}
                for name, value in fields.items():
                    value = value.detach().cpu()
                    parts.setdefault(name, []).append(
                        value.to(dtype) if name == "x" and latent.vocab else value
                    )
        return {name: _concatenate(values) for name, values in parts.items()}


def _concatenate(values: list[Tensor]) -> Tensor:
    """Concatenate batches, padding all to the longest with zeros."""
    if values[0].ndim == 1:
        return torch.cat(values)
    longest = max(value.shape[1] for value in values)
    return torch.cat([pad_to_length(value, longest) for value in values])
