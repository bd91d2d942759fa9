"""Masking: what a model predicts where its input was hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Lt
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, exact
from reprkit.evaluation.gallery import fit_for_page
from reprkit.interfaces import Evaluator
from reprkit.layers.value_embedding import unit
from reprkit.models.grid import from_tokens
from reprkit.objectives.masked import Masked, on_hidden, statistics
from reprkit.registry.constraints import CountOrZero
from reprkit.registry.create import create
from reprkit.types import Batch, Decoded

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored


class Masking(Evaluator):
    """Part of each example is hidden, the rest is encoded, and the hidden part is compared with what comes out.

    Encoders that can leave tokens out do not read the hidden ones, as in the masked autoencoder (He et al.
    2021, arXiv 2111.06377); others read elements that were set to nothing (corruption ``mask-elements``).
    The draw is fixed.  Over the hidden elements, padding apart: ``error``, squared error of an example,
    ``mse``, an element's; of symbols ``accuracy``.  Figure: what was shown, the prediction in its gaps, and
    the original.

    Args:
        ratio: share that is hidden, in (0, 1); None takes the model's own where it was trained with
            ``masked``, else 0.75.
        examples: how many are shown.
    """

    def __init__(
        self, ratio: Annotated[float, Gt(0), Lt(1)] | None = None, *, examples: CountOrZero = 10
    ) -> None:
        super().__init__()
        self.ratio, self.examples = ratio, examples

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """The metrics above.  Raises BuildError where the model has no decoder, or a causal one."""
        if "causal" in model.get_decoder().provides:
            raise BuildError("masking hides what is to be predicted, and a causal decoder reads it")
        trained = next((each for each in model.objective.members if isinstance(each, Masked)), None)
        ratio = self.ratio or (trained.ratio if trained else 0.75)
        total: dict[str, float] = {}
        examples, elements, first = 0, 0.0, None
        for each in batches(data, "masking"):
            batch = model.to_device(each)
            scored = _predicted(model, batch, ratio)
            decoded, target, weight = scored.decoded, scored.target, scored.full_weight
            x = decoded.x
            if trained is not None and trained.normalize:
                mean, deviation = statistics(target)
                x = x * deviation + mean
            if decoded.likelihood == "categorical":
                found = {"right": (x == target).float()}
            else:
                found = {"squares": exact(x - target).square()}
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + float((exact(value) * exact(weight)).sum())
            examples, elements = examples + len(x), elements + float(weight.sum())
            if first is None and self.examples:
                first = self._figures(model, batch, x, target, weight, decoded)
        elements = max(elements, 1.0)
        if "right" in total:
            measured: dict[str, Any] = {"accuracy": total["right"] / elements}
        else:
            measured = {"error": total["squares"] / examples, "mse": total["squares"] / elements}
        return {**measured, "ratio": ratio, **({"figures": first} if first else {})}

    def _figures(
        self, model: Model, batch: Batch, x: Tensor, target: Tensor, weight: Tensor, decoded: Decoded
    ) -> dict[str, Any]:
        from reprkit.reporting.field_figures import exhibit

        field, hidden = model.output_field, weight > 0
        if field.discrete:
            nothing: float = field.vocab or 0
        else:
            nothing = unit(field)[0] if field.kind == "image" else float("nan")
        rows = {
            "shown": torch.where(hidden, torch.full_like(target, nothing), target),
            "predicted": torch.where(hidden, x, target),
            "original": target,
        }
        laid = {
            name: fit_for_page(from_tokens(row[: self.examples], decoded.grid or (1,), field), field)
            for name, row in rows.items()
        }
        mask = batch.get(f"{model.output}_mask")
        lengths = None if mask is None else np.asarray(mask[: self.examples].sum(-1).cpu())
        made = exhibit("What is predicted from what is shown", field, laid, lengths=lengths)
        return {f"masked-{number}" if number else "masked": each for number, each in enumerate(made)}


def _predicted(model: Model, batch: Batch, ratio: float) -> Scored:
    """What comes out; the elements that were hidden count."""
    if _leaves_out(model, batch):
        codes, hidden = Masked(ratio).hide(model, batch)
        scored = model.score(batch, codes)
        return scored.counting(on_hidden(model, batch, scored.decoded, hidden))
    damage = create("corruption", f"mask-elements(ratio={ratio})", data=model.signature)
    damaged, hit = damage(batch, torch.Generator().manual_seed(0))
    scored = model.score(batch, view=damaged)
    return scored.counting(model.as_tokens(hit, scored.decoded).float())


def _leaves_out(model: Model, batch: Batch) -> bool:
    encoders = [(path.encoder, path.view(batch)) for path in model.factors.values()]
    return all("keep" in each.provides and each.count(view) > 1 for each, view in encoders)
