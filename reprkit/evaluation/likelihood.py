"""Likelihood of unseen data under a model with a prior, by importance sampling over its codes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, to_float64
from reprkit.interfaces import Evaluator, Latent
from reprkit.registry.constraints import Count
from reprkit.types import Batch, Code, Codes, Decoded, Features
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored


class Likelihood(Evaluator):
    """-log p(x) of the output field, nats per example, estimated with ``samples`` draws from the posterior.

    ``nll`` is the importance-weighted bound, -log (1/k) Σ p(x|z) p(z) / q(z|x) (Burda et al. 2016, arXiv
    1509.00519, equation 8), never below the true value in expectation, and tighter with more samples;
    ``negative_elbo`` the same with k = 1 (Kingma and Welling 2014); ``bits_per_dim`` is ``nll`` in bits per
    element.  A deterministic latent (vq) has p(x) ≥ p(x|z) p(z) for its one code, so it needs one sample, and
    a prior: a second model's, ``prior=``; then ``code_bits`` is the cost of the code under it.

    Args:
        samples: k, number of draws per example.
        prior: folder of a model trained on ``codes(model=..., data=...)``, or that model; None uses the
            latent's own prior.
        factor: the factor whose codes ``prior`` models, if there are several.
        levels: number of values of an element (256 for 8-bit pixels, evenly spaced over the range of the
            data).  A density (gaussian, laplace) is then integrated over each value's bin, the outermost to infinity
            (Salimans et al. 2017, arXiv 1701.05517, section 2.1), which makes it a probability; without
            it, ``nll`` is that of a density and ``bits_per_dim`` may be negative.

    Raises:
        PartArgumentError: a value is out of its range.
    """

    def __init__(
        self,
        samples: Count = 64,
        *,
        prior: str | Model | None = None,
        factor: str | None = None,
        levels: Annotated[int, Ge(2), Le(2**16)] | None = None,
    ) -> None:
        super().__init__()
        self.samples, self.prior, self.factor, self.levels = samples, prior, factor, levels

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.

        Raises:
            BuildError: no decoder, a latent without a prior, a continuous latent without a density, or a prior
                trained on other codes.
        """
        from reprkit.models.factor import resolve_factor
        from reprkit.models.priors import prior_of_codes

        priors: dict[str, Model] = {}
        if self.prior is not None:
            name = resolve_factor(model.factors, self.factor, "likelihood")
            priors[name] = prior_of_codes(model, name, self.prior).eval()
        totals = {"nll": 0.0, "negative_elbo": 0.0, "code": 0.0}
        examples, elements, draws = 0, 0.0, 0
        with collectives.local_only():
            for batch in batches(data, "estimating the likelihood"):
                weights, code, size = self._weights(model, model.to_device(batch), priors)
                totals["nll"] -= float((weights.logsumexp(0) - math.log(len(weights))).sum())
                totals["negative_elbo"] -= float(weights.mean(0).sum())
                totals["code"] -= float(code.mean(0).sum())
                draws, examples = len(weights), examples + weights.shape[1]
                elements += size
        metrics = {name: totals[name] / examples for name in ("nll", "negative_elbo")}
        metrics["bits_per_dim"] = totals["nll"] / elements / math.log(2)
        if priors:
            metrics["code_bits"] = totals["code"] / examples / math.log(2)
        return {**metrics, "samples": draws}

    def _weights(
        self, model: Model, batch: Batch, priors: dict[str, Model]
    ) -> tuple[Float[Tensor, "k b"], Float[Tensor, "k b"], float]:
        """Return log p(x|z) p(z) / q(z|x) and log p(z) of every draw, and the number of valid elements."""
        features = {name: factor.features(batch) for name, factor in model.factors.items()}
        # A latent with a posterior returns the log-probability of its value in evaluation mode, too.
        random = {n for n, factor in model.factors.items() if factor.code(features[n]).log_prob is not None}
        weights, code_log_priors = [], []
        elements = 0.0
        for _ in range(self.samples):
            codes, log_prior, log_posterior = self._draw(model, features, priors, random)
            scored = model.score(batch, Codes(codes))
            nats = self._nats(model, scored)
            elements = float(scored.full_weight.sum())
            weights.append(log_prior - log_posterior - nats)
            code_log_priors.append(log_prior.expand(len(nats)))
            if not random:
                break  # all draws are equal
        return torch.stack(weights), torch.stack(code_log_priors), elements

    def _nats(self, model: Model, scored: Scored) -> Float[Tensor, " b"]:
        """Return -log p(x|z) of each example, float64."""
        decoded, field = scored.decoded, model.output_field
        if self.levels is None or not decoded.likelihood.density:
            return to_float64(scored.per_example)
        if field.range is None:
            raise BuildError(
                f"likelihood(levels={self.levels}) needs the range of field {model.output!r}, which the data does not declare"
            )
        elements = discretized_nll(decoded, scored.target, field.range, self.levels) * scored.full_weight
        nats = to_float64(elements).flatten(1).sum(1)
        return nats if decoded.code_nll is None else nats + to_float64(decoded.code_nll)

    def _draw(
        self, model: Model, features: dict[str, Features], priors: dict[str, Model], random: set[str]
    ) -> tuple[dict[str, Code], Tensor, Tensor]:
        """Draw every factor's code; return it with its log-probability (b) under the prior and under the posterior."""
        from reprkit.models.priors import code_to_batch, log_prob

        codes: dict[str, Code] = {}
        log_prior = log_posterior = torch.zeros((), dtype=torch.float64)
        for name, factor in model.factors.items():
            with _sampling_mode(factor.latent) if name in random else nullcontext():
                code = factor.code(features[name])
            if code.mean is not None and code.log_prob is not None:
                log_posterior = log_posterior + to_float64(code.log_prob).sum(1)
            elif factor.latent.vocab is None:
                raise BuildError(
                    f"the code of latent {factor.latent.qualified or type(factor.latent).__name__} has no "
                    "density, so the model defines no likelihood: use a latent with a posterior, such as gaussian"
                )
            if code.indices is not None:  # a relaxed draw represents the drawn entry
                code = Code.of(features[name], z=factor.latent.embed(code.indices), indices=code.indices)
            codes[name] = code
            if name in priors:
                log_prior = log_prior + to_float64(log_prob(priors[name], code_to_batch(code, factor.latent)))
            elif factor.latent.has_prior:
                log_prior = log_prior + to_float64(factor.latent.log_prior(code)).sum(1)
            else:
                raise BuildError(
                    f"latent {factor.latent.qualified or type(factor.latent).__name__} has no prior: train one "
                    "on codes(model=DIR, data=...), and pass its folder, likelihood(prior=DIR)"
                )
        return codes, log_prior, log_posterior


def discretized_nll(
    decoded: Decoded, target: Tensor, span: tuple[float, float], levels: int
) -> Float[Tensor, "b n p"]:
    """Compute the negative log-probability, in nats, of each element's bin under a density.

    ``levels`` values are spaced evenly over ``span``.  The bin of each ends half-way to its neighbors; the bins of the
    two extremes extend to infinity, so that the probabilities sum to 1 (Salimans et al. 2017, arXiv
    1701.05517, section 2.1).
    """
    value = target.double()
    half = 0.5 * (span[1] - span[0]) / (levels - 1)
    low = torch.where(value <= span[0] + half, -math.inf, value - half)
    high = torch.where(value >= span[1] - half, math.inf, value + half)
    return -decoded.likelihood.log_mass(decoded.params, low, high)


@contextmanager
def _sampling_mode(latent: Latent) -> Iterator[None]:
    """Context in which a latent draws from its posterior, as in training; such latents keep no running statistics."""
    latent.train()
    try:
        yield
    finally:
        latent.eval()
