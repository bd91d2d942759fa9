"""Words by negative sampling: each token's word, or the words around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Signature
from reprkit.corruptions.base import draw_uniform
from reprkit.decoders.head import choose_likelihood
from reprkit.errors import BuildError
from reprkit.models.grid import align
from reprkit.registry.constraints import Width
from reprkit.utils.precision import at_least_float32, without_autocast
from reprkit_text.negative_sampling import SparseSampledLoss, sampled_loss
from reprkit_text.word_windows import pair_weights

if TYPE_CHECKING:
    from reprkit import Model

_LOGITS = 1 << 24  # logits in memory at a time
_POWER = 0.75  # of the noise distribution (arXiv 1310.4546, section 2.2)


class WordsDecoder(Decoder):
    """The output of word2vec by negative sampling (Mikolov et al. 2013, arXiv 1310.4546).

    ``score(word | token) = h . u_word``.  Without ``neighbors``, a token predicts its own word: the decoder of CBOW.  With
    ``neighbors``, it predicts the words around it: skip-gram.  Pairs are weighted by their probability under word2vec's random
    windows, ``(neighbors + 1 - r) / neighbors`` at distance r.

    In training the loss of a pair is ``-log s(h . u_word) - negatives * E[log s(-h . u)]``, u from the noise distribution, counts
    to the power 3/4.  The expectation is estimated from ``shared`` draws for each ``group`` of examples, which all its tokens
    share.  Without counts in the signature (``Dataset.count_symbols``, data set words) the noise is uniform.  Metric ``perplexity``
    of training is that of this loss.  In evaluation the nats are exact: at the optimum of this loss h . u is log(p / q) up to a
    constant (Levy and Goldberg 2014), so p is softmax(h . u + log q).

    Args:
        dim: width of the vectors, after the core's linear map; None: the code's own width, without that map, as in word2vec.
        neighbors: largest distance of a predicted word; None: the token's own word.
        negatives: weight of the noise, the number of negative words of a pair.
        shared: number of noise words drawn for a group of examples.
        group: number of consecutive examples of a batch that share noise words.
        sparse: sparse gradients, in closed form, for large vocabularies: with optimizers "row-adagrad", "adagrad", "sgd" and
            "sparse-adam".
        data: the signature of the output, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not tokens, there is no code, or with ``dim=None`` factors of several widths.
    """

    noise: Tensor
    log_noise: Tensor

    def __init__(
        self,
        dim: Width | None = 100,
        *,
        neighbors: Annotated[int, Ge(1), Le(1000)] | None = None,
        negatives: Annotated[float, Gt(0), Le(1000)] = 5.0,
        shared: Annotated[int, Ge(1), Le(2**16)] = 16,
        group: Annotated[int, Ge(1), Le(2**16)] = 1,
        sparse: bool = False,
        data: Signature,
    ) -> None:
        super().__init__()
        if neighbors is None:  # objective masked refuses it: a word that was not read cannot be predicted
            self.provides = frozenset({"tokenwise"})
        self.field = data["x"]
        if self.field.kind != "tokens" or self.field.vocab is None:
            raise BuildError(f"decoder words returns symbols (kind tokens), and x is {self.field.kind} data")
        self.in_dim, self.needs_adapter = dim or 1, dim is not None
        self.neighbors, self.negatives, self.shared, self.group = neighbors, negatives, shared, group
        self.likelihood = choose_likelihood(self.field)
        self.table = self._make_table(sparse)
        counts = torch.tensor(self.field.counts or [1] * self.field.vocab, dtype=torch.float64)
        shares = (
            counts.clamp(min=0.5) ** _POWER
        )  # a symbol that was not seen has a share, so that nats are finite
        shares /= shares.sum()
        self.register_buffer("noise", shares.cumsum(0).float(), persistent=False)
        self.register_buffer("log_noise", shares.log().float(), persistent=False)

    def _make_table(self, sparse: bool) -> nn.Embedding:
        table = nn.Embedding(int(self.field.vocab or 0), self.in_dim, sparse=sparse)
        nn.init.uniform_(table.weight, -0.5 / self.in_dim, 0.5 / self.in_dim)
        return table

    def bind(self, model: Model) -> None:
        """Take the width of the code, with ``dim=None``."""
        if self.needs_adapter:
            return
        output = next(output for output in model.outputs.values() if output.decoder is self)
        widths = {name: model.factors[name].latent.out_dim for name in output.reads}
        if len(set(widths.values())) != 1:
            raise BuildError(
                "decoder words(dim=None) reads the code as it is, and needs factors of one width, not "
                + (", ".join(f"{name} of {width}" for name, width in widths.items()) or "none")
                + ": give it a dim="
            )
        if (width := next(iter(widths.values()))) != self.in_dim:
            self.in_dim = width
            self.table = self._make_table(self.table.sparse)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of each token's word, or of its neighbors."""
        if features is None:
            raise BuildError("decoder words needs a code, and there is none")
        count = length or self.field.space[0] or features.x.shape[1]
        code, _ = align(features, count)
        mask = features.mask if features.x.shape[1] == count and features.positions is None else None
        decoded: WordsDecoded = WordsDecoded(
            x=lambda: decoded.most_likely(),  # the descriptor takes a function
            likelihood=self.likelihood,
            params={"vectors": code.unsqueeze(2)},
            mask=mask,
            grid=(count,),
            has_point=self.neighbors is None,
            decoder=self,
        )
        return decoded

    def draw_noise(self, like: Float[Tensor, "b n d"]) -> Int[Tensor, "g k"]:
        """Draw noise words, ``shared`` for each group of examples."""
        # One row an example, so that ranks whose examples are whole groups draw what one process would draw.
        uniform = draw_uniform((len(like), self.shared), like.float(), None)[:: self.group]
        return torch.searchsorted(self.noise, uniform.to(self.noise).contiguous()).clamp(
            max=len(self.noise) - 1
        )


