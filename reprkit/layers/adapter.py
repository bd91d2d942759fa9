"""The core's linear map between encoder, latent and decoder; where it is frozen at the identity, it is not computed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.utils.sharded_tensors import is_sharded


class Adapter(nn.Linear):
    """A linear map that starts as the identity for equal widths, and otherwise keeps the scale of its input.

    He et al. 2015 (arXiv 1502.01852), section 2.2, without a nonlinearity: inputs of unit variance give outputs of unit variance.

    On a CPU, while its weights need no gradient and are exactly the identity, it returns its input itself: ``freeze=("adapters",)``
    takes the maps out of a model whose widths agree.

    Args:
        in_features: width of the input.
        out_features: width of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        nn.init.zeros_(self.bias)
        if in_features == out_features:
            nn.init.eye_(self.weight)
        else:
            nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Map the last dimension."""
        return x if self._is_fixed_identity() else super().forward(x)

    def _is_fixed_identity(self) -> bool:
        """Whether the map changes nothing; only asked of a CPU, since another device would have to be waited for."""
        weight, bias = self.weight, self.bias  # that of a PCA has no bias
        if self.in_features != self.out_features or any(each.requires_grad for each in self.parameters()):
            return False
        if weight.device.type != "cpu" or is_sharded(weight) or torch.compiler.is_compiling():
            return False
        identity = torch.eye(self.in_features, dtype=weight.dtype)
        return torch.equal(weight, identity) and (bias is None or not bool(bias.any()))
