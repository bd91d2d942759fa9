"""Whole-word masking, as for training BERT."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Lt
from jaxtyping import Bool
from torch import Tensor

from reprkit import Signature
from reprkit.corruptions.base import ElementCorruption, draw_uniform
from reprkit.errors import BuildError, DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Share
from reprkit.types import Batch
from reprkit_text.transformers_networks.symbols import field_vocabulary


class WholeWords(ElementCorruption):
    """Corrupt whole words, about ``ratio`` of a text's symbols; a hit symbol is masked, replaced or kept.

    In a text of n symbols, words are hit in random order, at least one, until their symbols are as near to round(ratio n) as the
    last word allows.
    Each hit symbol becomes the mask symbol with probability ``mask``, a random other symbol with probability ``random``, and
    stays unchanged otherwise.  All of them count as hit, so all are to be predicted (objective ``denoising(on="hit")``).

    Words are runs of letters and digits, and single other characters; the vocabulary in the ``form`` of the field determines
    which symbols continue a word.  Without a vocabulary each symbol is a word.  Special symbols are never hit and never drawn
    as replacements.

    Args:
        ratio: share of the symbols that are hit, in (0, 1).
        mask: share of hit symbols that become the mask symbol.
        random: share of hit symbols that become another symbol.
        whole: whether to hit whole words; otherwise each symbol counts as a word.
        data: signature of the data.

    Raises:
        PartArgumentError: an argument out of range.
        BuildError: the data is not tokens.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1 (15 %, 80/10/10); whole words: the authors' release of May 2019.
    """

    kinds = ("tokens",)
    advice = "hide frames with mask-spans, patches with mask-patches"

    joins: Bool[Tensor, " v"]
    ended: Bool[Tensor, " v"]
    plain: Tensor

    def __init__(
        self,
        ratio: Annotated[float, Gt(0), Lt(1)] = 0.15,
        *,
        mask: Share = 0.8,
        random: Share = 0.1,
        whole: bool = True,
        data: Signature | None = None,
    ) -> None:
        super().__init__(data)
        self.ratio = ratio
        self.mask, self.random = mask, random
        require(
            self.mask + self.random <= 1,
            f"mask and random must add up to at most 1, not {mask!r} and {random!r}",
        )
        vocab = 0 if self.field is None else int(self.field.vocab or 0)
        vocabulary = None if self.field is None else field_vocabulary(self.field)
        if vocabulary is None or not whole:
            joins, ended = torch.zeros(2, vocab + 1, dtype=torch.bool)
        else:
            joins, ended = vocabulary.word_boundaries
        special = torch.zeros(vocab + 1, dtype=torch.bool)
        if vocabulary is not None:
            special[[*vocabulary.specials]] = True
        plain = (~special[:vocab]).nonzero()[:, 0]
        for name, value in {"joins": joins, "ended": ended, "special": special, "plain": plain}.items():
            self.register_buffer(name, value, persistent=False)

    special: Bool[Tensor, " v"]

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "b t"]]:
        """Return the batch with corrupted ``x`` (b t), and ``hit`` (b t), True at every symbol to be predicted.

        Raises:
            DataError: the batch has no ``x``.
            BuildError: ``x`` is not symbols, or the vocabulary is not known.
        """
        if "x" not in batch:
            raise DataError(f"a corruption changes field 'x', and the batch has {', '.join(batch) or 'none'}")
        x = batch["x"]
        if x.is_floating_point() or x.ndim != 2:
            raise BuildError(self.kind_error("not symbols (b t)"))
        if not len(self.plain):
            raise BuildError("whole-words draws other symbols and needs to know the vocabulary: pass data=")
        valid = ~self._look_up(self.special, x)
        if "x_mask" in batch:
            valid = valid & batch["x_mask"].to(x.device)
        hit = self.hit_words(x, valid, draw_uniform(x.shape, x, generator))
        action = draw_uniform(x.shape, x, generator)
        other = self.plain.to(x.device)[(draw_uniform(x.shape, x, generator) * len(self.plain)).long()]
        replaced = torch.where(
            action < self.mask,
            self.fill_value(x, 0.0),
            torch.where(action < self.mask + self.random, other, x),
        )
        return {**batch, "x": torch.where(hit, replaced, x)}, hit

    def hit_words(self, x: Tensor, valid: Bool[Tensor, "b t"], noise: Tensor) -> Bool[Tensor, "b t"]:
        """Return the symbols of the words that are hit, given noise in [0, 1) for each symbol, of which a word's first is used."""
        continues = torch.zeros_like(valid)
        continues[:, 1:] = (
            self._look_up(self.joins, x[:, 1:])
            & self._look_up(self.ended, x[:, :-1])
            & valid[:, 1:]
            & valid[:, :-1]
        )
        word = (~continues).long().cumsum(1) - 1
        first = torch.full_like(noise, 2.0).scatter_reduce(
            1, word, torch.where(continues, torch.full_like(noise, 2.0), noise), "amin"
        )
        key = torch.where(valid, first.gather(1, word), 3.0)
        # A word's symbols are adjacent in this order; ties are broken by position in the text.
        order = key.argsort(dim=1, stable=True)
        word, real = word.gather(1, order), valid.gather(1, order)
        most = (valid.sum(1, keepdim=True) * self.ratio).round().clamp(min=1)
        size = torch.zeros_like(word).scatter_add(1, word, real.long()).gather(1, word)
        begin = torch.ones_like(real)
        begin[:, 1:] = word[:, 1:] != word[:, :-1]
        before = torch.where(begin, torch.arange(x.shape[1], device=x.device), 0).cummax(1).values
        chosen = real & ((2 * before + size <= 2 * most) | (before == 0))
        return torch.zeros_like(valid).scatter(1, order, chosen)

    def _look_up(self, table: Tensor, x: Tensor) -> Tensor:
        """Look up symbols in a table; the mask symbol has an entry, too."""
        return table.to(x.device)[x]
