"""A weighted sum of objectives: ``"reconstruction + 0.1 * contrastive"``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from torch import nn

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.models.forward_cache import make_unique_name
from reprkit.models.model import Model
from reprkit.models.scoring import Scored
from reprkit.registry.constraints import NonNegative
from reprkit.registry.create import create
from reprkit.registry.references import parse_sum
from reprkit.types import Batch

# In ascending order: a sum takes the strictest ``distributes`` of its terms.
_STRICTNESS = ("mean", "statistic", "gather")


class WeightedSum(Objective):
    """A weighted sum of objectives on the same batch; objectives that use the same view share one encoding.

    Created by ``objective_from``.  Where two terms use the same loss name, the second gets a number: ``reconstruction``,
    ``reconstruction-2``.  Weights apply in turn "main"; in any other turn, which trains critics and the like, they are 1.

    Args:
        terms: (weight, objective) pairs, weights at least 0; sums among them are flattened.

    Raises:
        BuildError: no terms, a term that is not an Objective, or one objective twice.
        PartArgumentError: a weight that is negative or not finite.
    """

    def __init__(self, terms: Sequence[tuple[NonNegative, Objective]]) -> None:
        super().__init__()
        flat = _flatten_terms(terms)
        if not flat:
            raise BuildError("a sum of objectives needs at least one")
        if len({id(objective) for _, objective in flat}) < len(flat):
            raise BuildError(
                "the same objective object is in the sum twice: add its weights and pass it once"
            )
        self.parts = nn.ModuleList([objective for _, objective in flat])
        self.part_weights = [float(weight) for weight, _ in flat]
        self.needs = frozenset().union(*(objective.needs for _, objective in flat))
        self.turns = tuple(dict.fromkeys(turn for _, objective in flat for turn in objective.turns))
        self.distributes = max((objective.distributes for _, objective in flat), key=_STRICTNESS.index)
        uses = [item for _, objective in flat for item in objective.labels.items()]
        self.labels = {**dict(uses), **{name: use for name, use in uses if use == "classes"}}
        self.decodes = next((o.decodes for _, o in flat if o.decodes != "the data"), "the data")
        self.term_weights: dict[str, float] = {}

    @property
    def members(self) -> tuple[Objective, ...]:
        """The objectives, in order."""
        return tuple(cast("Iterable[Objective]", self.parts))

    @property
    def weights(self) -> tuple[float, ...]:
        """Their weights."""
        return tuple(self.part_weights)

    def fields(self, signature: Signature) -> dict[str, Field]:
        """Return the fields of all objectives.

        Raises:
            BuildError: two objectives compute different fields of one name.
        """
        found: dict[str, Field] = {}
        for objective in self.members:
            for name, field in objective.fields(signature).items():
                if found.setdefault(name, field) != field:
                    raise BuildError(
                        f"two objectives of {self.title} compute a field {name!r}, and they differ"
                    )
        return found

    def fill(self, batch: Batch) -> Batch:
        """Return the batch with the fields of all objectives."""
        for objective in self.members:
            batch = objective.fill(batch)
        return batch

    def in_data_units(self, scored: Scored) -> Scored:
        """Return the output in units of the data, as the objectives define it."""
        for objective in self.members:
            scored = objective.in_data_units(scored)
        return scored

    def update(self) -> None:
        """Update every objective."""
        for objective in self.members:
            with objective.error_context():
                objective.update()

    def bind(self, model: Model) -> None:
        """Bind every objective."""
        for objective in self.members:
            with objective.error_context():
                objective.bind(model)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of all objectives that have this turn."""
        named: dict[str, Term] = {}
        for weight, objective in zip(self.weights, self.members, strict=True):
            if turn not in objective.turns:
                continue
            with objective.error_context():
                losses = objective(model, batch, turn)
            for name, term in losses.items():
                unique = make_unique_name(name, named)
                named[unique] = term
                # The weight is that of the term in training the model; another turn trains parts of the objective's own.
                self.term_weights[unique] = weight if turn == "main" else 1.0
        return named


def objective_from(objective: Any, data: Any = None) -> Objective:
    """Create an objective from a reference, a weighted sum of references, (weight, objective) pairs, or an instance.

    Raises:
        BuildError: any other value, or a sum that ``WeightedSum`` rejects.
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
    """
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, str):
        pairs: list[tuple[float, Any]] = list(parse_sum(objective))
    elif isinstance(objective, list | tuple):
        pairs = [_check_pair(pair) for pair in objective]
    else:
        raise BuildError(
            f"objective= takes a reference, a sum, or an Objective, not {type(objective).__name__}"
        )
    terms = [(weight, create("objective", reference, data=data)) for weight, reference in pairs]
    if len(terms) == 1 and terms[0][0] == 1.0 and isinstance(terms[0][1], Objective):
        return terms[0][1]
    return WeightedSum(terms)


def with_reconstruction(objective: Objective, data: Any = None) -> Objective:
    """Return the objective, with "reconstruction" before it where all its members are penalties, which cannot train alone."""
    if all(member.is_penalty for member in objective.members):
        return WeightedSum([(1.0, create("objective", "reconstruction", data=data)), (1.0, objective)])
    return objective


def _check_pair(pair: Any) -> tuple[float, Any]:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        return pair[0], pair[1]
    raise BuildError(f"a list of objectives holds (weight, objective) pairs, not {pair!r}")


def _flatten_terms(terms: Sequence[tuple[float, Any]]) -> list[tuple[float, Objective]]:
    flat: list[tuple[float, Objective]] = []
    for weight, objective in terms:
        if not isinstance(objective, Objective):
            raise BuildError(f"{type(objective).__name__} is not an Objective")
        inner = zip(objective.weights, objective.members, strict=True)
        flat += [(float(weight) * inner_weight, member) for inner_weight, member in inner]
    return flat
