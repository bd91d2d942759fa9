"""Damaged copies of texts, from which a generator learns to write before it is trained on anything else."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.latents.functional import draw_noise
from reprkit.utils import collectives

Texts = tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]


def shuffled(texts: Texts, *, boundary: float, drop: float) -> Texts:
    """Phrases in another order, some words dropped; never all of them.

    Args:
        texts: words (b t), and which are valid.
        boundary: probability that a phrase ends between two words: 1/3 gives phrases of three words.
        drop: probability that a word is dropped.
    """
    words, mask = texts
    cut, place, fate = (draw_noise(torch.rand, mask.float()) for _ in range(3))
    phrase = (cut < boundary).long().cumsum(1).clamp(max=words.shape[1] - 1)
    kept = mask & (fate >= drop)
    kept = torch.where(kept.any(1, keepdim=True), kept, mask)
    order = (place.gather(1, phrase) + 2 * (~kept)).argsort(dim=1, stable=True)
    mask = kept.gather(1, order)
    return words.gather(1, order).masked_fill(~mask, 0), mask


def mixed(texts: Texts, others: Texts, *, added: float) -> Texts:
    """Texts followed by words of other texts: ``added`` times as many as their own, on average (b t+u)."""
    (words, mask), (more, there) = texts, others
    rate = added * mask.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
    chosen = there & (draw_noise(torch.rand, there.float()) < rate)
    return torch.cat([words, more], 1), torch.cat([mask, chosen], 1)


def windows(texts: Texts, *, low: int, high: int, start: int, draw: bool) -> Texts:
    """A stretch of each text (b high): ``low`` to ``high`` words from one of its first ``start`` + 1 places.

    The valid words must come first.  Without ``draw`` it is the middle length from the first place; a text that is shorter is
    taken whole.
    """
    words, mask = texts
    size, device = mask.sum(1, keepdim=True), words.device
    if draw:
        spread = collectives.global_draw(torch.rand, (len(words), 2)).to(device)
        count = low + (spread[:, :1] * (high - low + 1)).long()
        first = (spread[:, 1:] * (start + 1)).long()
    else:
        count, first = torch.full_like(size, (low + high) // 2), torch.zeros_like(size)
    first = torch.minimum(first, (size - count).clamp(min=0))
    step = torch.arange(high, device=device)[None]
    valid = (step < count) & (first + step < size)
    taken = words.gather(1, (first + step).clamp(max=words.shape[1] - 1))
    return taken.masked_fill(~valid, 0), valid


def stretches(texts: Texts, slot: Int[Tensor, "b 2"]) -> Texts:
    """The stretch of each text (b m) that begins at ``slot[:, 0]`` and has ``slot[:, 1]`` words."""
    words, mask = texts
    first, count = slot[:, :1], slot[:, 1:]
    step = torch.arange(int(count.max()), device=words.device)[None]
    place = (first + step).clamp(max=words.shape[1] - 1)
    valid = (step < count) & (first + step < words.shape[1]) & mask.gather(1, place)
    return words.gather(1, place).masked_fill(~valid, 0), valid


def planted(texts: Texts, slot: Int[Tensor, "b 2"], others: Texts) -> Texts:
    """Texts with other texts in place of their slots (b t+u), the valid words first."""
    (words, mask), (more, there) = texts, others
    place = torch.arange(words.shape[1], device=words.device)[None]
    before = place < slot[:, :1]
    kept = mask & (before | (place >= slot.sum(1, keepdim=True)))
    # In the order of three parts: before the slot, the other text, behind the slot.
    part = torch.cat([torch.where(before, 0, 2).expand_as(words), torch.ones_like(more)], 1)
    valid = torch.cat([kept, there], 1)
    order = (part + 3 * (~valid)).argsort(dim=1, stable=True)
    valid = valid.gather(1, order)
    return torch.cat([words, more], 1).gather(1, order).masked_fill(~valid, 0), valid


def sprinkled(texts: Texts, others: Texts, *, drop: float, added: float) -> Texts:
    """Texts without some of their words, and with some of other texts between them, at random places (b t+u).

    Args:
        texts: words (b t), and which are valid.
        others: where words are taken from (b u).
        drop: probability that a word is dropped; never all of them.
        added: how many are added, for each word.
    """
    (words, mask), (more, there) = shuffled(texts, boundary=0.0, drop=drop), others
    size = mask.sum(1, keepdim=True)
    rate = added * size / there.sum(1, keepdim=True).clamp(min=1)
    chosen, where = (draw_noise(torch.rand, there.float()) for _ in range(2))
    valid = torch.cat([mask, there & (chosen < rate)], 1)
    key = torch.cat(
        [torch.arange(words.shape[1], device=words.device).float().expand_as(words), where * size], 1
    )
    order = key.masked_fill(~valid, float("inf")).argsort(dim=1, stable=True)
    valid = valid.gather(1, order)
    return torch.cat([words, more], 1).gather(1, order).masked_fill(~valid, 0), valid
