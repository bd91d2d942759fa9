"""Trees that a latent writes for texts, beside those of the data."""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from reprkit import Evaluator
from reprkit.errors import DataError
from reprkit.evaluation.encoding import by_length
from reprkit_structure.layers.python_rules import expression_of, phrases_of
from reprkit_structure.objectives.parse import writer_of

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class ExactTree(Evaluator):
    """How often a latent of derivations writes a text's tree exactly, the likeliest rule at each step.

    - ``exact``: share of trees that equal the data's;
    - ``f1``, ``precision``, ``recall``: of the labeled brackets of all trees together: of each expression its kind, and the first
      and last leaf below it, the root included (as evalb counts);
    - ``parsed``: share of trees whose source Python's own parser reads as that tree;
    - ``nats``: -log q(tree | text) of the data's tree, an example;
    - ``constant.exact``, ``constant.f1``: of the most frequent tree of ``fit_on`` (of the data without it) for every text.

    Args:
        tree: the field with derivations.
        factor: name of the factor whose latent writes; None for the only factor.
    """

    def __init__(self, *, tree: str = "tree", factor: str | None = None) -> None:
        super().__init__()
        self.tree, self.factor = tree, factor

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Compute the metrics above.

        Raises:
            BuildError: the model's latent writes no derivations.
            DataError: the data has no trees.
        """
        name, latent = writer_of(model, self.factor, "exact-tree")
        rows, nats = trees_of_texts(model, data, self.tree, name)
        known = [gold for _, gold in rows] if fit_on is None else _gold(fit_on, self.tree)
        constant = Counter(map(tuple, known)).most_common(1)[0][0]
        parsed = 0
        for own, _ in rows:
            tree = expression_of(latent.rules, own)
            parsed += ast.dump(ast.parse(ast.unparse(tree), mode="eval").body) == ast.dump(tree)
        other = _compare(latent.rules, [(list(constant), gold) for _, gold in rows])
        return {
            **_compare(latent.rules, rows),
            "parsed": parsed / len(rows),
            "nats": nats / len(rows),
            "constant.exact": other["exact"],
            "constant.f1": other["f1"],
        }


@torch.no_grad()
def trees_of_texts(
    model: Model, data: Dataset, tree: str = "tree", factor: str | None = None
) -> tuple[list[tuple[list[int], list[int]]], float]:
    """Return of each text the derivation that the model writes and the data's, and the sum of -log q of the latter, nats.

    Raises:
        BuildError: the model's latent writes no derivations.
        DataError: the data has no trees.
    """
    name, latent = writer_of(model, factor, "exact-tree")
    if tree not in data.signature:
        raise DataError(f"the data has no field {tree!r} of trees; it has {', '.join(data.signature)}")
    found: dict[int, tuple[list[int], list[int]]] = {}
    nats = 0.0
    for index, batch in by_length(data, "parsing"):
        moved = model.to_device(batch)
        code = model.encode(batch, factors=[name])[name]
        assert code.indices is not None
        assert code.mask is not None
        gold, mask = moved[tree], moved.get(f"{tree}_mask")
        nats -= float(latent.log_prob_of(model.factors[name].features(moved), gold, mask).sum())
        lengths = [gold.shape[1]] * len(gold) if mask is None else mask.sum(1).tolist()
        for place, own, valid, given, length in zip(
            index.tolist(), code.indices.squeeze(-1).tolist(), code.mask.sum(1).tolist(), gold.tolist(), lengths, strict=True
        ):  # fmt: skip
            found[place] = (own[:valid], given[:length])
    return [found[place] for place in sorted(found)], nats


def sources_of(
    model: Model, data: Dataset, tree: str = "tree", factor: str | None = None
) -> list[tuple[str, str, str]]:
    """Return of each text its words, the data's expression and the one that the model writes; in evaluation mode.

    Raises:
        BuildError: the model's latent writes no derivations.
        DataError: the data has no trees.
    """
    rules, words = writer_of(model, factor, "exact-tree")[1].rules, data.facts["words"]
    rows, _ = trees_of_texts(model.eval(), data, tree, factor)
    texts = [" ".join(words[word] for word in data[place]["x"].tolist()) for place in range(len(data))]
    own, gold = ([ast.unparse(expression_of(rules, row[side])) for row in rows] for side in (0, 1))
    return list(zip(texts, gold, own, strict=True))


def _gold(data: Dataset, tree: str) -> list[list[int]]:
    return [data[place][tree].tolist() for place in range(len(data))]


def _compare(rules: Any, rows: list[tuple[list[int], list[int]]]) -> dict[str, float]:
    common = predicted = gold = 0
    for own, other in rows:
        mine, theirs = phrases_of(rules, own), phrases_of(rules, other)
        common += (mine & theirs).total()
        predicted += mine.total()
        gold += theirs.total()
    return {
        "exact": sum(own == other for own, other in rows) / len(rows),
        "f1": 2 * common / max(1, predicted + gold),
        "precision": common / max(1, predicted),
        "recall": common / max(1, gold),
    }
