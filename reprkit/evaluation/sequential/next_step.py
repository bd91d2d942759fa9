"""Next-step prediction along one long sequence: probability and point estimate of each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError, DataError
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.models.model import Model


def require_causal(model: Model) -> None:
    """Raise BuildError unless the model has a causal decoder, which predicts each token from those before it."""
    if model.decoder is None or "causal" not in model.decoder.provides:
        raise BuildError("next-step prediction needs a causal decoder, such as lstm(causal=True)")


@torch.no_grad()
def one_step_ahead(
    model: Model, x: Tensor, first: int, window: int, batch: int = 64
) -> tuple[Float[Tensor, " n"], Tensor]:
    """Predict the tokens of ``x`` from ``first`` on by a causal model without a code, each from those before it.

    The sequence is read in windows that overlap by half, and only a window's second half is scored: every token has at least
    ``window // 2`` tokens of context, and a model never reads more at once than in training.

    Args:
        model: trained with the objective "autoregressive"; in evaluation mode during the call.
        x: the whole sequence, (t,) symbols or (t c) frames.
        first: index of the first scored token; those before it are context only.
        window: tokens per window, an even number.
        batch: windows per batch.

    Returns:
        -log p of each token, nats (n,), and the point estimates, (n,) symbols or (n c) frames, on the CPU.

    Raises:
        BuildError: the decoder is not causal.
        DataError: there are no tokens to score, or fewer than half a window before them.
    """
    require_causal(model)
    half, count = window // 2, len(x) - first
    if window < 2 or window % 2:
        raise DataError(f"window must be an even number of tokens from 2, not {window}")
    if not half <= first < len(x):
        raise DataError(
            f"first={first} of a sequence of {len(x)}: half a window, {half} tokens, must precede it, and one must follow"
        )
    tail = x[first - half :]
    padded = torch.cat([tail, tail.new_zeros(-count % half, *x.shape[1:])])
    nats, points = [], []
    with eval_mode(model):
        for pieces in padded.unfold(0, window, half).movedim(-1, 1).split(batch):
            teacher = pieces.reshape(len(pieces), window, -1).to(model.device)
            decoded = model.decode(teacher=teacher)
            nats.append(decoded.nll(teacher)[:, half:].flatten().cpu())
            points.append(decoded.x[:, half:].flatten(0, 1).cpu())
    estimates = torch.cat(points)[:count]
    return torch.cat(nats)[:count], estimates.squeeze(-1) if x.ndim == 1 else estimates
