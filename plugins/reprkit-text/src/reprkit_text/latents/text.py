"""Latent text: hidden states become readable words, and the decoder reads nothing else."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit import Code, Features, Latent, Signature
from reprkit.errors import BuildError
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
from reprkit.registry.create import is_restoring
from reprkit_text.generator import FORBIDDEN, Generator, Memory
from reprkit_text.latents.words import cut_and_end, mask_until_end
from reprkit_text.transformers_generator import (
    DECODERS,
    TransformersGenerator,
    check_tokenizer,
    checkpoint_kind,
)


class Text(Latent):
    """Map features (b n width) to a text of at most ``length`` words: ``indices`` (b length 1), ``z`` (b length width).

    ::

        x (b n width) ──► generator, word by word ──► indices: sampled in training, the likeliest in evaluation
        z = embedding of those words, the decoder's only input

    The code has its own tokens: ``count(n)`` is ``length`` for any n, ``mask`` (b length) is True up to and including the ``end``
    word, and ``grid`` is (), since words have no position in the data.  ``log_prob`` (b length) is that of each written word,
    nats, the end included, 0 after it.  ``bits``: log2(vocab) per written word.

    Gradient through the choice of words, by ``gradient``:

    - "straight-through": z has the value of the chosen words and the gradient of the Gumbel-softmax whose noise chose them
      (Jang et al. 2017, arXiv 1611.01144, section 2.2).  It flows through each word's own distribution, not the words fed back.
    - "policy": z has no gradient to the generator; ``log_prob`` has, for a reward (objectives ``self-critical`` and
      ``self-critic``; Rennie et al. 2017, arXiv 1612.00563).  ``log_prob`` has a gradient with both.

    Losses: ``entropy``, minus the entropy of the words' distributions, nats per example, weight ``entropy``; ``length``, the
    squared difference of the expected number of words and ``goal``, if given, weight ``control``.  Metrics: ``words``,
    the mean number of words, ``entropy`` per word, ``perplexity``.

    Wang and Lee 2018 (arXiv 1810.02851); Baziotis et al. 2019 (SEQ^3, arXiv 1904.03651) for the relaxed words.

    Args:
        vocab: number of words, default 256; the data's ``vocab`` where texts of the data serve as summaries.
        width: width of the features and of a word's embedding; default 64.
        length: largest number of words of a text, the end included.
        end: the word that ends a text; default 0, with ``folder`` the checkpoint's end.
        least: smallest number of words before the end, in [0, length].
        never: words that are never written, such as padding and masks; they can be teacher-forced and embedded.
        kind: network that reads the words so far, "gru" (default) or "transformer"; "bart" or "t5" with ``folder`` alone.
        depth: number of its layers; default 1.
        heads: attention heads of a transformer, default 4; they must divide ``width``.
        copy: whether words may be copied from the features by attention; default True, False with ``folder``.
        follow: whether attention is drawn to the position after the word that was just copied; needs ``copy``.
        gradient: see above.
        temperature: temperature of the Gumbel-softmax.
        goal: target number of words, the end not counted; None for no target.
        control: weight of loss "length".
        entropy: weight of loss "entropy".
        dropout: dropout rate inside the generator, in [0, 1).
        folder: a local BART or T5 of transformers, whose decoder is the generator and sets vocab, width, depth and heads; the data
            set must use its tokenizer (``tokenizer='FOLDER'``).  Nothing is downloaded.
        config: further settings of the checkpoint under transformers' names.
        data: signature of the data, field ``x``; read with ``folder`` alone.

    Raises:
        PartArgumentError: a value out of its range, or one that the checkpoint sets.
        DataError: a folder without a BART or T5, or without a tokenizer.
        BuildError: ``folder``, and the data is not encoded by its tokenizer.
    """

    provides = frozenset(
        {"words", "log_prob"}
    )  # words: has ``code_of`` and ``log_prob_of``, for objectives over texts
    collapse_hint = "pre-training (objective summary), a weight on entropy, or a lower learning rate"

    def __init__(
        self,
        vocab: Annotated[int, Ge(2), Le(2**24)] | None = None,
        width: Width | None = None,
        length: Count = 16,
        *,
        end: CountOrZero | None = None,
        least: CountOrZero = 1,
        never: tuple[CountOrZero, ...] = (),
        kind: Literal["gru", "transformer", "bart", "t5"] | None = None,
        depth: Depth | None = None,
        heads: Count | None = None,
        copy: bool | None = None,
        follow: bool = False,
        gradient: Literal["straight-through", "policy"] = "straight-through",
        temperature: Positive = 1.0,
        goal: NonNegative | None = None,
        control: NonNegative = 1.0,
        entropy: NonNegative = 0.0,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        config: dict[str, Any] | None = None,
        data: Signature | None = None,
    ) -> None:
        if folder is None:
            require(kind not in DECODERS, f"kind={kind!r} is of a checkpoint: give folder=")
            require(config is None, "config= has settings of a checkpoint: give folder=")
            vocab, width, end = vocab or 256, width or 64, end or 0
            copies = copy is not False
            require(copies or not follow, "follow=True is about copied words: it needs copy=True")
            sizes: dict[str, Any] = {"kind": kind or "gru", "depth": depth or 1, "heads": heads or 4}
            generator: Generator | TransformersGenerator = Generator(
                vocab, width, copy=copies, dropout=dropout, follow=follow, **sizes
            )
        else:
            own = {"vocab": vocab, "width": width, "depth": depth, "heads": heads, "copy": copy or None}
            own |= {"follow": follow or None}
            given = [name for name, value in own.items() if value is not None]
            require(
                not given, f"folder={folder!r}: the checkpoint sets the generator: remove {', '.join(given)}"
            )
            generator = self._of_checkpoint(folder, kind, config, dropout, data)
            vocab, width = generator.vocab, generator.width
            require(
                end is not None or generator.end is not None, f"{folder!r} names no end symbol: give end="
            )
            end = int(generator.end or 0) if end is None else end
        require(end < vocab, f"end must be one of the {vocab} words, 0 to {vocab - 1}, not {end}")
        require(least <= length, f"least must be at most length={length}, not {least}")
        for word in never:
            require(
                word < vocab and word != end,
                f"never must hold words below {vocab} other than the end, not {word}",
            )
        require(goal is None or goal <= length, f"goal must be at most length={length}, not {goal}")
        super().__init__(
            in_dim=width, out_dim=width, vocab=(vocab,), weights={"entropy": entropy, "length": control}
        )
        self.length, self.end, self.least, self.goal = length, end, least, goal
        self.gradient, self.temperature = gradient, temperature
        self.generator = generator
        forbidden = torch.zeros(length, vocab, dtype=torch.bool)
        forbidden[:least, end] = True
        forbidden[:, list(never)] = True
        self.register_buffer("forbidden", forbidden, persistent=False)

    forbidden: Bool[Tensor, "m v"]

    def _of_checkpoint(
        self,
        folder: str,
        kind: str | None,
        config: dict[str, Any] | None,
        dropout: float,
        data: Signature | None,
    ) -> TransformersGenerator:
        """Return the decoder of a checkpoint; kind and settings are recorded, so a saved model loads without the folder."""
        if data is None:
            raise BuildError("text(folder=) writes the symbols of the data: build it with rk.build(data=...)")
        found = str(kind) if is_restoring() else checkpoint_kind(folder)
        require(kind in (None, found), f"kind={kind!r}, and {folder!r} holds a {found}: leave kind out")
        if not is_restoring():
            check_tokenizer(folder, data)
        decoder = DECODERS[found](folder=folder, config=config, dropout=dropout, data=data)
        recorded = {"kind": found, "config": decoder.arguments["config"]}
        object.__setattr__(self, "arguments", {**self.arguments, **recorded})
        return TransformersGenerator(decoder)

    def count(self, tokens: int) -> int:
        """Return ``length``; shorter texts are masked."""
        return self.length

    def forward(self, features: Features) -> Code:
        """Write the text of features (b n width): sampled in training, the likeliest word at each step in evaluation."""
        memory = self.memory_of(features)
        b, vocab = len(memory.x), self.generator.vocab
        gumbel = None
        if self.training:
            gumbel = -draw_noise(sample_exponential, memory.x.new_empty(b, self.length, vocab)).log()
        indices = self._write(memory.detach(), gumbel)
        mask = mask_until_end(indices, self.end)
        log_p = self._mask_forbidden(self.generator.all_steps(indices, memory), self.forbidden)
        chosen = log_p.gather(-1, indices.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0)
        entropy = -(log_p.exp() * log_p).sum(-1).masked_fill(~mask, 0.0).sum(1)
        words = mask.sum(1)
        return Code(
            z=self._embed_words(indices, log_p, gumbel),
            indices=indices.unsqueeze(-1),
            log_prob=chosen,
            bits=fixed_rate_bits(Features(x=log_p, mask=mask), math.log2(vocab)),
            losses={"entropy": -entropy.mean()} | self._length_loss(log_p),
            metrics={
                "words": (indices.ne(self.end) & mask).sum(1).float().mean(),
                "entropy": (entropy.sum() / words.sum()).detach(),
                "perplexity": perplexity(indices.unsqueeze(-1), mask, vocab, over_ranks=self.training),
            },
            mask=mask,
            grid=(),
        )

    def embed(self, indices: Int[Tensor, "b m 1"]) -> Float[Tensor, "b m d"]:
        """Embed words (b m 1).

        Raises:
            PartArgumentError: indices of another shape, or out of [0, vocab).
        """
        check_indices(indices, 1, self.generator.vocab)
        return self.generator.embed(indices.squeeze(-1))

    def code_of(self, words: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"] | None = None) -> Code:
        """Turn a given text into a code: cut to ``length`` words, ended, embedded."""
        indices, valid = cut_and_end(words, mask, end=self.end, length=self.length)
        return Code(z=self.embed(indices.unsqueeze(-1)), indices=indices.unsqueeze(-1), mask=valid, grid=())

    def log_prob_of(
        self,
        features: Features | Memory | None,
        words: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b m"]:
        """Return the log-probability of each word of a given text (b length), nats, 0 after its end: teacher forcing.

        Without features the generator is a language model; ``memory_of`` computes what several calls share.  Texts are cut and
        ended as in ``code_of``; ``least`` and ``never`` apply to written texts, not to given ones.
        """
        indices, valid = cut_and_end(words, mask, end=self.end, length=self.length)
        if features is None:
            x = self.generator.table.new_zeros(len(words), 1, self.in_dim)
            features = Features(x=x, mask=x.new_zeros(len(words), 1, dtype=torch.bool))
        log_p = self.generator.all_steps(indices, self.memory_of(features))
        return log_p.gather(-1, indices.unsqueeze(-1)).squeeze(-1).masked_fill(~valid, 0.0)

    def pointer_log_prob(
        self,
        features: Features | Memory,
        words: Int[Tensor, "b n"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Return the pointer's log-probability of a given word at each position of the features (b n), nats, 0 where masked.

        Raises:
            PartArgumentError: the generator has no pointer (``copy=False``).
        """
        copied = self.memory_of(features).copied
        require(copied is not None, "a latent of words with copy=False has no pointer to train")
        assert copied is not None
        log_p = copied.gather(-1, words.unsqueeze(-1)).squeeze(-1).clamp(min=1e-12).log()
        return log_p if mask is None else log_p.masked_fill(~mask, 0.0)

    def memory_of(self, features: Features | Memory) -> Memory:
        """Prepare features for the generator; a ``Memory`` is returned unchanged."""
        if isinstance(features, Memory):
            return features
        return self.generator.memory(zero_padding(features), features.mask)

    def _mask_forbidden(self, log_p: Tensor, forbidden: Tensor) -> Tensor:
        return F.log_softmax(log_p.masked_fill(forbidden, FORBIDDEN), -1)

    @torch.no_grad()
    def _write(self, memory: Memory, gumbel: Tensor | None) -> Int[Tensor, "b m"]:
        state, previous, words = self.generator.begin(len(memory.x), self.length), None, []
        ended = torch.zeros(len(memory.x), dtype=torch.bool, device=memory.x.device)
        for step in range(self.length):
            log_p, state = self.generator.one_step(previous, state, step, memory)
            log_p = self._mask_forbidden(log_p, self.forbidden[step])
            previous = (log_p if gumbel is None else log_p + gumbel[:, step]).argmax(-1)
            previous = previous.masked_fill(ended, self.end)
            ended = ended | (previous == self.end)
            words.append(previous)
        return torch.stack(words, 1)

    def _embed_words(self, indices: Tensor, log_p: Tensor, gumbel: Tensor | None) -> Float[Tensor, "b m d"]:
        """Embed the words; in training with straight-through, with the gradient of the relaxed choice as well."""
        z = self.generator.embed(indices)
        if gumbel is None or self.gradient == "policy":
            return z
        soft = ((log_p + gumbel) / self.temperature).softmax(-1)
        return straight_through(z, soft @ self.generator.table.detach())

    def _length_loss(self, log_p: Float[Tensor, "b m v"]) -> dict[str, Tensor]:
        if self.goal is None:
            return {}
        not_ended = (1 - log_p[..., self.end].exp()).cumprod(1)
        return {"length": (not_ended.sum(1) - self.goal).square().mean()}
