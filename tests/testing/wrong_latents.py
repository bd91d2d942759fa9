"""Correct latents, and latents that each break one rule, for the checks of ``test_catches_latents.py``."""

import itertools
import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reprkit.interfaces import Latent
from reprkit.latents.functional import draw_noise
from reprkit.layers.trees import right_branching
from reprkit.registry.create import is_restoring
from reprkit.types import Code
from reprkit.utils.collectives import gather_with_gradient, sum_over_ranks


class Good(Latent):
    """A correct latent: three learned bits with a loss, a rate, statistics and a prior."""

    def __init__(self, scale: Any = 1.0, precision: str = "float32"):
        super().__init__(in_dim=3, out_dim=3, vocab=(2, 2, 2), precision=precision)
        self.scale = scale
        self.linear = nn.Linear(3, 3)
        self.register_buffer("share", torch.zeros(3))
        self.register_buffer("seen", torch.zeros(4), persistent=False)

    def forward(self, features):
        x = features.x if features.mask is None else features.x.masked_fill(~features.mask.unsqueeze(-1), 0)
        logits = self.linear(x)
        weight = torch.ones_like(x[..., :1]) if features.mask is None else features.mask.unsqueeze(-1)
        hard = torch.where(logits > 0, 1.0, -1.0)
        soft = torch.tanh(logits)
        if self.training:
            on = ((logits > 0) * weight).sum((0, 1))
            self.seen += torch.cat([on, weight.sum().view(1)]).detach()
        return Code.of(
            features,
            z=self.finish(soft + (hard - soft).detach(), features),
            indices=(logits > 0).long(),
            bits=self.rate(weight),
            losses={"size": (logits.square() * self.loss_weight(weight)).sum() / len(x)},
            metrics={"on": hard.mean().detach() if features.mask is None else torch.zeros(())},
        )

    def finish(self, z, features):
        return z

    def rate(self, weight):
        return 3 * weight.sum((1, 2))

    def loss_weight(self, weight):
        return weight

    def reduce(self, seen):
        return sum_over_ranks(seen)

    def embed(self, indices):
        return indices * 2.0 - 1

    def prior(self, shape, generator=None):
        return self.embed(torch.randint(2, (*shape, 3), generator=generator))

    def log_prior(self, code):
        nats = torch.full(code.z.shape[:2], -3 * math.log(2))
        return nats if code.mask is None else nats * code.mask

    def update(self):
        total = self.reduce(self.seen)
        self.share.copy_(total[:3] / total[3].clamp(min=1))
        self.seen.zero_()


class Codec(Good):
    """A correct latent that writes bytes without being discrete: 8 bits a value."""

    def __init__(self, scale: Any = 1.0, precision: str = "float32"):
        super().__init__(scale, precision)
        self.vocab, self.symbol_frequencies = None, None

    def forward(self, features):
        code = super().forward(features)
        levels = (code.z * 127).round()
        z = code.z + (levels / 127 - code.z).detach()
        payload = tuple(bytes((row.detach().flatten() + 128).byte().tolist()) for row in levels)
        return replace(code, z=z, indices=None, payload=None if self.training else payload)

    def write(self, code):
        return list(code.payload)

    def read(self, strings, like):
        levels = torch.tensor([list(string) for string in strings]).view(like.z.shape) - 128.0
        return Code.of(like, z=levels / 127, payload=tuple(strings))


class ReadsOtherValues(Codec):
    def read(self, strings, like):
        return Code.of(like, z=super().read(strings, like).z * 127 / 128, payload=tuple(strings))


class Stateful(Good):
    shift = 0.0

    def finish(self, z, features):
        return z + self.shift

    def embed(self, indices):
        return super().embed(indices) + self.shift

    def update(self):
        super().update()
        self.shift += 0.25


class GrowingBuffer(Good):
    def __init__(self):
        super().__init__()
        self.register_buffer("history", torch.zeros(0))

    def update(self):
        super().update()
        self.history = torch.cat([self.history, self.share.mean().view(1)])

    def _load_from_state_dict(self, state, prefix, *rest):
        self.history = torch.zeros_like(state[prefix + "history"])
        super()._load_from_state_dict(state, prefix, *rest)


class BitsPerToken(Good):
    def rate(self, weight):
        return 3.0 * weight.sum(2)


class UndeclaredLogProb(Good):
    def forward(self, features):
        code = super().forward(features)
        return replace(code, log_prob=torch.zeros_like(code.z[..., 0]))


class UndeclaredDeviation(Good):
    def forward(self, features):
        code = super().forward(features)
        return replace(code, deviation=torch.ones_like(code.z))


class CountsPadding(Good):
    def loss_weight(self, weight):
        return torch.ones_like(weight)

    def forward(self, features):
        code = super().forward(features)
        if features.mask is not None:
            code.losses["size"] = features.x.square().mean()
        return code


class UnusedParameter(Good):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))


class RandomInEvaluation(Good):
    def forward(self, features):
        code = super().forward(features)
        if self.training:
            return code
        indices = code.indices ^ (torch.rand_like(code.z) < 0.5)
        return replace(code, indices=indices, z=self.embed(indices) + 0 * code.z)


