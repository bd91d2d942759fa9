"""A weighted sum of objectives: ``"reconstruction + 0.1 * contrastive"``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from torch import nn

from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.models.forward_cache import make_unique_name
from reprkit.models.model import Model
from reprkit.registry.constraints import NonNegative
from reprkit.registry.create import create
from reprkit.registry.references import parse_sum
from reprkit.types import Batch

_STRICTNESS = (
    "mean",
    "statistic",
    "gather",
)  # a sum compares examples of all ranks when one of its terms does


class WeightedSum(Objective):
    """Several objectives on the same batch; the encoder runs once for those that look at the same view.

    Made by ``objective_from``.  A loss name that two terms use gets a number: ``reconstruction``,
    ``reconstruction-2``.

    Args:
        terms: (weight, objective), weights from 0; a sum among them is opened.

    Raises:
        BuildError: no terms, something that is no objective, or one objective twice.
        PartArgumentError: a weight that is negative or not finite.
    """

    def __init__(self, terms: Sequence[tuple[NonNegative, Objective]]) -> None:
        super().__init__()
        opened = _flatten_terms(terms)
        if not opened:
            raise BuildError("a sum of objectives needs at least one")
        if len({id(each) for _, each in opened}) < len(opened):
            raise BuildError("one objective object is in the sum twice; add up its weights")
        self.parts = nn.ModuleList([each for _, each in opened])
        self.part_weights = [float(weight) for weight, _ in opened]
        self.needs = frozenset().union(*(each.needs for _, each in opened))
        self.turns = tuple(dict.fromkeys(turn for _, each in opened for turn in each.turns))
        self.distributes = max((each.distributes for _, each in opened), key=_STRICTNESS.index)
        self.term_weights: dict[str, float] = {}

    @property
    def members(self) -> tuple[Objective, ...]:
        """The objectives, in order."""
        return tuple(cast("Iterable[Objective]", self.parts))

    @property
    def weights(self) -> tuple[float, ...]:
        """Their weights."""
        return tuple(self.part_weights)

    def bind(self, model: Model) -> None:
        """Bind every objective."""
        for each in self.members:
            with each.error_context():
                each.bind(model)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The losses of all objectives that have this turn."""
        named: dict[str, Term] = {}
        for weight, each in zip(self.weights, self.members, strict=True):
            if turn not in each.turns:
                continue
            with each.error_context():
                losses = each(model, batch, turn)
            for name, term in losses.items():
                unique = make_unique_name(name, named)
                named[unique] = term
                self.term_weights[unique] = weight
        return named


def objective_from(objective: Any, data: Any = None) -> Objective:
    """An objective from a reference, a weighted sum of them, (weight, objective) pairs, or an instance.

    Raises:
        BuildError: something else, or a sum that ``WeightedSum`` refuses.
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
    """
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, str):
        wanted: list[tuple[float, Any]] = list(parse_sum(objective))
    elif isinstance(objective, list | tuple):
        wanted = [_check_pair(each) for each in objective]
    else:
        raise BuildError(
            f"objective= takes a reference, a sum, or an Objective, not {type(objective).__name__}"
        )
    terms = [(weight, create("objective", each, data=data)) for weight, each in wanted]
    if len(terms) == 1 and terms[0][0] == 1.0 and isinstance(terms[0][1], Objective):
        return terms[0][1]
    return WeightedSum(terms)


def _check_pair(each: Any) -> tuple[float, Any]:
    if isinstance(each, list | tuple) and len(each) == 2:
        return each[0], each[1]
    raise BuildError(f"a list of objectives holds (weight, objective) pairs, not {each!r}")


def _flatten_terms(terms: Sequence[tuple[float, Any]]) -> list[tuple[float, Objective]]:
    opened: list[tuple[float, Objective]] = []
    for weight, each in terms:
        if not isinstance(each, Objective):
            raise BuildError(f"{type(each).__name__} is not an Objective")
        inner = zip(each.weights, each.members, strict=True)
        opened += [(float(weight) * factor, part) for factor, part in inner]
    return opened
