"""OneHot: categorical variables as one-hot vectors, by straight-through or Gumbel-softmax gradients."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.latents.functional import (
    check_indices,
    draw_noise,
    entropy_terms,
    fixed_rate_bits,
    perplexity,
    sample_exponential,
    straight_through,
    sum_per_example,
    sum_per_token,
    token_statistics,
    zero_padding,
)
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Positive, Width
from reprkit.types import Code, Features
from reprkit.utils import collectives

Method = Literal["straight-through", "argmax", "gumbel", "straight-through-gumbel"]

# Weight of the uncertainty of single tokens in loss "entropy": with 0 classes are used evenly by uncertain tokens only, with 1
# classes are fixed before they are learned (docs/results/contracts/one_hot.md).
CERTAINTY = 0.5


class OneHot(Variational):
    """``groups`` categorical variables of ``classes`` values each, as one-hot vectors side by side.

    ::

        x (b n groups*classes), logits ──► index: sampled from softmax(x), in training
                                                  argmax(x), in evaluation
        z = the index as a one-hot vector  (b n groups*classes)

    ``method`` selects the gradient estimator; g is the Gumbel noise of the sample:

    - "straight-through": z is one-hot and has the gradient of softmax(x) (Bengio et al. 2013, arXiv
      1308.3432; Hafner et al. 2021, DreamerV2, arXiv 2010.02193, algorithm 1);
    - "argmax": the same with argmax instead of a sample, in training too;
    - "gumbel": in training z is softmax((x + g) / temperature), not exactly one-hot (Jang et al. 2017,
      arXiv 1611.01144; Maddison et al. 2017, arXiv 1611.00712);
    - "straight-through-gumbel": z is one-hot and has the gradient of the Gumbel-softmax (Jang et al. 2017,
      section 2.2).

    Loss "entropy" keeps all classes in use, nats an example, summed over groups and tokens::

        log(classes / (1 + (classes - 1) / N)) - (H(mean of softmax(x)) - H(softmax(x)) / 2), where positive

    over the N valid tokens of all ranks, H the entropy and the second one a mean over tokens.  The first term is the
    (collision) entropy of the frequencies of N uniform draws: classes are to be used as evenly as chance would use them
    in a batch of this size, and with certainty.  Without this loss all examples end in one class: at the start their
    logits differ little and every class looks alike to the decoder, so the gradient moves all examples towards the same
    class, until softmax is saturated and its gradient zero (docs/results/contracts/one_hot.md).

    In evaluation all methods give one-hot vectors.  ``Code.bits`` is a fixed rate: groups * log2(classes)
    for every valid token.  Loss and metric "kl" are the exact KL from the uniform prior, reported whatever the
    weight.  Metric "perplexity" is the effective number of classes the batch uses, mean over groups.

    Args:
        classes: number of values of each variable.
        groups: number of variables per token.
        method: the gradient estimator, see above.
        temperature: temperature of the Gumbel-softmax at the first step; unused by the other methods.
        final_temperature: temperature after annealing, reached by a constant factor per step.
        anneal: number of optimizer steps of annealing; 0 uses the final temperature throughout.
        beta: weight of loss "kl"; 1 trains the evidence lower bound of a categorical autoencoder.  0.1 keeps
            classes in use: 8 groups of 16 on the digits end at a test error of 0.99, with 0 at 1.10.
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size.
        entropy: weight of loss "entropy"; 0 omits it.  None is 30 for one group, which would collapse, and 0 for several, which
            do not, and whose error it increases.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    provides = frozenset({"log_prob"})
    former_defaults = {"entropy": 0.0}  # noqa: RUF012
    collapse_hint = (
        "a larger entropy= (favors an even use of the classes), more groups of fewer classes, or a lower lr"
    )

    def __init__(
        self,
        classes: Annotated[int, Ge(2), Le(2**24)] = 32,
        *,
        groups: Width = 1,
        method: Method = "straight-through",
        temperature: Positive = 1.0,
        final_temperature: Positive = 0.5,
        anneal: CountOrZero = 2000,
        beta: NonNegative = 0.1,
        warmup: CountOrZero = 0,
        entropy: NonNegative | None = None,
    ) -> None:
        width, vocab = classes * groups, (classes,) * groups
        entropy = (30.0 if groups == 1 else 0.0) if entropy is None else entropy
        super().__init__(
            in_dim=width, out_dim=width, vocab=vocab, beta=beta, warmup=warmup, weights={"entropy": entropy}
        )
        self.couples_examples = entropy > 0
        self.classes, self.groups, self.method = classes, groups, method
        self.temperature, self.final_temperature, self.anneal = temperature, final_temperature, anneal

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n groups*classes)."""
        log_q = rearrange(zero_padding(features), "b n (g c) -> b n g c", c=self.classes).log_softmax(-1)
        q, dtype = log_q.exp(), features.x.dtype
        sampled = self.training and self.method != "argmax"
        perturbed = log_q - draw_noise(sample_exponential, log_q).log() if sampled else log_q
        indices = perturbed.argmax(-1)
        hard = self._one_hot(indices)
        kl = sum_per_example((q * log_q).sum(-1) + math.log(self.classes), features.mask).mean()
        metrics = {
            "kl": kl.detach(),
            "perplexity": perplexity(indices, features.mask, self.classes, over_ranks=self.training),
        }
        losses = {"kl": self.apply_warmup(kl)}
        if self.weights["entropy"]:
            losses["entropy"] = self._entropy_loss(q, -(q * log_q).sum(-1), features)
        soft = q
        if self.method.endswith("gumbel"):
            metrics["temperature"] = self.current_temperature()
            soft = (perturbed / metrics["temperature"]).softmax(-1)
        z = soft if self.training and self.method == "gumbel" else straight_through(hard, soft)
        mean = straight_through(self._one_hot(log_q.argmax(-1)), q) if sampled else None
        return Code.of(
            features,
            z=z.flatten(2).to(dtype),
            mean=None if mean is None else mean.flatten(2).to(dtype),
            indices=indices,
            log_prob=sum_per_token((hard * log_q).sum(-1), features.mask),
            bits=fixed_rate_bits(features, self.groups * math.log2(self.classes)),
            losses=losses,
            metrics=metrics,
        )

    def _entropy_loss(
        self, q: Float[Tensor, "b n g c"], entropy: Float[Tensor, "b n g"], features: Features
    ) -> Float[Tensor, ""]:
        both = torch.cat([q.flatten(2), entropy], -1)
        means, tokens = token_statistics(both, features.mask, over_ranks=self.training)
        shares, uncertain = means[: -self.groups], means[-self.groups :]
        examples = q.shape[0] * (collectives.world_size() if self.training else 1)
        draws = (tokens * examples).clamp(min=1.0)
        even = math.log(self.classes) - torch.log1p((self.classes - 1) / draws)
        used = entropy_terms(shares.view(self.groups, self.classes)).sum(-1) - CERTAINTY * uncertain
        return tokens * (even - used).clamp(min=0.0).sum()

    def _one_hot(self, indices: Int[Tensor, "b n g"]) -> Float[Tensor, "b n g c"]:
        return F.one_hot(indices, self.classes).float()

    def current_temperature(self) -> Float[Tensor, ""]:
        """Return the temperature of the Gumbel-softmax at this step."""
        progress = (
            (self.step / self.anneal).clamp(max=1.0) if self.anneal else torch.ones_like(self.step).float()
        )
        return self.temperature * (self.final_temperature / self.temperature) ** progress

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the one-hot vectors of the indices (b n groups), concatenated.

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, classes).
        """
        check_indices(indices, self.groups, self.classes)
        return self._one_hot(indices.long()).flatten(2)

    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Draw classes uniformly for ``shape`` (b, n), on the generator's device; the result is on the latent's.

        The KL loss, of weight ``beta``, pulls codes towards this prior; for a small ``beta`` learn a prior over
        the indices instead.
        """
        shape_of_indices = (*shape, self.groups)
        indices = torch.randint(
            self.classes, shape_of_indices, generator=generator, device=self.draw_device(generator)
        )
        return self.embed(indices).to(self.step.device)

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Return -groups * log(classes) nats a token, the same for every code."""
        nats = code.z.new_full(
            (*code.z.shape[:2], 1), -self.groups * math.log(self.classes), dtype=torch.float32
        )
        return sum_per_token(nats, code.mask)
