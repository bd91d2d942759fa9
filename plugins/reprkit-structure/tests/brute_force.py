"""Trees by enumeration: the independent reference of the layers' tests."""

import itertools
import math
from functools import cache

import torch


@cache
def trees(i, j):
    """All binary trees over words i to j, each a frozenset of spans (first word, last word)."""
    if i == j:
        return (frozenset({(i, i)}),)
    return tuple(
        left | right | {(i, j)}
        for k in range(i, j)
        for left, right in itertools.product(trees(i, k), trees(k + 1, j))
    )


def chart_of(tree, count):
    chart = torch.zeros(count, count, dtype=torch.bool)
    for i, j in tree:
        chart[i, j] = True
    return chart


def tree_scores(scores, length):
    """The score of every tree over the first words."""
    return torch.stack([sum(scores[i, j] for i, j in tree) for tree in trees(0, length - 1)])


def sentence_probability(roots, rules, emissions, length):
    """log p of a sentence of two or more words under a grammar: the sum over all derivations, by recursion over spans."""
    n = len(roots)

    @cache
    def inside(i, j):
        if i == j:
            return [0.0] * n + [math.exp(value) for value in emissions[i].tolist()]
        found = []
        for a in range(n):
            total = 0.0
            for k in range(i, j):
                left, right = inside(i, k), inside(k + 1, j)
                for b, c in itertools.product(range(len(left)), repeat=2):
                    total += math.exp(float(rules[a, b, c])) * left[b] * right[c]
            found.append(total)
        return found + [0.0] * emissions.shape[1]

    return math.log(sum(math.exp(float(r)) * p for r, p in zip(roots, inside(0, length - 1), strict=False)))


def derivations(rules, length):
    """All whole trees of a grammar with at most ``length`` rules, by recursion over the open symbols."""

    def grow(open_symbols, remaining):
        if not open_symbols:
            yield []
            return
        if len(open_symbols) > remaining:
            return
        for rule, left in enumerate(rules.left):
            if left == open_symbols[0]:
                for rest in grow(rules.right[rule] + open_symbols[1:], remaining - 1):
                    yield [rule, *rest]

    return list(grow((0,), length))
