"""Rate: the size of discrete codes, under the latents' tables and as the bytes that are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches
from reprkit.interfaces import Evaluator, Latent

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.types import Batch, Code


class Rate(Evaluator):
    """Size of the codes of discrete latents, in bits an example; several factors are added up.

    ``fixed_bits``: log2 of the vocabulary, summed over symbols.  ``table_bits``: -log2 of a symbol's share in the tables of
    ``Latent.frequencies``, summed over symbols; ``model.fit_frequencies(train)`` sets them, and without tables it equals
    ``fixed_bits``.  ``payload_bits``: 8 bits for each byte that ``Latent.write`` returns.  ``string_bits``: the same of
    ``model.compress``, which adds a header.  ``bits_per_dim`` and ``table_bits_per_dim``: payload and table bits over the number of
    valid elements of the fields that encoders read.

    Bits under a second model of the codes are the metric ``code_bits`` of evaluator ``likelihood(prior=DIR)``.
    """

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.  Raises BuildError if the model has no encoder, or a continuous latent."""
        if not model.factors:
            raise BuildError("this model has no encoder, so it has no code to measure")
        for name, factor in model.factors.items():
            if factor.latent.vocab is None:
                raise BuildError(
                    f"latent {factor.latent.qualified or type(factor.latent).__name__} of factor {name} is continuous, and only "
                    "discrete codes have a rate; of a Gaussian, evaluator reconstruction measures kl"
                )
        totals = dict.fromkeys(("fixed", "table", "payload", "string"), 0.0)
        examples, elements = 0, 0
        for batch in batches(data, "compressing"):
            codes = model.encode(batch)
            for name, code in codes.items():
                latent = model.latent(name)
                fixed, table = _symbol_bits(latent, code)
                totals["fixed"] += fixed
                totals["table"] += table
                totals["payload"] += 8 * sum(map(len, latent.write(code)))
            strings = model.compress(codes)
            totals["string"] += 8 * sum(map(len, strings))
            examples += len(strings)
            elements += _count_elements(model, batch)
        return {
            **{f"{name}_bits": total / examples for name, total in totals.items()},
            "bits_per_dim": totals["payload"] / elements,
            "table_bits_per_dim": totals["table"] / elements,
        }


def _symbol_bits(latent: Latent, code: Code) -> tuple[float, float]:
    """Return the bits of all symbols of valid tokens at a fixed rate, and under the latent's tables."""
    assert code.indices is not None
    assert latent.vocab is not None
    symbols = (code.indices.flatten(0, 1) if code.mask is None else code.indices[code.mask]).cpu()
    fixed = len(symbols) * float(torch.tensor(latent.vocab).double().log2().sum())
    tables = latent.frequencies()
    if tables is None:
        return fixed, fixed
    shares = tables.cpu().gather(1, symbols.T)  # of 2^16
    return fixed, float((16 - shares.double().log2()).sum())


def _count_elements(model: Model, batch: Batch) -> int:
    """Return the number of elements, without padding, of the fields that encoders read."""
    total = 0
    for field in {factor.input for factor in model.factors.values()}:
        x, mask = batch[field], batch.get(f"{field}_mask")
        total += x.numel() if mask is None else int(mask.sum()) * (x.numel() // mask.numel())
    return total
