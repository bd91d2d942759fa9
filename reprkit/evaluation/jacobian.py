"""How the code, or the output, changes with the data: singular values of the Jacobian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import to_float64
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

AT_ONCE = 32  # examples whose Jacobians are in memory together


class Jacobian(Evaluator):
    """Singular values of each example's Jacobian (Rifai et al. 2011, ICML, section 5.3): the directions in which the code responds.

    Metrics, each a mean over examples: ``norm``, the Frobenius norm; ``largest``, the largest singular value;
    ``dimension``, the effective local dimension, exp of the entropy of the normalized singular values (Roy and Vetterli 2007,
    section 3), from 1 to the width, 0 where the Jacobian is zero.  Figure: the mean singular values.

    Args:
        of: "code" or "output".
        factor: the factor that is differentiated; None means the only factor.
        examples: how many examples, evenly over the data set; each costs a backward pass for each element of the result.

    Raises:
        BuildError: a discrete latent, a field of symbols, or no encoder.
    """

    def __init__(
        self, *, of: Literal["code", "output"] = "code", factor: str | None = None, examples: Count = 64
    ) -> None:
        super().__init__()
        self.of, self.factor, self.examples = of, factor, examples

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above and the figure."""
        from reprkit.reporting.figures import Bars

        if not len(model.factors):
            raise BuildError("this model has no encoder, so its output does not depend on the data")
        count = min(self.examples, len(data))
        indices = [number * len(data) // count for number in range(count)]
        values = []
        for start in range(0, count, AT_ONCE):
            batch = data.batch(indices[start : start + AT_ONCE])
            found = to_float64(model.jacobian(batch, self.of, factor=self.factor).detach())
            # Of the smaller Gram matrix, whose size does not depend on the data's.
            wide = found.shape[1] <= found.shape[2]
            gram = found @ found.mT if wide else found.mT @ found
            values.append(torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(-1))
        width = max(each.shape[1] for each in values)
        singular = torch.cat(
            [torch.nn.functional.pad(each, (0, width - each.shape[1])) for each in values]
        ).cpu()
        largest = singular[:, :1]
        kept = singular.where(singular > 1e-7 * largest, 0)  # rounding leaves 1e-8 of the largest
        shares = kept / kept.sum(1, keepdim=True).clamp(min=1e-300)
        dimension = torch.special.entr(shares).sum(1).exp() * (largest[:, 0] > 0)
        figure = Bars(
            title=f"Singular values of the Jacobian of the {self.of}",
            values=singular.mean(0).numpy(),
            xlabel="singular values, largest first",
            ylabel="mean over examples",
            caption=f"{count} examples.",
        )
        return {
            "norm": float(singular.square().sum(1).sqrt().mean()),
            "largest": float(largest.mean()),
            "dimension": float(dimension.mean()),
            "figures": {"singular-values": figure},
        }
