"""Gradients of a codebook latent: the straight-through estimator, the rotation trick and the commitment loss."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EPSILON = 1e-6  # shortest vector that has a direction


class Commitment(torch.autograd.Function):
    """``Commitment.apply(x, z, loss, codes, layers, valid, scale)`` returns ``z`` and ``loss`` unchanged, with new gradients.

    The gradient of ``z`` goes to ``x`` unchanged (straight-through, Bengio et al. 2013, arXiv 1308.3432;
    van den Oord et al. 2017, section 3.2).  ``loss`` is ``scale`` times the sum, over ``valid`` rows, of the
    squared distances of ``x`` to ``layers`` codes that sum to ``codes``; its value is passed in, its gradient is
    computed here.  The backward is one pass and saves only ``x``, ``codes`` and the mask; it can be
    differentiated twice.

    Shapes: x, z, codes (m d); loss (); layers a number or (m 1); valid (m) or None.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Float[Tensor, "m d"],
        z: Float[Tensor, "m d"],
        loss: Float[Tensor, ""],
        codes: Float[Tensor, "m d"],
        layers: Tensor | int,
        valid: Bool[Tensor, " m"] | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        """Return the code and the loss unchanged."""
        return z.view_as(z), loss.view_as(loss)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what the backward pass needs."""
        x, _, _, codes, layers, valid, ctx.scale = inputs
        ctx.layers = None if isinstance(layers, Tensor) else layers
        ctx.save_for_backward(x, codes, layers if ctx.layers is None else None, valid)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of ``x``; the other inputs have none."""
        x, codes, layers, valid = ctx.saved_tensors
        gap = x - codes if ctx.layers == 1 else x * (layers if ctx.layers is None else ctx.layers) - codes
        if valid is not None:
            gap = torch.where(valid.unsqueeze(-1), gap, 0)
        grad_x = torch.addcmul(grad_z, gap, grad_loss, value=2 * ctx.scale)
        return grad_x, None, None, None, None, None, None


def rotate_to(x: Float[Tensor, "... d"], codes: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """Return ``codes`` with the gradient of ``x`` turned and scaled as ``x`` is to its code (the rotation trick).

    The code is λ R x, with R the rotation from the direction of x to that of the code, in their plane, and λ the quotient of
    their lengths, both constants (Fifty et al. 2024, arXiv 2410.06424, section 4.2).
    """
    with torch.no_grad():
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=EPSILON)
        goal = torch.linalg.vector_norm(codes, dim=-1, keepdim=True)
        start, end = x / length, codes / goal.clamp(min=EPSILON)
        middle = torch.nn.functional.normalize(start + end, dim=-1)
    # R x = x - 2 m (m . x) + 2 end (start . x), without the matrix
    turned = x - 2 * middle * (middle * x).sum(-1, keepdim=True) + 2 * end * (start * x).sum(-1, keepdim=True)
    scaled = goal / length * turned
    return codes + (scaled - scaled.detach())
