"""Compound PCFG: a grammar whose rules depend on the code of the sentence."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Signature
from reprkit.decoders.head import choose_likelihood
from reprkit.errors import BuildError
from reprkit.models.factor import masked_mean
from reprkit.registry.constraints import Width
from reprkit.utils.precision import at_least_float32, without_autocast
from reprkit_structure.decoders.grammar_output import GrammarOutput


class PCFG(Decoder):
    """A neural grammar: log p(sentence | code) summed over all its trees (Kim, Dyer and Rush 2019, arXiv 1906.10225).

    ::

        z = mean of the code's tokens (b width)
        start -> A     softmax over A        of an MLP of [root; z]
        A -> B C       softmax over B and C  of a linear map of [symbol A; z]
        P -> word      softmax over words    of an MLP of [symbol P; z]

    A, P, root: learned vectors; B and C are nonterminals or preterminals.  A code of one token (``rk.factor(..., pool=True)``)
    is the paper's z: with ``gaussian`` a compound PCFG, with a discrete latent a mixture of grammars.  Sentences of one word,
    which that normal form lacks, come from a distribution over preterminals of their own.

    The likelihood is of the whole sentence, given its length's being one or more: ``Decoded.nll`` gives each word an equal
    share, and words whose weight is 0 are summed over, as unknown words.  There is no point estimate.  It provides "parses":
    ``Decoded.trees(target, weight)`` is the tree with the most expected correct brackets.

    Args:
        nonterminals: number of symbols of phrases (N).
        preterminals: number of symbols of words (T); work grows with N (N + T)^2.
        width: of the symbols' vectors, and of the code.
        depth: residual blocks of each MLP.

    Raises:
        BuildError: the data is not tokens.
    """

    provides = frozenset({"parses"})

    def __init__(
        self,
        nonterminals: Annotated[int, Ge(1), Le(1000)] = 10,
        preterminals: Annotated[int, Ge(1), Le(1000)] = 20,
        *,
        width: Width = 64,
        depth: Annotated[int, Ge(0), Le(100)] = 2,
        data: Signature,
    ) -> None:
        super().__init__()
        self.field = data["x"]
        if self.field.kind != "tokens" or self.field.vocab is None:
            raise BuildError(
                f"decoder pcfg writes sentences of symbols, and the data is {self.field.kind}: use it with tokens"
            )
        self.likelihood = choose_likelihood(self.field)
        self.in_dim, self.nonterminals, self.preterminals = width, nonterminals, preterminals
        symbols = nonterminals + preterminals
        self.root = nn.Parameter(torch.randn(1, width))
        self.phrases = nn.Parameter(torch.randn(nonterminals, width))
        self.words = nn.Parameter(torch.randn(preterminals, width))
        self.to_root = _mlp(width, depth, symbols)
        # Linear in [symbol; z]: the sum of two maps, so that the code's is computed once for all symbols.
        self.to_rules, self.rules_of_code = (
            nn.Linear(width, symbols**2),
            nn.Linear(width, symbols**2, bias=False),
        )
        self.to_words = _mlp(width, depth, self.field.vocab)
        for weight in (self.to_rules.weight, self.rules_of_code.weight):
            nn.init.xavier_uniform_(weight)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of sentences under the grammars of a code (b m width).

        Raises:
            BuildError: no code.
        """
        if features is None:
            raise BuildError(
                "decoder pcfg writes from a code, and there is none: use an encoder and a latent (gaussian gives a compound PCFG)"
            )
        steps = self.field.shape[0] or length or features.length or features.x.shape[1]
        with without_autocast(features.x.device):
            z = at_least_float32(masked_mean(features.x, features.mask))
            joined = self.to_root(torch.cat([self.root.expand(len(z), -1), z], -1))
            roots, singles = joined.split([self.nonterminals, self.preterminals], -1)
            symbols = self.nonterminals + self.preterminals
            rules = self.to_rules(self.phrases) + self.rules_of_code(z).unsqueeze(1)
            words = self.to_words(_pair(self.words, z))
            params = {
                "roots": roots.log_softmax(-1),
                "singles": singles.log_softmax(-1),
                "rules": rules.log_softmax(-1).unflatten(-1, (symbols, symbols)),
                "words": words.log_softmax(-1),
            }
        return GrammarOutput(likelihood=self.likelihood, params=params, grid=(steps,), has_point=False)


def _pair(symbols: Float[Tensor, "k d"], z: Float[Tensor, "b d"]) -> Float[Tensor, "b k 2d"]:
    shape = (len(z), len(symbols), -1)
    return torch.cat([symbols.expand(shape), z.unsqueeze(1).expand(shape)], -1)


def _mlp(width: int, depth: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * width, width), *(_Residual(width) for _ in range(depth)), nn.Linear(width, out)
    )


class _Residual(nn.Module):
    """x + relu(W relu(V x)), as in the authors' code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (... width) to the same shape."""
        return x + self.layers(x)
