"""What the objectives with a decoder share: which elements are real, the loss and metrics of an output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.layout import row_grid, to_tokens
from reprkit.types import Batch, Code, Decoded

if TYPE_CHECKING:
    from reprkit.model import Model


def decoded_for(model: Model, codes: Mapping[str, Code] | None, batch: Batch) -> Decoded:
    """What the decoder makes of the codes of a batch, as large as the batch's output; a causal one reads that as its teacher.

    Raises:
        BuildError: the model has no decoder, or does not know its output.
    """
    if "causal" not in model._decoder().provides:
        return model.decode(codes, length=model.output_length(batch))
    field, x = model._output_field(), batch[model.output]
    return model.decode(codes, teacher=to_tokens(x, row_grid(field, x), field.kind))


def validity(model: Model, batch: Batch, decoded: Decoded) -> Float[Tensor, "b n p"] | None:
    """1 where an element of the output field is real and 0 where it is padding; None where all are real.

    The data's own mask is asked first, element by element: a token that is half padding counts for its real
    half.
    """
    mask = batch.get(f"{model.output}_mask")
    if mask is not None:
        kind = model.signature[model.output].kind if model.signature else "tokens"
        values = mask
        if kind == "sequence":
            values = mask.unsqueeze(-1).expand(*mask.shape, batch[model.output].shape[-1])
        return to_tokens(values.to(decoded.x.device), decoded.grid or (1,), kind).float()
    if decoded.mask is not None:
        return decoded.mask.unsqueeze(-1).expand(decoded.x.shape).float()
    return None


def score(decoded: Decoded, target: Tensor, weight: Tensor | None) -> Float[Tensor, ""]:
    """Nats of the target (b n p) over the elements that count (``weight``, None: all) of all examples."""
    return decoded.nll(target, weight).sum()


@torch.no_grad()
def quality(decoded: Decoded, target: Tensor, weight: Tensor | None, nats: Tensor) -> dict[str, Tensor]:
    """Metrics of an output over the elements that count, named as the evaluator "reconstruction" has them.

    Symbols: ``perplexity``, exp of the nats a symbol.  Real values: ``error``, squared error of an example.
    """
    if decoded.likelihood == "categorical":
        return {"perplexity": _mean(target, weight, nats).clamp(max=80).exp()}
    squares = (decoded.x - target).square()
    return {"error": (squares if weight is None else squares * weight).sum() / len(target)}


@torch.no_grad()
def rate(decoded: Decoded, target: Tensor, weight: Tensor | None, nats: Tensor) -> dict[str, Tensor]:
    """``perplexity`` a symbol; for real values ``bits_per_dim``, the nats an element over ln 2."""
    each = _mean(target, weight, nats)
    if decoded.likelihood == "categorical":
        return {"perplexity": each.clamp(max=80).exp()}
    return {"bits_per_dim": each / math.log(2)}


def _mean(target: Tensor, weight: Tensor | None, nats: Tensor) -> Tensor:
    return nats / (target.numel() if weight is None else weight.sum().clamp(min=1))
