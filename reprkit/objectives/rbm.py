"""Restricted Boltzmann machine: the encoder's linear map as the weights of an energy, trained by contrastive divergence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.corruptions.base import draw_normal, draw_uniform
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.layers.value_embedding import element_scales
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import Count
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.factor import Factor
    from reprkit.models.model import Model


class RBM(Objective):
    """Contrastive divergence, CD-k (Hinton 2002, Neural Computation 14; Hinton and Salakhutdinov 2006, Science 313).

    The encoder is ``flat``; the core's map after it has the weights W and the hidden biases c, and the objective the visible
    biases b.  What the latent reads are the inputs c + W v of the hidden units: ``continuous(activation='sigmoid')`` gives their
    probabilities.  The energies, with hidden units h of 0 and 1, are

    * "bernoulli": E(v, h) = -b.v - h.(c + W v), for data from 0 to 1 (a value between is a probability);
    * "gaussian": E(v, h) = |v - b|² / 2 - h.(c + W v), with v standardized to the range or the columns of the data.

    In these, v is rescaled as the encoder does, and W and c are those of the rescaled values.  With ``hidden="gaussian"`` the
    hidden units are real, of variance 1 around c + W v, and |h|² / 2 is added to the energy: the linear code of the paper's top
    layer, ``continuous`` without an activation.

    Loss ``rbm``: the free energy of the data minus that of the data after ``k`` steps of Gibbs sampling, averaged over examples;
    its gradient is that of CD-k, its value is no likelihood and may be negative.  Metric ``error``: squared error of an example
    after one step, by probabilities.  In evaluation the draws use a fixed seed.

    Args:
        k: number of Gibbs steps.
        visible: kind of visible units; None takes "bernoulli" for data in (0, 1), else "gaussian".
        hidden: kind of hidden units; only one side may be "gaussian", since the energy of two has no lower bound for large weights.
        factor: the factor; None means the only factor.

    Raises:
        BuildError: symbols or categories, an encoder with layers of its own, "bernoulli" for data of another range, Gaussian units
            on both sides, or a pooled or discrete factor.
    """

    needs = frozenset({"encoder"})
    center: Tensor
    radius: Tensor

    def __init__(
        self,
        k: Count = 1,
        *,
        visible: Literal["bernoulli", "gaussian"] | None = None,
        hidden: Literal["bernoulli", "gaussian"] = "bernoulli",
        factor: str | None = None,
    ) -> None:
        super().__init__()
        self.k, self.visible, self.hidden, self.factor = k, visible, hidden, factor
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("center", torch.zeros(1), persistent=False)
        self.register_buffer("radius", torch.ones(1), persistent=False)

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return a flat encoder and the probabilities of six hidden units."""
        return {"encoder": "flat", "latent": "continuous(dim=6, activation='sigmoid')"}

    def bind(self, model: Model) -> None:
        """Check the factor, and create the visible biases."""
        name = resolve_factor(model.factors, self.factor, "objective rbm")
        factor = model.factors[name]
        if "dense" not in factor.encoder.provides or len(factor.encoder.layers):  # type: ignore[arg-type]
            raise BuildError(
                f"objective rbm: the weights are the core's map after the encoder, and that of factor {name} has layers of its "
                "own: use encoder flat"
            )
        if model.signature is None:
            raise BuildError("objective rbm needs the data's signature: build the model with data=")
        field = model.signature[factor.input]
        if field.discrete or any(column.kind == "category" for column in field.columns):
            raise BuildError(
                f"objective rbm is for real values, and field {factor.input!r} holds symbols or categories"
            )
        unit = field.range == (0.0, 1.0)
        self.bernoulli = unit if self.visible is None else self.visible == "bernoulli"
        if self.bernoulli and not unit:
            raise BuildError(
                f"rbm(visible='bernoulli') needs data from 0 to 1, and the range of {factor.input!r} is {field.range}: "
                "use 'gaussian'"
            )
        if self.hidden == "gaussian" and not self.bernoulli:
            raise BuildError(
                f"rbm(hidden='gaussian') needs visible units of 0 and 1, and those of field {factor.input!r} are Gaussian, too: "
                "the energy has no lower bound; use hidden='bernoulli', or decoder flat instead of an rbm"
            )
        self.name, self.shape = name, tuple(int(size or 0) for size in field.shape)
        rescaled = not isinstance(factor.encoder.rescale, nn.Identity)
        if not rescaled and not self.bernoulli:
            raise BuildError(
                f"objective rbm: the Gaussian visible units of field {factor.input!r} have a variance of 1, so the encoder must "
                "rescale the data: use flat without rescale=False"
            )
        center, radius = element_scales(field) if rescaled else (torch.zeros(1), torch.ones(1))
        self.center, self.radius = center.to(self.bias), radius.to(self.bias)
        self.bias = nn.Parameter(torch.zeros(factor.encoder.out_dim))

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        factor = model.factors[self.name]
        model.encode(batch, factors=(self.name,))  # for the latent's losses and usage
        generator = None if model.training else torch.Generator().manual_seed(0)
        data = factor.view(batch)["x"].flatten(1)
        with torch.no_grad():
            drawn = data
            for step in range(self.k):
                drawn, mean = self.gibbs_step(factor, drawn, generator)
                if step == 0:
                    model.record(error=(mean - data).square().sum(1).mean())
        difference = self.free_energy(factor, data) - self.free_energy(factor, drawn)
        return {"rbm": (difference.sum(), len(data))}

    def free_energy(self, factor: Factor, x: Float[Tensor, "b p"]) -> Float[Tensor, " b"]:
        """Return -log of the sum over h of exp(-E(v, h)), up to a constant, for data (b p) in its own units."""
        inputs = self.hidden_inputs(factor, x)
        hidden = (inputs.square() / 2 if self.hidden == "gaussian" else F.softplus(inputs)).sum(1)
        v = self._units(x)
        if self.bernoulli:
            return -(v * self.bias).sum(1) - hidden
        return (v - self.bias).square().sum(1) / 2 - hidden

    def hidden_inputs(self, factor: Factor, x: Float[Tensor, "b p"]) -> Float[Tensor, "b h"]:
        """Return c + W v of every hidden unit."""
        return factor.features({factor.input: x.unflatten(1, self.shape)}).x[:, 0]

    def gibbs_step(
        self, factor: Factor, x: Float[Tensor, "b p"], generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw hidden units given the data (b p), and new data given these; return it and its mean, in the data's own units."""
        inputs = self.hidden_inputs(factor, x)
        if self.hidden == "gaussian":
            hidden = inputs + draw_normal(inputs, generator)
        else:
            rates = torch.sigmoid(inputs)
            hidden = (draw_uniform(tuple(rates.shape), rates, generator) < rates).to(rates)
        weight, bias = self.visible_map(factor)
        mean = F.linear(hidden, weight, bias)
        if self.bernoulli:
            mean = torch.sigmoid(mean)
            return (draw_uniform(tuple(mean.shape), mean, generator) < mean).to(mean), mean
        center, radius = (self._repeated(each) for each in (self.center, self.radius))
        return center + radius * (mean + draw_normal(mean, generator)), center + radius * mean

    @torch.no_grad()
    def fit_bias(self, model: Model, data: Dataset) -> None:
        """Set the visible biases to those of independent units with the data's means, before training.

        Otherwise the weights learn the means first (Hinton 2010, "A practical guide to training restricted Boltzmann machines",
        section 8.1).  A share of ones is taken as at least 0.01 and at most 0.99.

        Args:
            model: the model that the objective is of.
            data: its training data.
        """
        factor = model.factors[self.name]
        total = torch.zeros(len(self.bias), dtype=torch.float64)
        for batch in data.batches():
            total += self._units(factor.view(batch)["x"].flatten(1).to(self.center)).sum(0).double().cpu()
        mean = total / len(data)
        self.bias.copy_(torch.logit(mean.clamp(0.01, 0.99)) if self.bernoulli else mean)

    def visible_map(self, factor: Factor) -> tuple[Float[Tensor, "p h"], Float[Tensor, " p"]]:
        """Return weight and bias of the map from hidden units to the visible ones' logits, or standardized means."""
        # v is rescaled before W: a binary element's share of the energy is v (b + W'h / radius) and a constant.
        weight = factor.adapter.weight.T
        return (weight / self.radius if self.bernoulli else weight), self.bias

    def hidden_map(self, factor: Factor) -> tuple[Float[Tensor, "h p"], Float[Tensor, " h"]]:
        """Return weight and bias of the map from the data in its own units to c + W v."""
        center, radius = (self._repeated(each) for each in (self.center, self.radius))
        weight = factor.adapter.weight / radius
        return weight, factor.adapter.bias - weight @ center.expand(weight.shape[1])

    def _units(self, x: Float[Tensor, "b p"]) -> Tensor:
        """Return the visible units: 0 to 1, or standardized values."""
        return x if self.bernoulli else (x - self._repeated(self.center)) / self._repeated(self.radius)

    def _repeated(self, each: Tensor) -> Tensor:
        return each if len(each) == 1 else each.repeat(len(self.bias) // len(each))