@dataclass(frozen=True, kw_only=True)
class WordsDecoded(Decoded):
    """The output of decoder words, ``params["vectors"]`` (b n 1 d); logits of all words are computed in blocks."""

    decoder: WordsDecoder

    @property
    def vectors(self) -> Float[Tensor, "b n d"]:
        """One vector a token."""
        return self.params["vectors"][:, :, 0]

    def nll(self, target: Tensor, weight: Tensor | None = None) -> Float[Tensor, "b n"]:
        """Return the loss of negative sampling in training, else -log p in nats; of neighbors the weighted sum over these."""
        symbols, valid = target[..., 0], None if weight is None else weight[..., 0]
        if valid is None:
            valid = (
                torch.ones(symbols.shape, device=symbols.device) if self.mask is None else self.mask.float()
            )
        pairs = None
        if self.decoder.neighbors is not None:
            weights = pair_weights(symbols.shape[1], self.decoder.neighbors, valid)
            pairs = weights * valid.unsqueeze(1) * valid.unsqueeze(2)
        return (self._sampled if self.decoder.training else self._exact)(symbols, valid, pairs)

    def _sampled(self, symbols: Tensor, valid: Tensor, pairs: Tensor | None) -> Tensor:
        decoder, table = self.decoder, self.decoder.table
        noise, weights = decoder.draw_noise(self.vectors), valid if pairs is None else pairs
        negatives, group = decoder.negatives, decoder.group
        if not table.sparse:
            given = (self.vectors, table.weight, symbols, noise, weights)
            return sampled_loss(*given, negatives=negatives, group=group)
        with without_autocast(weights.device):
            vectors = at_least_float32(self.vectors)
            return SparseSampledLoss.apply(vectors, table.weight, symbols, noise, weights, negatives, group)

    def _exact(self, symbols: Tensor, valid: Tensor, pairs: Tensor | None) -> Tensor:
        h, table = self.vectors, self.decoder.table.weight
        normalizer = torch.cat([logits.logsumexp(-1) for logits in self._blocks()]).view(h.shape[:2])
        words, log_noise = table[symbols], self.decoder.log_noise[symbols]
        if pairs is None:
            return (normalizer - (h * words).sum(-1) - log_noise) * valid
        scores = h @ words.transpose(1, 2) + log_noise.unsqueeze(1)
        return ((normalizer.unsqueeze(-1) - scores) * pairs).sum(-1)

    def _blocks(self) -> Iterator[Tensor]:
        table, size = self.decoder.table.weight, max(1, _LOGITS // len(self.decoder.log_noise))
        return (h @ table.T + self.decoder.log_noise for h in self.vectors.flatten(0, 1).split(size))

    def most_likely(self) -> Int[Tensor, "b n 1"]:
        """Return the most likely word of each token."""
        return torch.cat([logits.argmax(-1) for logits in self._blocks()]).view(*self.vectors.shape[:2], 1)

    def sample(self, generator: torch.Generator | None = None) -> Int[Tensor, "b n 1"]:
        """Draw a word for each token; of neighbors one of them."""
        draws = [torch.multinomial(logits.softmax(-1), 1, generator=generator) for logits in self._blocks()]
        return torch.cat(draws).view(*self.vectors.shape[:2], 1)
