"""Batches, representation and labels of a data set, shared by the evaluators of one ``evaluate`` call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.loading.buckets import lengths_for_buckets
from reprkit.errors import DataError
from reprkit.models.embedding import Encoded, Pool, encode_batch, join
from reprkit.utils.precision import to_float64 as to_float64  # public here
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


@dataclass
class Session:
    """One call of ``evaluate``: its settings, the names of model and current evaluator, and the representations encoded so far."""

    batch: int = 256
    progress: bool | None = None
    evaluator: str = ""
    subject: str = ""
    cache: dict[tuple[Any, ...], tuple[Any, Encoded]] = field(default_factory=dict)


_current: ContextVar[Session | None] = ContextVar("reprkit_evaluation", default=None)


def session() -> Session:
    """Return the session of the running ``evaluate``; a default one if an evaluator is called directly."""
    return _current.get() or Session()


def progress_title(what: str) -> str:
    """Return the title of a progress bar: the model's latent, the current evaluator, and what it does."""
    current = session()
    name = " ".join(text for text in (current.evaluator, current.subject and f"of {current.subject}") if text)
    return f"{name}: {what}" if name else what


@contextmanager
def use_session(settings: Session) -> Iterator[Session]:
    """Context in which every evaluator uses this session."""
    token = _current.set(settings)
    try:
        yield settings
    finally:
        _current.reset(token)


def batches(data: Dataset, what: str = "evaluating") -> Iterator[dict[str, Tensor]]:
    """Iterate over the data's batches in order, of the session's batch size, with a progress bar if it takes over a second.

    Raises:
        DataError: the data set is empty.
    """
    current = session()
    if len(data) == 0:
        raise DataError("there is nothing to evaluate on: the data set is empty")
    count = -(-len(data) // current.batch)
    return track_progress(
        data.batches(current.batch), progress_title(what), total=count, show=current.progress
    )


def draw_examples(data: Dataset, limit: int | None, seed: int) -> Dataset:
    """Return at most ``limit`` examples, drawn with the seed, in the data's order; the data itself if it has no more.

    None takes all.
    """
    if limit is None or len(data) <= limit:
        return data
    chosen = np.sort(np.random.default_rng(seed).choice(len(data), limit, replace=False))
    return data.subset(torch.from_numpy(chosen), part=f"{limit} of {len(data)}")


def by_length(
    data: Dataset, what: str = "evaluating"
) -> Iterator[tuple[Int[Tensor, " b"], dict[str, Tensor]]]:
    """As ``batches``, with each batch's example indices (b,); sorted by length if lengths vary, to reduce padding.

    Raises:
        DataError: the data set is empty.
    """
    current = session()
    if len(data) == 0:
        raise DataError("there is nothing to evaluate on: the data set is empty")
    order = lengths_for_buckets(data).argsort(stable=True) if data.lengths() else torch.arange(len(data))
    rows = order.split(current.batch)
    loaded = ((indices, data.batch(indices)) for indices in rows)
    return track_progress(loaded, progress_title(what), total=len(rows), show=current.progress)


@torch.no_grad()
def encoded(model: Model, data: Dataset, *, factor: str | None = None, pool: Pool = "mean") -> Encoded:
    """Compute ``model.represent`` of a whole data set, and its labels; cached for the evaluators of one session.

    Args:
        model: in evaluation mode.
        data: the data set to encode.
        factor: this factor only; None concatenates all factors' vectors.
        pool: "mean" over tokens, or "flatten" (requires examples of one length).

    Raises:
        DataError: ``pool="flatten"`` with examples of different lengths, or values that are not finite.
    """
    current = session()
    key = (id(model), id(data), factor, pool)
    if key in current.cache:
        return current.cache[key][1]
    names = data.signature.label_fields()
    indices: list[Tensor] = []
    pieces: list[Encoded] = []
    for examples, batch in by_length(data, "encoding"):
        indices.append(examples)
        pieces.append(encode_batch(model, batch, names, factor, pool))
    found, order = join(pieces), torch.cat(indices).argsort().numpy()
    result = Encoded(found.x[order], {name: values[order] for name, values in found.labels.items()})
    if not np.isfinite(result.x).all():
        example = int(np.argwhere(~np.isfinite(result.x))[0, 0])
        raise DataError(
            f"the model's representation of example {example} is not finite: it cannot be evaluated"
        )
    current.cache[key] = ((model, data), result)  # references keep the ids of model and data valid
    return result


def check_label(data: Dataset, label: str, evaluator: str) -> None:
    """Check that the data has a label field.

    Raises:
        DataError: it does not; the message lists its label fields.
    """
    names = data.signature.label_fields()
    if label not in names:
        raise DataError(
            f"{evaluator} needs labels, and the data has no label field {label!r}; "
            f"its label fields: {', '.join(names) or 'none'} (of {', '.join(data.signature)})"
        )


def label_if_any(data: Dataset, label: str | None, evaluator: str) -> str | None:
    """Return the label field to use: ``label``, which must exist; if None, field "label" of data that has it, or else None.

    Raises:
        DataError: no label field ``label``.
    """
    if label is None:
        return "label" if "label" in data.signature.label_fields() else None
    check_label(data, label, evaluator)
    return label


def encode_labeled(
    model: Model, data: Dataset | None, label: str, evaluator: str, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return representation (n d) and labels (n,) of a data set.

    Raises:
        DataError: no data set, or one without that label field; the message says what to pass.
    """
    if data is None:
        raise DataError(f"{evaluator} is fitted on labeled examples: pass evaluate(..., fit_on=train)")
    check_label(data, label, evaluator)
    result = encoded(model, data, **options)
    return result.x, result.labels[label]
