"""Samples from a model's prior, and whether they only copy the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import Count, Positive, Seed

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

_SHOWN = 32  # samples in the figure
_COMPARED = 512  # test examples whose distances set the scale


class Samples(Evaluator):
    """Examples decoded from codes of a prior, and their distance to the training examples.

    ``novelty`` (with ``fit_on``): the median squared distance of a sample to its nearest training example, divided
    by that of a test example.  Near 1, samples are as far from the training data as real new data; near 0 they
    are copies; far above 1 they resemble no training data.  Meehan et al. 2020 (arXiv 2004.05675) base a test on
    this comparison.

    Args:
        count: number of samples.
        prior: folder of a model trained on ``codes(model=..., data=...)``, or that model; None uses the
            latent's own prior.
        factor: the factor whose codes ``prior`` draws, if there are several.
        temperature: of the draws from ``prior``, positive.
        seed: of the draws.

    Raises:
        PartArgumentError: a value is out of its range.
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
        """Return ``n`` and ``novelty``, and the samples as a figure.

        Raises:
            BuildError: the model has no decoder, no prior, or data of varying length.
        """
        from reprkit.reporting.field_figures import exhibit

        field = model.output_field
        if field.space[0] is None:
            raise BuildError(
                "samples needs data of a fixed length: the length of a sample is otherwise unknown"
            )
        generates = any(member.generates for member in model.objective.members)
        lacking = [name for name in model.factors if not generates and not model.latent(name).has_prior]
        if lacking and self.prior is None:
            raise BuildError(
                f"the latent of {', '.join(lacking)} has no prior: train one on "
                "codes(model=DIR, data=...), and pass its folder, samples(prior=DIR)"
            )
        generator = torch.Generator(model.device).manual_seed(self.seed)
        options = {"temperature": self.temperature, "factor": self.factor} if self.prior is not None else {}
        decoded = model.sample(self.count, generator, prior=self.prior, **options)
        samples = model.to_batch(decoded)[model.output].cpu()
        visible = samples[:_SHOWN].float() if samples.is_floating_point() else samples[:_SHOWN]
        figures = exhibit("Samples", field, {"drawn": visible.numpy()})
        metrics: dict[str, Any] = {"n": self.count}
        if fit_on is not None and not field.discrete:
            real = data.batch(range(min(len(data), _COMPARED)))[model.output]
            nearest = [_nearest_distances(x, fit_on, model.output).median() for x in (samples, real)]
            metrics["novelty"] = float(nearest[0] / nearest[1].clamp(min=1e-12))
        return {
            **metrics,
            "figures": {f"samples {number}" if number else "samples": f for number, f in enumerate(figures)},
        }


def _nearest_distances(x: Tensor, among: Dataset, name: str) -> Tensor:
    """Return the squared distance (n,) of every example to the nearest one of a data set."""
    x = to_float64(x.flatten(1))
    smallest = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for batch in batches(among, "finding neighbors"):
        smallest = torch.minimum(
            smallest, torch.cdist(x, to_float64(batch[name].flatten(1))).square().amin(1)
        )
    return smallest
