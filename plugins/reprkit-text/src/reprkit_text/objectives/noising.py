"""Noised copies of texts, for pre-training a generator of words."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.latents.functional import draw_noise
from reprkit.utils import collectives

Texts = tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]


def shuffle_phrases(texts: Texts, *, boundary: float, drop: float) -> Texts:
    """Shuffle the phrases of texts and drop some words, never all.

    Args:
        texts: words (b t), and their mask.
        boundary: probability that a phrase ends between two words: 1/3 gives phrases of three words.
        drop: probability that a word is dropped.
    """
    words, mask = texts
    cut, position, fate = (draw_noise(torch.rand, mask.float()) for _ in range(3))
    phrase = (cut < boundary).long().cumsum(1).clamp(max=words.shape[1] - 1)
    remaining = mask & (fate >= drop)
    remaining = torch.where(remaining.any(1, keepdim=True), remaining, mask)
    order = (position.gather(1, phrase) + 2 * (~remaining)).argsort(dim=1, stable=True)
    mask = remaining.gather(1, order)
    return words.gather(1, order).masked_fill(~mask, 0), mask


def append_random_words(texts: Texts, others: Texts, *, added: float) -> Texts:
    """Append random words of other texts, on average ``added`` times as many as a text has (b t+u)."""
    (words, mask), (other_words, other_mask) = texts, others
    rate = added * mask.sum(1, keepdim=True) / other_mask.sum(1, keepdim=True).clamp(min=1)
    chosen = other_mask & (draw_noise(torch.rand, other_mask.float()) < rate)
    return torch.cat([words, other_words], 1), torch.cat([mask, chosen], 1)


def sample_windows(texts: Texts, *, low: int, high: int, start: int, draw: bool) -> Texts:
    """Take a window of each text (b high): ``low`` to ``high`` words from one of its first ``start`` + 1 positions.

    The valid words must come first.  Without ``draw`` it has the middle length and starts at the first position; a shorter text
    is taken whole.
    """
    words, mask = texts
    size, device = mask.sum(1, keepdim=True), words.device
    if draw:
        uniform = collectives.global_draw(torch.rand, (len(words), 2)).to(device)
        count = low + (uniform[:, :1] * (high - low + 1)).long()
        first = (uniform[:, 1:] * (start + 1)).long()
    else:
        count, first = torch.full_like(size, (low + high) // 2), torch.zeros_like(size)
    first = torch.minimum(first, (size - count).clamp(min=0))
    step = torch.arange(high, device=device)[None]
    valid = (step < count) & (first + step < size)
    taken = words.gather(1, (first + step).clamp(max=words.shape[1] - 1))
    return taken.masked_fill(~valid, 0), valid


def take_spans(texts: Texts, slot: Int[Tensor, "b 2"]) -> Texts:
    """Take the span of each text (b m) that begins at ``slot[:, 0]`` and has ``slot[:, 1]`` words."""
    words, mask = texts
    first, count = slot[:, :1], slot[:, 1:]
    step = torch.arange(int(count.max()), device=words.device)[None]
    position = (first + step).clamp(max=words.shape[1] - 1)
    valid = (step < count) & (first + step < words.shape[1]) & mask.gather(1, position)
    return words.gather(1, position).masked_fill(~valid, 0), valid


def replace_spans(texts: Texts, slot: Int[Tensor, "b 2"], others: Texts) -> Texts:
    """Replace the span ``slot`` of each text by another text (b t+u), the valid words first."""
    (words, mask), (other_words, other_mask) = texts, others
    position = torch.arange(words.shape[1], device=words.device)[None]
    before = position < slot[:, :1]
    remaining = mask & (before | (position >= slot.sum(1, keepdim=True)))
    # Sort into three parts: before the span, the other text, after the span.
    part = torch.cat([torch.where(before, 0, 2).expand_as(words), torch.ones_like(other_words)], 1)
    valid = torch.cat([remaining, other_mask], 1)
    order = (part + 3 * (~valid)).argsort(dim=1, stable=True)
    valid = valid.gather(1, order)
    return torch.cat([words, other_words], 1).gather(1, order).masked_fill(~valid, 0), valid


def insert_random_words(texts: Texts, others: Texts, *, drop: float, added: float) -> Texts:
    """Drop some words of texts, and insert some words of other texts at random positions (b t+u).

    Args:
        texts: words (b t), and their mask.
        others: the texts to take words from (b u).
        drop: probability that a word is dropped; never all are.
        added: average number of inserted words for each word of a text.
    """
    (words, mask), (other_words, other_mask) = shuffle_phrases(texts, boundary=0.0, drop=drop), others
    size = mask.sum(1, keepdim=True)
    rate = added * size / other_mask.sum(1, keepdim=True).clamp(min=1)
    chosen, position = (draw_noise(torch.rand, other_mask.float()) for _ in range(2))
    valid = torch.cat([mask, other_mask & (chosen < rate)], 1)
    key = torch.cat(
        [torch.arange(words.shape[1], device=words.device).float().expand_as(words), position * size], 1
    )
    order = key.masked_fill(~valid, float("inf")).argsort(dim=1, stable=True)
    valid = valid.gather(1, order)
    return torch.cat([words, other_words], 1).gather(1, order).masked_fill(~valid, 0), valid
