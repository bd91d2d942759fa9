"""Interpolation: decode codes on the straight line between two examples' codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import to_float64
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count
from reprkit.types import Code, Codes

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_SHOWN = 6  # pairs in the figure


class Interpolation(Evaluator):
    """Codes on the line between those of two examples, decoded (White 2016, arXiv 1609.04468, for the idea).

    ``path_length``: length of the output's path over the distance of its ends, both Euclidean: 1 is a
    cross-fade, more is a detour through other data.  ``evenness``: the smallest step relative to equal steps,
    in [0, 1]: near 0 the output jumps somewhere and stands still elsewhere.  Means over pairs whose outputs
    differ.

    Args:
        steps: points on each line, including both ends, at least 3.
        pairs: number of pairs of consecutive examples of the data.

    Raises:
        PartArgumentError: a value is out of its range.
    """

    def __init__(self, steps: Annotated[int, Ge(3), Le(1000)] = 9, *, pairs: Count = 32) -> None:
        super().__init__()
        self.steps, self.pairs = steps, pairs

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics, and the lines as a figure.

        Raises:
            BuildError: the output consists of symbols, which have no distance, or the decoder is causal.
            DataError: fewer than two examples, or examples of different lengths.
        """
        from reprkit.reporting.field_figures import exhibit

        model.require_decoded_data()
        field = model.output_field
        if field.discrete or "causal" in model.get_decoder().provides or not len(model.factors):
            raise BuildError("interpolation needs an encoder and a decoder of real values that is not causal")
        if len(data) < 2 or field.space[0] is None:
            raise DataError("interpolation needs at least two examples, all of one length")
        pairs = min(self.pairs, len(data) // 2)
        codes = model.encode(data.batch(range(2 * pairs)))
        line = torch.linspace(0, 1, self.steps, device=model.device)
        outputs = []
        for pair in range(pairs):
            between = {}
            for name, code in codes.items():
                ends = code.point[2 * pair], code.point[2 * pair + 1]
                points = torch.stack([torch.lerp(*ends, float(weight)) for weight in line])
                between[name] = Code.of(code, z=points)
            outputs.append(model.to_batch(model.decode(Codes(between)))[model.output])
        stacked = torch.stack(outputs)
        rows = {
            f"pair {number + 1}": row.float().cpu().numpy() for number, row in enumerate(stacked[:_SHOWN])
        }
        figures = exhibit("Between two codes", field, rows, names=[f"{float(weight):.0%}" for weight in line])
        named = {f"interpolation {n}" if n else "interpolation": figure for n, figure in enumerate(figures)}
        return {**_smoothness(stacked.flatten(2)), "n": pairs, "figures": named}


def _smoothness(outputs: Float[Tensor, "p s d"]) -> dict[str, float]:
    """Compute path length and evenness of decoded lines."""
    outputs = to_float64(outputs)
    steps = (outputs[:, 1:] - outputs[:, :-1]).norm(dim=-1)
    direct = (outputs[:, -1] - outputs[:, 0]).norm(dim=-1)
    moved = direct > 1e-9 * outputs.abs().amax().clamp(min=1e-30)
    if not bool(moved.any()):
        return {"path_length": 1.0, "evenness": 1.0}
    steps, direct = steps[moved], direct[moved]
    total = steps.sum(1)
    return {
        "path_length": float((total / direct).mean()),
        "evenness": float((steps.amin(1) * steps.shape[1] / total).mean()),
    }
