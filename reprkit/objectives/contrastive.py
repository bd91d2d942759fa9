"""Contrastive: pull two views of one example together, push views of different examples apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Le, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.corruptions.pipeline import CorruptionPipeline, as_corruptions
from reprkit.data.signature import Field
from reprkit.interfaces import Corruption, Objective, Term
from reprkit.kernels.ntxent import LOWEST, ntxent_and_accuracy
from reprkit.models.factor import masked_mean, resolve_factor
from reprkit.registry.constraints import Width
from reprkit.types import Batch
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Contrastive(Objective):
    """SimCLR (Chen et al. 2020, arXiv 2002.05709): NT-Xent between two views, through a projection head.

    Both views are the batch after the same corruptions with independent draws.  A view's vector is the masked
    mean of the codes over tokens, of all factors or of one; the head (a hidden layer with ReLU, section 2.1)
    is used in training only, ``model.represent`` gives its input.  Negatives are the other examples of all
    ranks.

    Loss ``contrastive``: nats, the mean over both views of an example, averaged over examples.  Metric
    ``accuracy``: fraction of views whose nearest view is the other view of the same example.  In evaluation
    the draws use a fixed seed.

    Args:
        temperature: temperature of the cosine similarities, at least 0.005.
        views: corruptions that create a view, applied in order.  None masks a quarter of the elements (of a
            sequence: of the steps, in spans) and adds noise to real values, a fifth of their range.  This
            default works on any data and is optimal for none: SimCLR's own views of photographs are random
            crops and color distortions.
        dim: width of the projection, from 1.
        hidden: width of the head's hidden layer; None means the width of the representation, at least ``dim``.
        factor: make views of this factor's field and read its code alone; None concatenates the codes of all factors.

    Raises:
        PartArgumentError: an argument is out of range, or there is no corruption.
        BuildError: a corruption does not fit the data, or there is no such factor.
    """

    needs = frozenset({"encoder"})
    distributes = "gather"

    def __init__(
        self,
        temperature: Annotated[float, Ge(LOWEST), Le(1000)] = 0.5,
        *,
        views: str | Corruption | Annotated[tuple[str | Corruption, ...], MinLen(1)] | None = None,
        dim: Width = 128,
        hidden: Width | None = None,
        factor: str | None = None,
    ) -> None:
        super().__init__()
        self.factor = factor
        self.temperature, self.dim, self.hidden = float(temperature), dim, hidden
        self.damage = CorruptionPipeline(default_views if views is None else as_corruptions(views))
        self.head: nn.Module = nn.Identity()

    def reads(self, factors: Collection[str]) -> Collection[str]:
        """Return the factors whose codes make a view's vector."""
        return factors if self.factor is None else (self.factor,)

    def bind(self, model: Model) -> None:
        """Create the head, for the width of the codes, and the corruptions of the fields that they are read from."""
        names = self.reads(tuple(model.factors))
        for name in names:
            resolve_factor(model.factors, name, "objective contrastive")
        self.damage.bind(model, [model.factors[name].input for name in names])
        width = sum(model.latent(name).out_dim for name in names)
        hidden = self.hidden or max(width, self.dim)
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, self.dim))

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch; the batches of all ranks must have equal sizes."""
        generator = None if model.training else torch.Generator().manual_seed(0)
        projected = [self.project(model, self.damage(batch, generator)[0]) for _ in range(2)]
        rows = len(projected[0])
        start = collectives.rank() * rows
        one, two = (collectives.gather_with_gradient(view) for view in projected)
        loss, accuracy = ntxent_and_accuracy(one, two, self.temperature, anchors=slice(start, start + rows))
        model.record(accuracy=accuracy)
        return {"contrastive": (loss * rows, rows)}

    def project(self, model: Model, view: Batch) -> Float[Tensor, "b p"]:
        """Return a view's projection (b dim)."""
        codes = model.encode(view, factors=list(self.reads(tuple(model.factors))), in_range=False)
        vectors = [masked_mean(code.z, code.mask) for code in codes.values()]
        return self.head(torch.cat(vectors, -1))


def default_views(field: Field | None) -> tuple[str, ...]:
    """Return the corruptions that create a view of a field by default."""
    hidden = "mask-spans(ratio=0.25)" if field and field.kind == "sequence" else "mask-elements(ratio=0.25)"
    if field is None or field.discrete:
        return (hidden,)
    low, high = field.range or (0.0, 1.0)
    return (hidden, f"gaussian-noise(std={0.2 * (high - low)!r})")
