"""GE2E loss: an utterance should be nearer to its own speaker's centroid than to any other's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from reprkit import Model, Objective
from reprkit.interfaces import Term
from reprkit.models.factor import masked_mean, resolve_factor
from reprkit.objectives.labels import count_classes, get_labels
from reprkit.types import Batch
from reprkit.utils import collectives


class GE2E(Objective):
    """The generalized end-to-end loss of speaker verification (Wan et al. 2018, arXiv 1710.10467, eq. 5, 6, 8 and 9).

    Each utterance's code, scaled to unit length, is compared with the centroid of every speaker in the batch of all ranks; its
    own speaker's centroid excludes it.  Softmax over speakers of ``w cos + b``.  A speaker's only utterance in the batch is
    not a query, but a centroid for the others.

    Loss ``ge2e``: nats per query.  Metric ``accuracy``: share of queries that are nearest to their own speaker.

    Args:
        label: the label field of the speaker.
        factor: the factor to train; the only one if None.

    Raises:
        BuildError: no such label field, or no such factor.
    """

    needs = frozenset({"encoder"})
    distributes = "gather"

    def __init__(self, *, label: str = "speaker", factor: str | None = "speaker") -> None:
        super().__init__()
        self.label, self.factor = label, factor
        self.labels = {label: "groups"}
        self.scale, self.shift = nn.Parameter(torch.tensor([10.0])), nn.Parameter(torch.tensor([-5.0]))

    def bind(self, model: Model) -> None:
        """Check that factor and label exist."""
        resolve_factor(model.factors, self.factor, "objective ge2e")
        self.classes = count_classes(model, self.label, "ge2e")

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch; every rank must have equally many examples."""
        name = resolve_factor(model.factors, self.factor, "objective ge2e")
        code = model.encode(batch, factors=[name])[name]
        own = F.normalize(masked_mean(code.z, code.mask).float(), dim=-1)
        mine = get_labels(batch, self.label, "ge2e")
        all_codes, speakers = collectives.gather_with_gradient(own), collectives.gather(mine)
        member = F.one_hot(speakers, self.classes).to(own.dtype)
        sums, counts = member.T @ all_codes, member.sum(0)
        at = F.one_hot(mine, self.classes).bool()
        # (b k d): every speaker's sum; for the own speaker without the utterance itself.
        centroids = sums.expand(len(own), -1, -1) - at.unsqueeze(-1) * own.unsqueeze(1)
        left = counts - at.to(own.dtype)
        cosine = torch.einsum("bd,bkd->bk", own, F.normalize(centroids, dim=-1))
        logits = self.scale.clamp(min=1e-6) * cosine + self.shift
        logits = logits.masked_fill((left == 0) & ~at, float("-inf"))  # no utterance in the batch
        query = left.gather(1, mine.unsqueeze(1)).squeeze(1) > 0
        nats = F.cross_entropy(logits, mine, reduction="none") * query
        right = (logits.argmax(-1) == mine) & query
        model.record(accuracy=right.sum() / query.sum().clamp(min=1))
        return {"ge2e": (nats.sum(), query.sum())}
