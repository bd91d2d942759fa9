"""Rate: the size of discrete codes, under the latents' tables and as the bytes that are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches
from reprkit.interfaces import Evaluator
from reprkit.models.code_header import close_string
from reprkit.models.compression import fixed_bits, join_payloads
from reprkit.models.fingerprints import fingerprint

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.types import Batch


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
        latents = {name: factor.latent for name, factor in model.factors.items()}
        counts = {name: latent.zero_counts() for name, latent in latents.items()}
        totals = {"fixed": 0.0, "payload": 0.0, "string": 0.0}
        examples, elements, start = 0, 0, fingerprint(model)
        for batch in batches(data, "compressing"):
            codes = model.encode(batch)
            payloads = {name: latent.write(codes[name]) for name, latent in latents.items()}
            strings = [close_string(start + body) for body in join_payloads(codes, payloads)]
            totals["payload"] += 8 * sum(len(each) for written in payloads.values() for each in written)
            totals["string"] += 8 * sum(map(len, strings))
            for name, code in codes.items():
                latents[name].count_symbols(code, counts[name])
                totals["fixed"] += fixed_bits(latents[name], code)
            examples += len(strings)
            elements += _count_elements(model, batch)
        totals["table"] = sum(latent.table_bits(counts[name]) for name, latent in latents.items())
        return {
            **{f"{name}_bits": totals[name] / examples for name in ("fixed", "table", "payload", "string")},
            "bits_per_dim": totals["payload"] / elements,
            "table_bits_per_dim": totals["table"] / elements,
        }


def _count_elements(model: Model, batch: Batch) -> int:
    """Return the number of elements, without padding, of the fields that encoders read."""
    total = 0
    for field in {factor.input for factor in model.factors.values()}:
        x, mask = batch[field], batch.get(f"{field}_mask")
        total += x.numel() if mask is None else int(mask.sum()) * (x.numel() // mask.numel())
    return total
