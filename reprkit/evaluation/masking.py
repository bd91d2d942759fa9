"""Masking: predictions of a model for the hidden part of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Lt
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Evaluator
from reprkit.layers.value_embedding import center_and_radius
from reprkit.models.grid import from_tokens
from reprkit.objectives.masked import Masked, hidden_weight
from reprkit.registry.constraints import CountOrZero
from reprkit.registry.create import create
from reprkit.reporting.gallery import fit_for_page
from reprkit.types import Batch, Decoded

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored


class Masking(Evaluator):
    """Hide part of each example, encode the rest, and compare the output with the hidden part.

    Encoders that can drop tokens do not read the hidden ones, as in the masked autoencoder (He et al.
    2021, arXiv 2111.06377); others read elements that were blanked (corruption ``mask-elements``).
    The random draw is fixed.  Over the hidden elements, without padding: ``error``, squared error per
    example, ``mse``, per element; for symbols ``accuracy``.  Figure: the visible part, the prediction in its
    gaps, and the original.

    Args:
        ratio: hidden share, in (0, 1); None takes the model's own if it was trained with ``masked``,
            else 0.75.
        examples: number of examples in the figure.
    """

    def __init__(
        self, ratio: Annotated[float, Gt(0), Lt(1)] | None = None, *, examples: CountOrZero = 10
    ) -> None:
        super().__init__()
        self.ratio, self.examples = ratio, examples

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.  Raises BuildError if the model has no decoder, or a causal one."""
        if "causal" in model.get_decoder().provides:
            raise BuildError("masking hides elements to be predicted, but a causal decoder reads them")
        trained = next((member for member in model.objective.members if isinstance(member, Masked)), None)
        ratio = self.ratio or (trained.ratio if trained else 0.75)
        total: dict[str, float] = {}
        examples, elements, first = 0, 0.0, None
        for cpu_batch in batches(data, "masking"):
            batch = model.to_device(cpu_batch)
            scored = _predict_hidden(model, batch, ratio)
            decoded, target, weight = scored.decoded, scored.target, scored.full_weight
            x = decoded.x
            if decoded.likelihood.discrete:
                values = {"correct": (x == target).float()}
            else:
                values = {"squares": to_float64(x - target).square()}
            for name, value in values.items():
                total[name] = total.get(name, 0.0) + float((to_float64(value) * to_float64(weight)).sum())
            examples, elements = examples + len(x), elements + float(weight.sum())
            if first is None and self.examples:
                first = self._figures(model, batch, x, target, weight, decoded)
        elements = max(elements, 1.0)
        if "correct" in total:
            metrics: dict[str, Any] = {"accuracy": total["correct"] / elements}
        else:
            metrics = {"error": total["squares"] / examples, "mse": total["squares"] / elements}
        return {**metrics, "ratio": ratio, **({"figures": first} if first else {})}

    def _figures(
        self, model: Model, batch: Batch, x: Tensor, target: Tensor, weight: Tensor, decoded: Decoded
    ) -> dict[str, Any]:
        from reprkit.reporting.field_figures import exhibit

        field, hidden = model.output_field, weight > 0
        if field.discrete:
            blank: float = field.vocab or 0
        else:
            blank = center_and_radius(field)[0] if field.kind == "image" else float("nan")
        rows = {
            "shown": torch.where(hidden, torch.full_like(target, blank), target),
            "predicted": torch.where(hidden, x, target),
            "original": target,
        }
        arrays = {
            name: fit_for_page(from_tokens(row[: self.examples], decoded.grid or (1,), field), field)
            for name, row in rows.items()
        }
        mask = batch.get(f"{model.output}_mask")
        varies = mask is not None and field.kind != "vector"  # a vector's mask is of missing values
        lengths = np.asarray(mask[: self.examples].sum(-1).cpu()) if mask is not None and varies else None
        figures = exhibit("What is predicted from what is shown", field, arrays, lengths=lengths)
        return {f"masked-{number}" if number else "masked": figure for number, figure in enumerate(figures)}


def _predict_hidden(model: Model, batch: Batch, ratio: float) -> Scored:
    """Score the output on the hidden elements."""
    if _can_drop_tokens(model, batch):
        codes, hidden = Masked(ratio).hide(model, batch)
        scored = model.score(batch, codes)
        return scored.restrict(hidden_weight(model, batch, scored.decoded, hidden))
    corrupt = create("corruption", f"mask-elements(ratio={ratio})", data=model.signature)
    corrupted, hit = corrupt(batch, torch.Generator().manual_seed(0))
    scored = model.score(batch, view=corrupted)
    return scored.restrict(model.as_tokens(hit, scored.decoded).float())


def _can_drop_tokens(model: Model, batch: Batch) -> bool:
    encoders = [(factor.encoder, factor.view(batch)) for factor in model.factors.values()]
    return all("keep" in encoder.provides and encoder.count(view) > 1 for encoder, view in encoders)
