"""Samples: what a model makes from its prior, and whether it only copies what it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, exact
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count, Positive, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_SHOWN = 32  # samples in the picture
_COMPARED = 512  # test examples whose distances set the scale


class Samples(Evaluator):
    """New examples decoded from codes of a prior, and how far they lie from the training examples.

    ``novelty`` (with ``fit_on``): the median squared distance of a sample to its nearest training example, over
    the same of a test example.  Near 1 samples lie as far from what was seen as real new data does; near 0 they
    are copies; far above 1 they look like nothing that was seen.  Meehan et al. 2020 (arXiv 2004.05675) make a
    test of this comparison.

    Args:
        count: how many samples.
        prior: folder of a model trained on ``codes(model=..., data=...)``, or that model; the latent's own
            prior when not given.
        factor: whose codes ``prior`` draws, where there are several.
        temperature: of the draws from ``prior``, positive.
        seed: of the draws.

    Raises:
        PartArgumentError: a value out of its range.
    """

    def __init__(
        self,
        count: Count = 64,
        *,
        prior: str | Model | None = None,
        factor: str | None = None,
        temperature: Positive = 1.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.count, self.prior, self.factor, self.seed = count, prior, factor, seed
        self.temperature = temperature

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """``n`` and ``novelty``, and the samples as a figure.

        Raises:
            BuildError: the model has no decoder, no prior, or data of varying length, whose samples have no length.
        """
        from reprkit.reporting.field_figures import exhibit

        field = model.output_field
        if field.space[0] is None:
            raise BuildError("samples needs data of a fixed length: how long a sample is cannot be known")
        without = [name for name in model.factors if not model.latent(name).has_prior]
        if without and self.prior is None:
            raise BuildError(
                f"the latent of {', '.join(without)} has no prior of its own: learn one over "
                "codes(model=DIR, data=...), and give its folder, samples(prior=DIR)"
            )
        generator = torch.Generator(model.device).manual_seed(self.seed)
        how = {"temperature": self.temperature, "factor": self.factor} if self.prior is not None else {}
        drawn = model.sample(self.count, generator, prior=self.prior, **how)
        made = model.to_batch(drawn)[model.output].cpu()
        shown = made[:_SHOWN].float() if made.is_floating_point() else made[:_SHOWN]
        figures = exhibit("Samples", field, {"drawn": shown.numpy()})
        found: dict[str, Any] = {"n": self.count}
        if fit_on is not None and not field.discrete:
            real = data.batch(range(min(len(data), _COMPARED)))[model.output]
            nearest = [_nearest(each, fit_on, model.output).median() for each in (made, real)]
            found["novelty"] = float(nearest[0] / nearest[1].clamp(min=1e-12))
        return {
            **found,
            "figures": {f"samples {place}" if place else "samples": f for place, f in enumerate(figures)},
        }


def _nearest(x: Tensor, among: Dataset, name: str) -> Tensor:
    """The squared distance (n,) of every example to the nearest one of a data set."""
    x = exact(x.flatten(1))
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for batch in batches(among, "looking for neighbours"):
        best = torch.minimum(best, torch.cdist(x, exact(batch[name].flatten(1))).square().amin(1))
    return best
