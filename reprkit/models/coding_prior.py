"""Coding of symbols under a prior model: each symbol under its probability given the symbols before it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from reprkit.errors import CompressionError
from reprkit.models.fingerprints import module_fingerprint
from reprkit.models.priors import prior_of_codes
from reprkit.types import Code
from reprkit.utils.exact_probabilities import logits_to_edges
from reprkit.utils.modes import eval_mode
from reprkit.utils.symbol_coder import CHECKSUM, Coder, Integers, symbols_checksum

if TYPE_CHECKING:
    from reprkit.models.model import Model


class CodingPrior:
    """Writes and reads the codes of one factor under a causal model of its symbols: CRC-32 of the symbols 4 │ coder's bytes.

    Writer and reader compute the same probabilities in the same way: step by step, for one example at a time, so that a string
    depends neither on the batch that it was written in nor on the one that it is read in.  The prior computes in float64, and its
    logits are rounded (``reprkit.utils.exact_probabilities``), so that threads and precision settings do not matter.  If a
    reader still computes other probabilities, the checksum does not match and the string is refused.

    Args:
        model: the model whose codes are coded.
        factor: name of the factor.
        prior: a causal decoder without an encoder, trained on these codes (``CodesOf``), or its folder.

    Attributes:
        fingerprint: 4 bytes that depend on all of the prior's weights.

    Raises:
        BuildError: the prior is of another kind, or was trained on other codes.
    """

    def __init__(self, model: Model, factor: str, prior: Model | str) -> None:
        self.model = prior_of_codes(model, factor, prior)
        self.latent = model.latent(factor)
        self.fingerprint = module_fingerprint(self.model)
        self._exact = copy.deepcopy(self.model).double().eval()

    @torch.no_grad()
    def write(self, code: Code) -> list[bytes]:
        """Encode the indices of each example's valid tokens, slot by slot within a token."""
        assert code.indices is not None
        strings = []
        for row, indices in enumerate(code.indices.cpu()):
            symbols = (indices if code.mask is None else indices[code.mask[row].cpu()]).flatten().tolist()
            steps, coder = _Steps(self._exact, len(symbols)), Coder()
            lefts, probabilities = [], []
            for symbol in symbols:
                edges = steps.next_edges()
                lefts.append(int(edges[symbol]))
                probabilities.append(int(edges[symbol + 1] - edges[symbol]))
                steps.add(symbol)
            coder.push(lefts, probabilities)
            strings.append(symbols_checksum(np.array(symbols)) + coder.to_bytes())
        return strings

    @torch.no_grad()
    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``; see ``Latent.read``.

        Raises:
            CompressionError: the symbols of a string are not those that were written: the prior computes other probabilities here.
        """
        slots = len(self.latent.vocab or ())
        indices = torch.zeros(*like.z.shape[:2], slots, dtype=torch.int64)
        for row, string in enumerate(strings):
            valid = slice(None) if like.mask is None else like.mask[row].cpu()
            count = indices[row, valid].numel()
            steps, coder, symbols = _Steps(self._exact, count), Coder(string[CHECKSUM:]), []
            for _ in range(count):
                symbols.append(coder.pop_symbol(steps.next_edges()))
                steps.add(symbols[-1])
            if not coder.empty or symbols_checksum(np.array(symbols)) != string[:CHECKSUM]:
                raise CompressionError(
                    f"string {row} does not decode to the symbols that were written: the prior computes other probabilities here "
                    "(another version of reprkit or torch, or another processor); read it where it was written"
                )
            indices[row, valid] = rearrange(torch.tensor(symbols, dtype=torch.int64), "(n q) -> n q", q=slots)
        indices = indices.to(like.z.device)
        return Code.of(like, z=self.latent.embed(indices).to(like.z), indices=indices)


class _Steps:
    """The steps of a causal decoder through one sequence of symbols.

    Args:
        prior: a model without an encoder; it is used in evaluation mode, and computes in float64.
        length: number of symbols.
    """

    def __init__(self, prior: Model, length: int) -> None:
        self._prior, self._decoder, self._device = prior, prior.get_decoder(), prior.device
        with eval_mode(prior):
            self._state = self._decoder.start(None, size=1, length=length) if length else None
        self._previous: Tensor | None = None

    def next_edges(self) -> Integers:
        """Return the cumulative probabilities of the next symbol (v + 1)."""
        with eval_mode(self._prior):
            step, self._state = self._decoder.step(self._previous, self._state)
        logits = step.params["logits"].reshape(1, -1).log_softmax(-1).cpu().numpy()
        return logits_to_edges(logits)[0]

    def add(self, symbol: int) -> None:
        """Set the symbol at this step."""
        self._previous = torch.full((1, 1, 1), symbol, dtype=torch.int64, device=self._device)
