"""Sentences drawn from a grammar, given their number of words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit_structure.layers.inside import Rules, inside


@torch.no_grad()
def sample_words(
    params: Mapping[str, Tensor], count: int, generator: torch.Generator | None = None
) -> Int[Tensor, "b n"]:
    """Draw one sentence of ``count`` words from each grammar: exact draws from p(words | number of words).

    Unknown words have probability 1 under every preterminal, so the inside chart holds the probability that a symbol becomes
    so many words.  Symbols are then drawn from the root down, the leftmost open phrase of all sentences at once.

    Args:
        params: log-probabilities: roots (b N), singles (b T), rules (b N S S), words (b T v).
        count: number of words, from 1.
        generator: on the device of the parameters.
    """
    roots, singles, rules, words = (params[name] for name in ("roots", "singles", "rules", "words"))
    size, nonterminals, preterminals = len(roots), roots.shape[1], singles.shape[1]
    if count == 1:
        preterminal = _draw(singles, generator)
        return _draw(words[torch.arange(size), preterminal], generator)[:, None]
    unknown = roots.new_zeros(size, count, preterminals)
    lengths = torch.full((size,), count, device=roots.device)
    chart = inside(torch.ones_like(unknown), unknown[..., 0], lengths, Rules.of(rules))
    # log p(symbol becomes w words), (b w S): all starts are alike.
    floor = roots.new_full((), float("-inf"))
    phrases = torch.cat(
        [floor.expand(size, 1, nonterminals), chart.by_start[:, 0].log() + chart.scales[:, 0].unsqueeze(-1)],
        1,
    )
    single = torch.cat([unknown[:, :1], floor.expand(size, count - 1, preterminals)], 1)
    chances = torch.cat([phrases, single], -1)
    rows = torch.arange(size, device=roots.device)
    found = torch.zeros(size, count, dtype=torch.int64, device=roots.device)
    stack = torch.zeros(size, count + 1, 2, dtype=torch.int64, device=roots.device)  # symbol and width
    stack[:, 0, 0] = _draw(roots + chances[:, count - 1, :nonterminals], generator)
    stack[:, 0, 1] = count
    depth = torch.zeros_like(found[:, 0])  # of the top of the stack; -1: nothing is left
    done = torch.zeros_like(depth)
    for _ in range(2 * count - 1):
        symbol, width = stack[rows, depth.clamp(min=0)].unbind(-1)
        word = (width == 1) & (depth >= 0)
        preterminal = (symbol - nonterminals).clamp(min=0)
        drawn = _draw(words[rows, preterminal], generator)
        found[rows[word], done[word]] = drawn[word]
        phrase = (width > 1) & (depth >= 0)
        left, first, second = _expand(rules, chances, symbol.clamp(max=nonterminals - 1), width, generator)
        stack[rows[phrase], depth[phrase]] = torch.stack([second, width - left], -1)[phrase]
        stack[rows[phrase], depth[phrase] + 1] = torch.stack([first, left], -1)[phrase]
        done, depth = done + word.long(), depth + phrase.long() - word.long()
    return found


def _expand(
    rules: Float[Tensor, "b N S S"],
    chances: Float[Tensor, "b w S"],
    symbol: Int[Tensor, " b"],
    width: Int[Tensor, " b"],
    generator: torch.Generator | None,
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"], Int[Tensor, " b"]]:
    """Draw the size of the left part and both symbols of a phrase; of no meaning for a single word."""
    rows, count, symbols = torch.arange(len(rules), device=rules.device), chances.shape[1], chances.shape[2]
    sizes = torch.arange(1, count, device=rules.device)  # of the left part
    rest = width[:, None] - sizes
    right = chances[rows[:, None], (rest - 1).clamp(min=0)]
    scores = chances[:, : count - 1].unsqueeze(-1) + right.unsqueeze(-2) + rules[rows, symbol].unsqueeze(1)
    scores = scores.masked_fill((rest < 1)[:, :, None, None], float("-inf")).flatten(1)
    # A row that expands no phrase may have no possible split: it draws anything.
    scores = torch.where(torch.isfinite(scores).any(1, keepdim=True), scores, 0.0)
    choice = _draw(scores, generator)
    return 1 + choice // symbols**2, choice // symbols % symbols, choice % symbols


def _draw(logits: Float[Tensor, "b k"], generator: torch.Generator | None) -> Int[Tensor, " b"]:
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
