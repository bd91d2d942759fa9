"""The output of a grammar: a likelihood of whole sentences, their trees, and samples of a given length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit import Decoded
from reprkit.errors import PartArgumentError
from reprkit_structure.layers.grammar import Grammar
from reprkit_structure.layers.grammar_samples import sample_words


@dataclass(frozen=True, kw_only=True)
class GrammarOutput(Decoded):
    """Grammars of a batch: ``params`` has log-probabilities, roots (b N), singles (b T), rules (b N S S), words (b T v)."""

    def grammar(self, target: Int[Tensor, "b n 1"], weight: Float[Tensor, "b n 1"] | None = None) -> Grammar:
        """Return the grammar and the sentences; words of weight 0 are unknown, those at the end are padding.

        Raises:
            PartArgumentError: a weight other than 0 and 1, or a sentence without words.
        """
        symbols = target.squeeze(-1)
        emissions = self.params["words"].gather(
            2, symbols.unsqueeze(1).expand(-1, self.params["words"].shape[1], -1)
        )
        emissions, mask = emissions.transpose(1, 2), None
        if weight is not None:
            counted = weight.squeeze(-1)
            if not bool(((counted == 0) | (counted == 1)).all()):
                raise PartArgumentError(
                    "a grammar gives the likelihood of whole sentences: the weight of a word is 1, or 0 for one that is not known"
                )
            mask = counted.flip(1).cummax(1).values.flip(1).bool()  # up to the last word that counts
            emissions = emissions.masked_fill(counted.unsqueeze(-1) == 0, 0.0)
        roots, singles, rules = (self.params[name] for name in ("roots", "singles", "rules"))
        return Grammar(roots, singles, rules, emissions, mask)

    def nll(self, target: Tensor, weight: Tensor | None = None) -> Float[Tensor, "b n"]:
        """Return -log p of each sentence, nats, in equal shares of its words (b n).

        Raises:
            PartArgumentError: see ``grammar``.
        """
        if weight is not None and not bool(weight.any()):
            nothing = sum(each[:0].sum() for each in self.params.values())  # 0, of the graph
            return weight.squeeze(-1) * nothing
        grammar = self.grammar(target, weight)
        counted = torch.ones_like(grammar.emissions[..., 0]) if weight is None else weight.squeeze(-1)
        return -grammar.log_prob().unsqueeze(1) * counted / counted.sum(1, keepdim=True)

    def trees(self, target: Tensor, weight: Tensor | None = None) -> Bool[Tensor, "b n n"]:
        """Return the chart of the best tree of each sentence, see ``Grammar.best``."""
        return self.grammar(target, weight).best()

    def sample(self, generator: torch.Generator | None = None) -> Int[Tensor, "b n 1"]:
        """Draw sentences of the grid's number of words: exactly p(sentence | grammar, number of words)."""
        (count,) = self.grid or (1,)
        return sample_words(self.params, count, generator).unsqueeze(-1)
