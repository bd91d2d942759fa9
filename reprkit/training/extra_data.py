"""Further data sets of a loop: a batch of each in every step, ``rk.loop(..., extra={...})``."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reprkit.data.base import Dataset, derive_seed
from reprkit.data.loading.order import loader
from reprkit.errors import DataError, TrainingError
from reprkit.training.label_match import match_labels
from reprkit.training.option_checks import piece_size

if TYPE_CHECKING:
    from reprkit.models.model import Model


@dataclass(frozen=True)
class ExtraData:
    """A further data set of a loop.

    Attributes:
        data: the data set.
        order: its order of examples, a pure function of (seed, name, step), so that a resume needs no state.
        piece: examples of a piece of a step, on this process.
    """

    data: Dataset
    order: Any
    piece: int

    def batches(
        self, start: int, stop: int, workers: int, *, pin: bool = False
    ) -> Iterator[dict[str, Tensor]]:
        """Iterate over this process's batches of the steps from ``start`` to ``stop``."""
        return loader(self.data, self.order, start, workers, stop=stop, pin=pin)


def create_extra(
    model: Model,
    extra: Mapping[str, Any] | None,
    *,
    batch: int,
    seed: int,
    accumulate: int,
    ranks: int,
    rank: int,
) -> dict[str, ExtraData]:
    """Create the further data sets of a loop, by name, with their labels numbered as the model numbers its classes.

    Args:
        model: the model to train.
        extra: name -> a data set, its reference, or a pair with the number of examples in a step.
        batch: examples in a step where none is given.
        seed: the loop's seed.
        accumulate: pieces of a step.
        ranks: number of processes.
        rank: rank of this process.

    Raises:
        TrainingError: a value is neither, or the examples do not divide into the pieces.
        DataError: fewer examples than a step needs, a number that the processes cannot share, or a class that the model does not
            know (see ``match_labels``).
    """
    found = {}
    for name, value in (extra or {}).items():
        data, size = value if isinstance(value, tuple) and len(value) == 2 else (value, batch)
        if isinstance(data, str):
            from reprkit.data.resolve import dataset

            data = dataset(data)
        if not hasattr(data, "signature") or not isinstance(size, int) or size < 1:
            raise TrainingError(
                f"extra={{{name!r}: ...}} takes a data set, or (data set, examples a step), not {type(value).__name__}"
            )
        data = match_labels(model, data)
        piece = piece_size(size, ranks=ranks, accumulate=accumulate, what=f"extra data {name!r}")
        try:
            order = data.order(size, derive_seed(seed, zlib.crc32(name.encode())), ranks=ranks, rank=rank)
        except DataError as error:
            error.add_note(f"in extra data {name!r}; say how many examples a step has: ({name}, 16)")
            raise
        found[name] = ExtraData(data, order, piece)
    return found
