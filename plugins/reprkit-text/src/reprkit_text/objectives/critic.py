"""A critic on a latent's code: train codes to be indistinguishable from real ones, by the Wasserstein distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit import Code, Objective
from reprkit.data.padding import pad_to_length
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.objectives.wasserstein import critic_loss
from reprkit.registry.constraints import Depth, Kernel, NonNegative, Width
from reprkit.types import Batch
from reprkit.utils import collectives
from reprkit.utils.modes import eval_mode
from reprkit_text.objectives.inputs import batch_texts, word_latent

if TYPE_CHECKING:
    from reprkit import Model


class TokenCritic(nn.Module):
    """Residual convolutions along a code's tokens, then their mean: (b n d) to a score (b), higher for real.

    No normalization layers, as a gradient penalty requires, and nothing without a second derivative: neither fused attention nor
    a fused recurrence.
    """

    def __init__(self, inside: int, width: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inside, width), nn.Linear(width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, kernel, padding="same") for _ in range(depth))

    def forward(self, z: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, " b"]:
        """Return the scores; masked tokens have no effect."""
        valid = torch.ones(z.shape[:2], device=z.device) if mask is None else mask.float()
        valid = valid.unsqueeze(1)
        x = self.first(z).mT * valid
        for layer in self.layers:
            x = x + layer(F.leaky_relu(x, 0.2)) * valid
        mean = (F.leaky_relu(x, 0.2) * valid).sum(-1) / valid.sum(-1).clamp(min=1)
        return self.last(mean).squeeze(-1)


class Critic(Objective):
    """A Wasserstein GAN with gradient penalty on codes: they are trained until a critic takes them for real ones.

    Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3, on codes.  Turn "critic" trains the critic, turn "main" the encoder and
    latent; add it to the objective that the code serves otherwise: ``"reconstruction + 10 * critic(real='summary')"``.  Real codes:

    - ``real`` a field, and a latent of words (``text``): the field's texts as that latent would write them, embedded.  This
      keeps summaries readable (Wang and Lee 2018, arXiv 1810.02851).
    - ``real`` a field, and any other latent: the code of that field's values, encoded as the factor's input is.
    - ``real=None``: samples from the latent's own prior, or from N(0, I) for a continuous latent without one.  This is the
      adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644).

    The gradient passes discrete codes as that of the reconstruction does, and reaches the choice of entries, not the entries.

    Losses, without unit, averaged over examples: turn "main": ``adversarial``, minus the score; turn "critic": ``critic``, the
    negative of the distance to be maximized, plus the penalty.  Metric of the critic's turn: ``distance``, real minus generated.

    Args:
        real: see above.
        factor: name of the factor whose code is trained; None for the only factor.
        width: channels of the critic.
        depth: number of its convolutions.
        kernel: tokens that each of them covers.
        penalty: weight of the gradient penalty.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such factor or field, or a discrete latent without a prior and no ``real``.
    """

    needs = frozenset({"encoder"})
    turns = ("main", "critic")

    def __init__(
        self,
        *,
        real: str | None = None,
        factor: str | None = None,
        width: Width = 128,
        depth: Depth = 3,
        kernel: Kernel = 3,
        penalty: NonNegative = 10.0,
    ) -> None:
        super().__init__()
        self.real, self.factor, self.penalty = real, factor, float(penalty)
        self.width, self.depth, self.kernel = width, depth, kernel
        self.critic: nn.Module = nn.Identity()

    def bind(self, model: Model) -> None:
        """Build the critic for the width of the code."""
        latent = model.latent(resolve_factor(model.factors, self.factor, "objective critic"))
        if self.real is not None and model.signature is not None:
            model.signature[self.real]  # raises and names the known fields
        if self.real is None and latent.vocab is not None and not latent.has_prior:
            raise BuildError(
                f"objective critic: {latent.qualified or type(latent).__name__} has no prior to sample real codes from; "
                "set real= to the field of the data that holds real examples"
            )
        self.critic = TokenCritic(latent.out_dim, self.width, self.depth, self.kernel)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch in one turn."""
        name = resolve_factor(model.factors, self.factor, "objective critic")
        if turn == "main":
            code = model.encode(batch, factors=[name])[name]
            score = self.critic(self._without_entry_gradient(model, name, code), code.mask)
            return {"adversarial": (-score.sum(), len(score))}
        with torch.no_grad():
            generated = model.encode(batch, factors=[name])[name]
            real = self._real_code(model, name, batch, generated)
        real, generated = _pad_to_equal_length(real, generated)
        loss, difference = critic_loss(
            self.critic,
            real.z,
            generated.z,
            real_mask=real.mask,
            fake_mask=generated.mask,
            penalty=self.penalty,
            training=model.training,
        )
        model.record(distance=-difference.mean())
        return {"critic": (loss.sum(), len(loss))}

    def _without_entry_gradient(self, model: Model, name: str, code: Code) -> Float[Tensor, "b n d"]:
        """Return the code without a gradient to a discrete latent's entries: moving these would also deceive the critic."""
        if code.indices is None:
            return code.z
        entries = model.latent(name).embed(code.indices)
        return code.z - entries + entries.detach()

    def _real_code(self, model: Model, name: str, batch: Batch, generated: Code) -> Code:
        factor = model.factors[name]
        latent, (b, n, d) = factor.latent, generated.z.shape
        if self.real is None:
            if latent.has_prior:
                z = self._sample(model, lambda shape, source: latent.prior((shape[0], n), source), (b,))
            else:
                z = self._sample(model, lambda shape, source: torch.randn(shape, generator=source), (b, n, d))
            return Code.of(generated, z=z.to(generated.z))
        if "words" in latent.provides:
            return word_latent(model, name, "critic").code_of(*batch_texts(batch, self.real))
        inputs = {key: value for key, value in batch.items() if key != f"{factor.input}_mask"}
        for suffix in ("", "_mask"):
            if self.real + suffix in batch:
                inputs[factor.input + suffix] = batch[self.real + suffix]
        with eval_mode(factor):
            return factor.code(factor.features(inputs))

    def _sample(
        self,
        model: Model,
        draw: Callable[[tuple[int, ...], torch.Generator | None], Tensor],
        shape: tuple[int, ...],
    ) -> Tensor:
        """Return this rank's rows of a global draw; always the same in evaluation."""
        source = None if model.training else torch.Generator().manual_seed(0)
        return collectives.global_draw(lambda whole_shape: draw(whole_shape, source), shape)


def _pad_to_equal_length(one: Code, other: Code) -> tuple[Code, Code]:
    """Pad both codes to the same number of tokens, zero where masked; masks only where needed."""
    count = max(one.z.shape[1], other.z.shape[1])
    if one.mask is None and other.mask is None and one.z.shape[1] == other.z.shape[1]:
        return one, other
    padded = []
    for code in (one, other):
        z = code.z.detach()
        mask = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device) if code.mask is None else code.mask
        z = z.masked_fill(~mask.unsqueeze(-1), 0.0)
        padded.append(Code(z=pad_to_length(z, count), mask=pad_to_length(mask, count)))
    return padded[0], padded[1]
