"""Total correlation of a code's dimensions, as a penalty: estimated from the minibatch, or by a critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.errors import BuildError, DataError
from reprkit.interfaces import Objective, Term, require
from reprkit.kernels.mixture_density import mixture_log_densities
from reprkit.latents.functional import draw_noise
from reprkit.layers.dense import hidden_layers
from reprkit.models.factor import masked_mean, resolve_factor
from reprkit.registry.constraints import LARGEST_COUNT, Depth, Width
from reprkit.types import Batch, Code
from reprkit.utils import collectives
from reprkit.utils.precision import at_least_float32

if TYPE_CHECKING:
    from reprkit.models.model import Model


class TotalCorrelation(Objective):
    """The divergence of a code's distribution from the product of its dimensions' distributions, KL(q(z) || q(z_1) ... q(z_d)).

    A factor's code with no total correlation has independent dimensions.  Beside a Gaussian's KL of weight 1, weight w makes
    beta-TCVAE with beta = w + 1, and with a critic FactorVAE with gamma = w: ``"reconstruction + 5 * total-correlation"``.  Alone
    it becomes ``"reconstruction + total-correlation"``.  An example's vector is the masked mean of its code over tokens.

    - "minibatch": minibatch-weighted sampling (Chen et al. 2018, arXiv 1802.04942, section 4.1 and appendix C.1).  q(z) is the
      mixture of the batch's posteriors.  The data set's size only adds a constant and is left out: equal posteriors give 0.
    - "stratified": minibatch-stratified sampling (appendix C.2), an unbiased estimate of q(z) for a data set of ``examples``.
    - "critic": the log-density ratio by a critic that tells codes from codes whose dimensions are permuted over the batch (Kim and
      Mnih 2018, arXiv 1802.05983, eq. 3 and algorithm 2), here within one batch.  Turn "critic" trains it.  Any latent will do.
      The critic must learn faster than the encoder: ``optimizers={"critic": "adam(lr=5e-3, betas=(0.5, 0.9))"}`` at ``lr=1e-3``.

    The first two need a latent that provides "deviation", such as gaussian.  Examples are those of all ranks.  In evaluation a
    Gaussian code is drawn with a fixed seed, since its mean alone has another distribution.

    Losses: ``total_correlation``, nats an example; ``critic``, cross-entropy, nats an example.  Metric of the critic's turn:
    ``critic_accuracy`` in [0, 1]; .5 is that of independent dimensions.

    Args:
        estimate: see above.
        examples: the size of the data set, for "stratified" alone.
        factor: the factor whose code it is; the only one if None.
        width: units of each hidden layer of the critic; the paper has 1,000.
        depth: hidden layers of the critic; the paper has 5.

    Raises:
        PartArgumentError: ``examples`` without "stratified", or the other way round.
        BuildError: no such factor, a code of one dimension, or a latent without "deviation".
    """

    is_penalty = True
    distributes = "gather"

    def __init__(
        self,
        estimate: Literal["minibatch", "stratified", "critic"] = "minibatch",
        *,
        examples: Annotated[int, Ge(2), Le(LARGEST_COUNT)] | None = None,
        factor: str | None = None,
        width: Width = 256,
        depth: Depth = 3,
    ) -> None:
        super().__init__()
        require(
            (examples is not None) == (estimate == "stratified"),
            "estimate='stratified' needs examples=, the size of the data set, and no other estimate takes it",
        )
        self.estimate, self.examples, self.factor = estimate, examples, factor
        self.width, self.depth = width, depth
        self.needs = frozenset({"encoder"} if estimate == "critic" else {"encoder", "deviation"})
        self.turns = ("main", "critic") if estimate == "critic" else ("main",)
        self.critic: nn.Module = nn.Identity()

    def bind(self, model: Model) -> None:
        """Check the factor's latent, and build the critic for the width of its code."""
        latent = model.latent(self._name(model))
        if latent.out_dim < 2:
            raise BuildError(
                "objective total-correlation compares dimensions of the code, and it has one: use a wider latent"
            )
        if self.estimate == "critic":
            first = nn.Linear(latent.out_dim, self.width)
            layers = hidden_layers(
                first, (self.width,) * self.depth, norm_name="none", activation_name="silu"
            )
            self.critic = nn.Sequential(layers, nn.Linear(self.width, 1))
        elif "deviation" not in latent.provides:
            raise BuildError(
                f"objective total-correlation(estimate={self.estimate!r}) needs the density of each draw, and latent "
                f"{latent.qualified or type(latent).__name__} does not provide 'deviation': use gaussian, or estimate='critic'"
            )

    def _name(self, model: Model) -> str:
        return resolve_factor(model.factors, self.factor, "objective total-correlation")

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch in one turn; the batches of all ranks must have equal sizes.

        Raises:
            DataError: a batch of one example, or a joined batch that is not smaller than ``examples``.
        """
        name = self._name(model)
        if turn == "critic":
            with torch.no_grad():
                z = _draw(model.encode(batch, factors=[name])[name], model.training)
                permuted = _permute_dimensions(z, model.training)
            own, other = self._ratio(z), self._ratio(permuted)
            model.record(critic_accuracy=(torch.cat([own, -other]).detach() > 0).float().mean())
            return {"critic": (0.5 * (F.softplus(-own) + F.softplus(other)).sum(), len(z))}
        code = model.encode(batch, factors=[name])[name]
        z = _draw(code, model.training)
        if self.estimate == "critic":
            return {"total_correlation": (self._ratio(z).sum(), len(z))}
        assert code.deviation is not None
        mean = at_least_float32(masked_mean(code.point, code.mask))
        nats = total_correlation(
            z, mean, _mean_deviation(code), examples=self.examples, over_ranks=model.training
        )
        return {"total_correlation": (nats.sum(), len(z))}

    def _ratio(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        return at_least_float32(self.critic(z)).squeeze(-1)


def total_correlation(
    z: Float[Tensor, "b d"],
    mean: Float[Tensor, "b d"],
    deviation: Float[Tensor, "b d"],
    *,
    examples: int | None = None,
    over_ranks: bool = False,
) -> Float[Tensor, " b"]:
    """Return log q(z) - sum of log q(z_d) of each draw, nats, where q is the mixture of the batch's posteriors.

    Args:
        z: a draw from each posterior.
        mean: of the posteriors.
        deviation: of the posteriors.
        examples: the size of the data set, whose stratified weights the posteriors get (Chen et al. 2018, appendix C.2); None:
            equal weights.
        over_ranks: whether the mixture is that of all ranks' posteriors, with gradient.

    Raises:
        DataError: fewer than two posteriors, or no fewer than ``examples``.
    """
    first = 0
    if over_ranks:
        first = collectives.rank() * len(z)
        mean, deviation = (collectives.gather_with_gradient(each) for each in (mean, deviation))
    joined = len(mean)
    if joined < 2 or (examples is not None and joined > examples):
        least = f" and at most {examples}, the size of the data set" if examples is not None else ""
        raise DataError(f"total-correlation needs a batch of at least 2 examples{least}, not {joined}")
    weight = None if examples is None else _log_weights(len(z), joined, examples).roll(first, 1)
    together, apart = mixture_log_densities(z, mean, deviation, weight)
    return together - apart.sum(-1)


def _log_weights(rows: int, joined: int, examples: int) -> Float[Tensor, "b w"]:
    """Return the log-weights of ``joined`` posteriors in the density of each of the first ``rows`` draws."""
    # The draw's own posterior stands for one example; one other stands for what the rest does not.
    rest = joined - 1
    weight = torch.full((rows, joined), 1 / rest)
    row = torch.arange(rows)
    weight[row, row] = 1 / examples
    weight[row, (row + 1) % joined] = (examples - rest) / (examples * rest)
    return weight.log()


def _draw(code: Code, training: bool) -> Float[Tensor, "b d"]:
    """Return the vector of each example; in evaluation a Gaussian code is drawn with a fixed seed."""
    z = at_least_float32(masked_mean(code.z, code.mask))
    if training or code.deviation is None:
        return z
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=z.dtype)
    return z + _mean_deviation(code) * noise.to(z.device)


def _mean_deviation(code: Code) -> Float[Tensor, "b d"]:
    """Return the deviation of the mean of an example's tokens, which are drawn independently."""
    assert code.deviation is not None
    deviation = at_least_float32(code.deviation)
    if code.mask is None:
        return deviation.square().sum(1).sqrt() / deviation.shape[1]
    weight = code.mask.unsqueeze(-1)
    count = weight.sum(1)
    # An example without tokens has no draw: any deviation above 0 will do.
    variance = torch.where(count > 0, deviation.square().masked_fill(~weight, 0.0).sum(1), 1.0)
    return variance.sqrt() / count.clamp(min=1)


def _permute_dimensions(z: Float[Tensor, "b d"], training: bool) -> Float[Tensor, "b d"]:
    """Return codes whose dimensions are permuted, each by itself, over the joined batch of all ranks: this rank's rows."""
    if not training:
        keys = torch.rand(z.shape, generator=torch.Generator().manual_seed(1)).to(z.device)
        return z.gather(0, keys.argsort(0))
    order = collectives.gather(draw_noise(torch.rand, z)).argsort(0)
    start = collectives.rank() * len(z)
    return collectives.gather(z).gather(0, order[start : start + len(z)])
