"""What evaluators share: a data set's batches, representation and labels, read once an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.data.loading.buckets import lengths_of
from reprkit.errors import DataError
from reprkit.utils.progress import tracked

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

Pool = Literal["mean", "flatten"]


@dataclass(frozen=True)
class Encoded:
    """A data set's representation (n d), float32 on the CPU, and its label fields (n,), int64."""

    x: Float[np.ndarray, "n d"]
    labels: dict[str, Int[np.ndarray, " n"]]


@dataclass
class Session:
    """One call of ``evaluate``: its settings, the evaluator at work, and what its evaluators have encoded so far."""

    batch: int = 256
    progress: bool | None = None
    evaluator: str = ""
    seen: dict[tuple[Any, ...], tuple[Any, Encoded]] = field(default_factory=dict)


_current: ContextVar[Session | None] = ContextVar("reprkit_evaluation", default=None)


def session() -> Session:
    """Settings of the ``evaluate`` under way; the default ones where an evaluator is called by hand."""
    return _current.get() or Session()


def progress_title(what: str) -> str:
    """The title of a progress bar: the evaluator at work, and what it does."""
    name = session().evaluator
    return f"{name}: {what}" if name else what


@contextmanager
def use_session(settings: Session) -> Iterator[Session]:
    """Make these the settings of every evaluator called inside."""
    token = _current.set(settings)
    try:
        yield settings
    finally:
        _current.reset(token)


def batches(data: Dataset, what: str = "evaluating") -> Iterator[dict[str, Tensor]]:
    """The data's batches in order, of the session's size, with a progress bar when it takes over a second.

    Raises:
        DataError: the data set is empty.
    """
    here = session()
    if len(data) == 0:
        raise DataError("there is nothing to evaluate on: the data set is empty")
    count = -(-len(data) // here.batch)
    return tracked(data.batches(here.batch), progress_title(what), total=count, show=here.progress)


def by_length(
    data: Dataset, what: str = "evaluating"
) -> Iterator[tuple[Int[Tensor, " b"], dict[str, Tensor]]]:
    """As ``batches``, and which examples each holds (b,): shorter ones first where lengths vary, so that little is padded.

    Raises:
        DataError: the data set is empty.
    """
    here = session()
    if len(data) == 0:
        raise DataError("there is nothing to evaluate on: the data set is empty")
    order = lengths_of(data).argsort(stable=True) if data.lengths() else torch.arange(len(data))
    rows = order.split(here.batch)
    pieces = ((each, data.batch(each)) for each in rows)
    return tracked(pieces, progress_title(what), total=len(rows), show=here.progress)


@torch.no_grad()
def encoded(model: Model, data: Dataset, *, factor: str | None = None, pool: Pool = "mean") -> Encoded:
    """``model.represent`` of a whole data set, and its labels; encoded once however many evaluators ask.

    Args:
        model: in evaluation mode.
        data: what to encode.
        factor: only this one; all factors' vectors in a row when None.
        pool: "mean" over tokens, or "flatten" them (then lengths must not vary).

    Raises:
        DataError: ``pool="flatten"`` and examples of different lengths, or values that are not finite.
    """
    here = session()
    key = (id(model), id(data), factor, pool)
    if key in here.seen:
        return here.seen[key][1]
    names = label_fields(data)
    places: list[Tensor] = []
    rows: list[np.ndarray] = []
    labels: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for examples, batch in by_length(data, "encoding"):
        places.append(examples)
        rows.append(model.represent(batch, factor, pool).float().cpu().numpy())
        for name in names:
            labels[name].append(batch[name].cpu().numpy())
    if len({row.shape[1] for row in rows}) > 1:
        raise DataError(
            "examples have different lengths, so pool='flatten' gives vectors of different widths; use 'mean'"
        )
    back = torch.cat(places).argsort().numpy()
    made = Encoded(
        np.concatenate(rows)[back], {name: np.concatenate(parts)[back] for name, parts in labels.items()}
    )
    if not np.isfinite(made.x).all():
        example = int(np.argwhere(~np.isfinite(made.x))[0, 0])
        raise DataError(
            f"the model's representation of example {example} is not finite: it cannot be evaluated"
        )
    here.seen[key] = ((model, data), made)  # holding them keeps their ids theirs
    return made


def to_float64(x: Tensor) -> Tensor:
    """The values in float64, on the CPU where the device has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def label_fields(data: Dataset) -> list[str]:
    """Names of the data's label fields."""
    return [name for name, field in data.signature.items() if field.kind == "label"]


def check_label(data: Dataset, label: str, asker: str) -> None:
    """Refuse data without that label field.

    Raises:
        DataError: names the label fields that there are.
    """
    names = label_fields(data)
    if label not in names:
        raise DataError(
            f"{asker} needs labels, and the data has no label field {label!r}; "
            f"its label fields: {', '.join(names) or 'none'} (of {', '.join(data.signature)})"
        )


def encode_labeled(
    model: Model, data: Dataset | None, label: str, asker: str, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Representation (n d) and labels (n,) of a data set, for an evaluator that needs both.

    Raises:
        DataError: no data set, or one without that label; the message says what to give.
    """
    if data is None:
        raise DataError(f"{asker} is fitted on labelled examples: give evaluate(..., fit_on=train)")
    check_label(data, label, asker)
    found = encoded(model, data, **how)
    return found.x, found.labels[label]