class StartsUndeclared(Good):
    """Its first forward in training moves the code, and it does not say that it starts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.zeros(()))

    def finish(self, z, features):
        if self.training:
            self.offset.fill_(0.5)
        return z + self.offset

    def embed(self, indices):
        return super().embed(indices) + self.offset


class WrongEmbedding(Good):
    def embed(self, indices):
        return indices * 1.0


class PricesOtherBytes(Good):
    """It says that its bytes take half of what they do."""

    def table_bits(self, counts):
        return super().table_bits(counts) / 2


class TablesOutsideOfTheState(Good):
    counts = torch.tensor([[1, 1], [1, 1], [1, 1]])

    def set_frequencies(self, counts):
        self.counts = counts + 100 * torch.tensor([0, 1])

    def frequencies(self):
        share = self.counts[:, 0] / self.counts.sum(1)
        first = (share * 2**16).round().clamp(1, 2**16 - 1).long()
        return torch.stack([first, 2**16 - first], 1)


class PriorIgnoresGenerator(Good):
    def prior(self, shape, generator=None):
        return self.embed(torch.randint(2, (*shape, 3)))


class PriorOfPadding(Good):
    def log_prior(self, code):
        return super().log_prior(replace(code, mask=None))


class NeedsTwoRows(Good):
    def finish(self, z, features):
        return z / (features.grid[0] - 1) if features.grid else z


class HalfPrecision(Good):
    def finish(self, z, features):
        return (z.half() * 1e5).float() / 1e5 if torch.is_autocast_enabled("cpu") else z


class FloorInPercent(Good):
    collapse_floor = 8


class OwnStatistics(Good):
    def reduce(self, seen):
        return seen


class Undeclared(Good):
    def __init__(self, scale=1.0):
        super().__init__(scale)


class UncheckedConstructor(Good):
    """Its constructor is added after the class was created, so its arguments are not checked."""


def _constructor(self, scale: float = 1.0):
    Good.__init__(self)


UncheckedConstructor.__init__ = _constructor


class ComparesExamplesUndeclared(Good):
    def finish(self, z, features):
        return z + (0 * gather_with_gradient(z.sum().view(1)).sum() if self.training else 0)


class Policy(Good):
    """Bits with the log-probability of their draw."""

    provides = frozenset({"log_prob"})

    def forward(self, features):
        code = super().forward(features)
        mask = torch.ones_like(code.z[..., 0]) if features.mask is None else features.mask
        logits = self.linear(features.x)
        chosen = self.draw(logits) if self.training else logits > 0
        log_prob = F.logsigmoid(torch.where(chosen, logits, -logits)).sum(-1) * mask
        return replace(code, log_prob=self.finish_log_prob(log_prob))

    def draw(self, logits):
        return draw_noise(torch.rand, logits) < logits.sigmoid()

    def finish_log_prob(self, log_prob):
        return log_prob


class LogProbWithoutGradient(Policy):
    def finish_log_prob(self, log_prob):
        return log_prob.detach()


class DrawsOfOneRank(Policy):
    def draw(self, logits):
        return torch.rand_like(logits) < logits.sigmoid()


class Tree(Good):
    """Its tokens are a right-branching tree."""

    provides = frozenset({"tree"})

    def forward(self, features):
        code = super().forward(features)
        mask = torch.ones_like(code.z[..., 0], dtype=torch.bool) if features.mask is None else features.mask
        return replace(code, parents=self.parents(mask))

    def parents(self, mask):
        return right_branching(mask)


class TreeOverPadding(Tree):
    def parents(self, mask):
        return right_branching(torch.ones_like(mask))


class LosesTheTree(Good):
    def forward(self, features):
        return replace(super().forward(features), parents=None)


class CountsForwards(Good):
    """Its count of forwards is in an object that is neither a buffer nor an attribute."""

    def __init__(self, scale: Any = 1.0, precision: str = "float32"):
        super().__init__(scale, precision)
        self.passes = itertools.count()

    def finish(self, z, features):
        return z if not self.training or next(self.passes) < 2 else z / 2


class KeepsTensors(Good):
    """Its offset is an attribute and no buffer, so that it stays on the CPU."""

    def __init__(self, scale: Any = 1.0, precision: str = "float32"):
        super().__init__(scale, precision)
        self.offset = torch.zeros(3)

    def finish(self, z, features):
        return z + self.offset


class UnannotatedPart(Good):
    def __init__(self, inner: object = None):
        super().__init__()
        object.__setattr__(self, "inner", inner)  # not a submodule: its weights do not matter here


class AnnotatedPart(Good):
    def __init__(self, inner: str | Latent | None = None):
        super().__init__()
        object.__setattr__(self, "inner", inner)


class LosesItsTie(Good):
    """Its bias is that of the adapter, but not after loading."""

    def bind(self, model):
        if not is_restoring():
            self.linear.bias = model.factors["code"].adapter.bias


class RenamedToNothing(Good):
    renamed_arguments = {"size": "width"}
