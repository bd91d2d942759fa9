"""GE2E: an utterance lies nearer to its own speaker's centre than to anybody else's."""

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
    """The generalised end-to-end loss of speaker verification (Wan et al. 2018, arXiv 1710.10467, eq. 5, 6, 8 and 9).

    Each utterance's code, brought to unit length, is compared with the mean of every speaker in the batch, of all ranks; with
    its own speaker's without itself.  Softmax over speakers of ``w cos + b``.  An utterance that is its speaker's only one in
    the batch is no query, but a centre for the others.

    Loss ``ge2e``: nats a query.  Metric ``accuracy``: share of queries that are nearest to their own speaker.

    Args:
        label: the label field that says who speaks.
        factor: whose code; the only factor when None.

    Raises:
        BuildError: no such label field, or no such factor.
    """

    needs = frozenset({"encoder"})
    distributes = "gather"

    def __init__(self, *, label: str = "speaker", factor: str | None = "speaker") -> None:
        super().__init__()
        self.label, self.factor = label, factor
        self.scale, self.shift = nn.Parameter(torch.tensor([10.0])), nn.Parameter(torch.tensor([-5.0]))

    def bind(self, model: Model) -> None:
        """See that factor and label are there."""
        resolve_factor(model.factors, self.factor, "objective ge2e")
        self.classes = count_classes(model, self.label, "ge2e")

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The loss of one batch; every rank must bring as many examples as the others."""
        name = resolve_factor(model.factors, self.factor, "objective ge2e")
        code = model.encode(batch, factors=[name])[name]
        own = F.normalize(masked_mean(code.z, code.mask).float(), dim=-1)
        mine = get_labels(batch, self.label, "ge2e")
        everyone, who = collectives.gather_with_gradient(own), collectives.gather(mine)
        member = F.one_hot(who, self.classes).to(own.dtype)
        sums, counts = member.T @ everyone, member.sum(0)
        at = F.one_hot(mine, self.classes).bool()
        # (b k d): every speaker's mean; one's own without oneself.
        centres = sums.expand(len(own), -1, -1) - at.unsqueeze(-1) * own.unsqueeze(1)
        left = counts - at.to(own.dtype)
        cosine = torch.einsum("bd,bkd->bk", own, F.normalize(centres, dim=-1))
        logits = self.scale.clamp(min=1e-6) * cosine + self.shift
        logits = logits.masked_fill((left == 0) & ~at, float("-inf"))  # nobody speaks for them
        query = left.gather(1, mine.unsqueeze(1)).squeeze(1) > 0
        nats = F.cross_entropy(logits, mine, reduction="none") * query
        right = (logits.argmax(-1) == mine) & query
        model.record(accuracy=right.sum() / query.sum().clamp(min=1))
        return {"ge2e": (nats.sum(), query.sum())}
