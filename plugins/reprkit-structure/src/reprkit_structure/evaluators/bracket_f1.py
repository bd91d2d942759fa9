"""Bracket F1: the trees that a model finds, beside gold brackets and baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit import Evaluator
from reprkit.errors import BuildError, DataError
from reprkit.registry.constraints import Seed
from reprkit_structure.layers.brackets import BracketScore, best_binary_chart, chart_of_brackets
from reprkit_structure.layers.branching import BASELINES, baseline_chart
from reprkit_structure.layers.charts import chart_of_parents

if TYPE_CHECKING:
    from reprkit import Dataset, Model
    from reprkit.types import Batch


class BracketF1(Evaluator):
    """Unlabeled F1 of the brackets that a model finds, and of trees that need no model.

    - ``f1``, ``precision``, ``recall``: over the brackets of all sentences together, without those of one word and of the whole
      sentence, each once (``reprkit_structure.layers.brackets`` states the rule);
    - ``sentence_f1``: mean of each sentence's F1, as Kim, Dyer and Rush 2019 report it;
    - ``f1_left``, ``f1_right``, ``f1_balanced``, ``f1_random``: of branching baselines; ``f1_best``: of the binary trees with the
      most gold brackets, the bound of every binary parser.

    The trees are those of the decoder where it provides "parses" (a grammar), else those of the code, where encoder or latent
    provides "tree".

    Args:
        opens: the field with the number of gold brackets that open before each word.
        closes: the field with the number of those that close after each word.
        seed: of the random trees.
    """

    def __init__(self, *, opens: str = "opens", closes: str = "closes", seed: Seed = 0) -> None:
        super().__init__()
        self.opens, self.closes, self.seed = opens, closes, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Compute the metrics above.

        Raises:
            BuildError: the model finds no trees.
            DataError: the data has no gold brackets.
        """
        for name in (self.opens, self.closes):
            data.signature[name]  # raises and names the known fields
        found = {name: BracketScore() for name in ("model", *BASELINES, "best")}
        for place, batch in enumerate(data.batches()):
            gold, lengths = gold_charts(batch, self.opens, self.closes)
            count = gold.shape[1]
            own = trees_of(model, batch).cpu()
            if own.shape != gold.shape:
                raise DataError(
                    f"bracket-f1: the model's trees are over {own.shape[1]} words, and the gold brackets over {count}"
                )
            trees = {"model": own, "best": best_binary_chart(gold, lengths)}
            for name in BASELINES:
                trees[name] = baseline_chart(name, lengths, seed=self.seed + place, count=count)
            for name, chart in trees.items():
                found[name].add(chart, gold, lengths)
        others = {f"f1_{name}": found[name].metrics()["f1"] for name in (*BASELINES, "best")}
        return found["model"].metrics() | others


def gold_charts(batch: Batch, opens: str, closes: str) -> tuple[Bool[Tensor, "b n n"], Int[Tensor, " b"]]:
    """Return the chart of the gold brackets of a batch, and the lengths of its sentences.

    Raises:
        DataError: a bracket that is closed and not open, or never closed.
    """
    mask = batch.get(f"{opens}_mask")
    size, count = batch[opens].shape
    lengths = torch.full((size,), count) if mask is None else mask.sum(1).cpu()
    return chart_of_brackets(batch[opens].cpu(), batch[closes].cpu(), lengths), lengths


def trees_of(model: Model, batch: Batch) -> Bool[Tensor, "b n n"]:
    """Return the chart of the trees that a model finds for the sentences of a batch, in evaluation mode.

    Raises:
        BuildError: it finds none.
    """
    decoders = [output.decoder for output in model.outputs.values()]
    codes = model.encode(batch)
    if len(decoders) == 1 and "parses" in decoders[0].provides:
        scored = model.score(batch, codes)
        return scored.decoded.trees(scored.target, scored.weight)  # type: ignore[attr-defined]
    for code in codes.values():
        if code.parents is not None:
            return chart_of_parents(code.parents, code.mask)
    raise BuildError(
        'this model finds no trees: use a decoder that provides "parses", such as pcfg, or a latent that provides "tree"'
    )
