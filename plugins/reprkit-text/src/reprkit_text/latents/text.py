"""Text: hidden states become words that a person can read, and the decoder reads nothing else."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit import Code, Features, Latent
from reprkit.interfaces import require
from reprkit.latents.functional import (
    check_indices,
    draw_noise,
    fixed_rate_bits,
    perplexity,
    sample_exponential,
    straight_through,
    zero_padding,
)
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, NonNegative, Positive, Width
from reprkit_text.generator import NEVER, Generator, Memory
from reprkit_text.latents.words import closed, until_end


class Text(Latent):
    """Features (b n width) to a text of at most ``length`` words: ``indices`` (b length 1), ``z`` (b length width).

    ::

        x (b n width) ──► generator, word after word ──► indices: drawn in training, the likeliest in evaluation
        z = embedding of those words, all that a decoder reads

    The code has its own tokens: ``count(n)`` is ``length`` for any n, ``mask`` (b length) is True up to and with the ``end``
    word, and ``grid`` is (), since words lie nowhere over the data.  ``log_prob`` (b length) is that of each written word,
    nats, the end included, 0 behind it.  ``bits``: log2(vocab) a written word.

    How the gradient passes the choice of words, by ``gradient``:

    - "straight-through": z has the value of the chosen words and the gradient of the Gumbel-softmax whose noise chose them
      (Jang et al. 2017, arXiv 1611.01144, section 2.2).  It passes each word's own distribution, not the words fed back.
    - "policy": z has no gradient to the generator: ``log_prob`` has it, for a reward (objectives ``self-critical`` and
      ``self-critic``; Rennie et al. 2017, arXiv 1612.00563).  ``log_prob`` has it with both.

    Losses: ``entropy``, minus the entropy of the words' distributions, nats an example, weight ``entropy``; ``length``, the
    squared difference of the expected number of words and ``goal``, if there is one, weight ``control``.  Metrics: ``words``,
    the mean number of words, ``entropy`` a word, ``perplexity``.

    Wang and Lee 2018 (arXiv 1810.02851); Baziotis et al. 2019 (SEQ^3, arXiv 1904.03651) for the relaxed words.

    Args:
        vocab: words that there are; the data's ``vocab`` where texts of the data are to be summaries.
        width: of the features and of a word's embedding.
        length: most words of a text, the end included.
        end: the word that ends a text.
        least: words before the end may be written, in [0, length].
        never: words that are never written, such as padding and masks; they can be taught and embedded.
        kind: "gru" or "transformer": what reads the words so far.
        depth: its layers.
        heads: attention heads of a transformer; they must divide ``width``.
        copy: whether words may be copied from the features by attention.
        gradient: see above.
        temperature: of the Gumbel-softmax.
        goal: the number of words to aim at, the end not counted; None for none.
        control: weight of loss "length".
        entropy: weight of loss "entropy".
        dropout: inside the generator, in [0, 1).

    Raises:
        PartArgumentError: a value out of its range.
    """

    provides = frozenset({"words", "log_prob"})  # words: ``spell`` and ``teach``, for objectives over texts
    collapse_hint = "pre-training (objective summary), a weight on entropy, or a lower learning rate"

    def __init__(
        self,
        vocab: Annotated[int, Ge(2), Le(2**24)] = 256,
        width: Width = 64,
        length: Count = 16,
        *,
        end: CountOrZero = 0,
        least: CountOrZero = 1,
        never: tuple[CountOrZero, ...] = (),
        kind: Literal["gru", "transformer"] = "gru",
        depth: Depth = 1,
        heads: Count = 4,
        copy: bool = True,
        gradient: Literal["straight-through", "policy"] = "straight-through",
        temperature: Positive = 1.0,
        goal: NonNegative | None = None,
        control: NonNegative = 1.0,
        entropy: NonNegative = 0.0,
        dropout: BelowOne = 0.0,
    ) -> None:
        require(end < vocab, f"end must be one of the {vocab} words, 0 to {vocab - 1}, not {end}")
        require(least <= length, f"least must be at most length={length}, not {least}")
        for word in never:
            require(
                word < vocab and word != end,
                f"never holds words below {vocab} other than the end, not {word}",
            )
        require(goal is None or goal <= length, f"goal must be at most length={length}, not {goal}")
        super().__init__(
            in_dim=width, out_dim=width, vocab=(vocab,), weights={"entropy": entropy, "length": control}
        )
        self.length, self.end, self.least, self.goal = length, end, least, goal
        self.gradient, self.temperature = gradient, temperature
        self.generator = Generator(
            vocab, width, kind=kind, depth=depth, heads=heads, copy=copy, dropout=dropout
        )
        barred = torch.zeros(length, vocab, dtype=torch.bool)
        barred[:least, end] = True
        barred[:, list(never)] = True
        self.register_buffer("barred", barred, persistent=False)

    barred: Bool[Tensor, "m v"]

    def count(self, tokens: int) -> int:
        """Always ``length``; shorter texts end under the mask."""
        return self.length

    def forward(self, features: Features) -> Code:
        """The text of features (b n width): a draw in training, the likeliest word at each place in evaluation."""
        memory = self.read(features)
        b, vocab = len(memory.x), self.generator.vocab
        gumbel = None
        if self.training:
            gumbel = -draw_noise(sample_exponential, memory.x.new_empty(b, self.length, vocab)).log()
        indices = self._written(memory.detached(), gumbel)
        mask = until_end(indices, self.end)
        log_p = self._allowed(self.generator.all_steps(indices, memory), self.barred)
        chosen = log_p.gather(-1, indices.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0)
        entropy = -(log_p.exp() * log_p).sum(-1).masked_fill(~mask, 0.0).sum(1)
        words = mask.sum(1)
        return Code(
            z=self._embedded(indices, log_p, gumbel),
            indices=indices.unsqueeze(-1),
            log_prob=chosen,
            bits=fixed_rate_bits(Features(x=log_p, mask=mask), math.log2(vocab)),
            losses={"entropy": -entropy.mean()} | self._off_goal(log_p),
            metrics={
                "words": (indices.ne(self.end) & mask).sum(1).float().mean(),
                "entropy": (entropy.sum() / words.sum()).detach(),
                "perplexity": perplexity(indices.unsqueeze(-1), mask, vocab, over_ranks=self.training),
            },
            mask=mask,
            grid=(),
        )

    def embed(self, indices: Int[Tensor, "b m 1"]) -> Float[Tensor, "b m d"]:
        """The embeddings of words (b m 1).

        Raises:
            PartArgumentError: indices of another shape, or out of [0, vocab).
        """
        check_indices(indices, 1, self.generator.vocab)
        return self.generator.embedding(indices.squeeze(-1))

    def spell(self, words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None) -> Code:
        """A given text as a code: cut to ``length`` words, ended, embedded."""
        indices, valid = closed(words, mask, end=self.end, length=self.length)
        return Code(z=self.embed(indices.unsqueeze(-1)), indices=indices.unsqueeze(-1), mask=valid, grid=())

    def teach(
        self,
        features: Features | Memory | None,
        words: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b m"]:
        """Log-probability of each word of a given text (b length), nats, 0 behind its end: teacher forcing.

        Without features the generator is a language model; ``read`` works out what several calls share.  Texts are cut and
        ended as ``spell`` does; ``least`` and ``never`` hold for what is written, not for what is taught.
        """
        indices, valid = closed(words, mask, end=self.end, length=self.length)
        if features is None:
            x = self.generator.start.new_zeros(len(words), 1, self.in_dim)
            features = Features(x=x, mask=x.new_zeros(len(words), 1, dtype=torch.bool))
        log_p = self.generator.all_steps(indices, self.read(features))
        return log_p.gather(-1, indices.unsqueeze(-1)).squeeze(-1).masked_fill(~valid, 0.0)

    def pointed(
        self,
        features: Features | Memory,
        words: Int[Tensor, "b n"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Log-probability that the pointer says a given word at each place of the features (b n), nats, 0 where not valid.

        Raises:
            PartArgumentError: the generator has no pointer (``copy=False``).
        """
        spoken = self.read(features).spoken
        require(spoken is not None, "a latent of words with copy=False has no pointer to teach")
        assert spoken is not None
        log_p = spoken.gather(-1, words.unsqueeze(-1)).squeeze(-1).clamp(min=1e-12).log()
        return log_p if mask is None else log_p.masked_fill(~mask, 0.0)

    def read(self, features: Features | Memory) -> Memory:
        """What features tell the generator; what was read already is given back as it is."""
        if isinstance(features, Memory):
            return features
        return self.generator.memory(zero_padding(features), features.mask)

    def _allowed(self, log_p: Tensor, barred: Tensor) -> Tensor:
        return F.log_softmax(log_p.masked_fill(barred, NEVER), -1)

    @torch.no_grad()
    def _written(self, memory: Memory, gumbel: Tensor | None) -> Int[Tensor, "b m"]:
        state, previous, words = self.generator.begin(len(memory.x), self.length), None, []
        ended = torch.zeros(len(memory.x), dtype=torch.bool, device=memory.x.device)
        for place in range(self.length):
            log_p, state = self.generator.one_step(previous, state, place, memory)
            log_p = self._allowed(log_p, self.barred[place])
            previous = (log_p if gumbel is None else log_p + gumbel[:, place]).argmax(-1)
            previous = previous.masked_fill(ended, self.end)
            ended = ended | (previous == self.end)
            words.append(previous)
        return torch.stack(words, 1)

    def _embedded(self, indices: Tensor, log_p: Tensor, gumbel: Tensor | None) -> Float[Tensor, "b m d"]:
        """The words' embeddings, which learn as embeddings do, plus nothing with the gradient of the relaxed choice."""
        z = self.generator.embedding(indices)
        if gumbel is None or self.gradient == "policy":
            return z
        soft = ((log_p + gumbel) / self.temperature).softmax(-1)
        return straight_through(z, soft @ self.generator.embedding.weight.detach())

    def _off_goal(self, log_p: Float[Tensor, "b m v"]) -> dict[str, Tensor]:
        if self.goal is None:
            return {}
        going_on = (1 - log_p[..., self.end].exp()).cumprod(1)
        return {"length": (going_on.sum(1) - self.goal).square().mean()}
