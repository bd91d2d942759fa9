"""Across: contrast the codes of two or more factors of one example with those of other examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.kernels.infonce import infonce
from reprkit.kernels.ntxent import LOWEST
from reprkit.models.factor import factor, masked_mean, resolve_factor
from reprkit.registry.constraints import LARGEST_NUMBER, Width
from reprkit.types import Batch, Code
from reprkit.utils import collectives
from reprkit.utils.precision import at_least_float32

if TYPE_CHECKING:
    from reprkit.models.model import Model

HIGHEST = math.log(100)  # of the logarithm of the logits' scale, as CLIP clips it


class Across(Objective):
    """CLIP (Radford et al. 2021, arXiv 2103.00020, figure 3): symmetric InfoNCE between the codes of two factors.

    The factors read different fields of an example, such as image and caption, or two channels.  A factor's vector is the masked
    mean of its codes over tokens, after a linear map of its own.  Each example is to be found among all examples of the batch, of
    all ranks, from the vector of the other factor: the loss is the mean of both cross-entropies; with several factors, the mean
    over all pairs.

    ``model.joint_vectors`` gives the vectors that are compared, for search and for classification by prompts.

    Loss ``across``: nats, averaged over examples.  Metrics ``accuracy``: share of examples that are found first; ``temperature``.

    Args:
        factors: names of the factors; None means all.
        dim: width of the vectors that are compared.
        temperature: temperature of the cosine similarities at the start, at least 0.005.
        learned: whether the temperature is learned; it stays at 0.01 or above, and at 1 or below.

    Raises:
        BuildError: fewer than two factors, or no such factor.
    """

    needs = frozenset({"encoder"})
    distributes = "gather"

    def __init__(
        self,
        factors: Annotated[tuple[str, ...], MinLen(2)] | None = None,
        *,
        dim: Width = 128,
        temperature: Annotated[float, Ge(LOWEST), Le(LARGEST_NUMBER)] = 0.07,
        learned: bool = True,
    ) -> None:
        super().__init__()
        self.factors, self.dim = factors, dim
        self.maps = nn.ModuleDict()
        # One element, not a scalar, as FSDP needs it.
        self.log_scale = nn.Parameter(torch.full((1,), -math.log(temperature)), requires_grad=learned)

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return two factors, the second of which reads a vector."""
        return {
            "data": Signature({**data, "other": Field(kind="vector", shape=(5,))}),
            "factors": {
                "one": factor("transformer(width=16, depth=1, heads=2)", "continuous(dim=4)"),
                "two": factor("mlp(widths=(16,))", "continuous(dim=3)", input="other"),
            },
        }

    def reads(self, factors: Collection[str]) -> Collection[str]:
        """Return the factors that are compared."""
        return factors if self.factors is None else self.factors

    def bind(self, model: Model) -> None:
        """Create the linear map of each factor."""
        names = self.reads(tuple(model.factors))
        for name in names:
            resolve_factor(model.factors, name, "objective across")
        if len(set(names)) < 2:
            raise BuildError(
                f"objective across contrasts the codes of two factors, and the model has {', '.join(names)}: "
                "give factors={'image': rk.factor(...), 'text': rk.factor(..., input='text')}"
            )
        maps = {name: nn.Linear(model.latent(name).out_dim, self.dim, bias=False) for name in names}
        for name, layer in maps.items():
            nn.init.normal_(layer.weight, std=model.latent(name).out_dim ** -0.5)
        self.maps = nn.ModuleDict(maps)

    def update(self) -> None:
        """Keep the learned temperature in its range."""
        if self.log_scale.requires_grad:
            with torch.no_grad():
                self.log_scale.clamp_(0.0, HIGHEST)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch; the batches of all ranks must have equal sizes."""
        codes = model.encode(batch, factors=tuple(self.maps))
        own = {name: self._unit_vectors(name, codes[name]) for name in self.maps}
        whole = [collectives.gather_with_gradient(vectors) for vectors in own.values()]
        rows = len(next(iter(own.values())))
        start = collectives.rank() * rows
        anchors, scale = slice(start, start + rows), self.log_scale.exp()
        pairs = [infonce(one, two, scale, anchors=anchors) for one, two in itertools.combinations(whole, 2)]
        losses, shares = zip(*pairs, strict=True)
        model.record(accuracy=torch.stack(shares).mean(), temperature=1 / scale.detach())
        return {"across": (torch.stack(losses).mean() * rows, rows)}

    def joint_vectors(self, model: Model, batch: Batch, factor: str) -> Float[Tensor, "b d"] | None:
        """Return the unit vectors (b dim) of a factor: their products are the similarities that the loss compares."""
        if factor not in self.maps:
            return None
        return self._unit_vectors(factor, model.encode(batch, factors=(factor,))[factor])

    def _unit_vectors(self, name: str, code: Code) -> Float[Tensor, "b d"]:
        return F.normalize(at_least_float32(self.maps[name](masked_mean(code.z, code.mask))), dim=-1)
