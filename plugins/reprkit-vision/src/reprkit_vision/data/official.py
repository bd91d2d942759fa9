"""Data sets with an official test part."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reprkit import Dataset, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit_vision.data.splits import shuffle_indices


class Official(Tensors):
    """Tensors whose first ``train_size`` examples are the official training part, and the others the test part.

    Without a ``train_size`` there are no official parts, and all are random.
    """

    def __init__(
        self, values: Mapping[str, Tensor], signature: Signature, *, train_size: int | None, name: str
    ) -> None:
        super().__init__(values, signature, divisors={"x": 255.0}, name=name)
        self.train_size = train_size

    def split(
        self,
        seed: int = 0,
        *,
        valid: bool = False,
        test_share: float | None = None,
        valid_share: float = 0.1,
    ) -> tuple[Dataset, ...]:
        """Split into the official parts; ``seed`` draws the validation part from the training part.

        Args:
            seed: of the validation part, and of all parts where none is official.
            valid: whether to return a validation part, too; it is taken from the official training part.
            test_share: must be None where the test part is official; else its share, 0.2 when None.
            valid_share: share of the official training part, or else of all examples, that goes to valid, in (0, 1).

        Raises:
            DataError: ``test_share`` was given for an official test part, or a share is out of range.
        """
        if self.train_size is None:
            share = 0.2 if test_share is None else test_share
            return super().split(seed, valid=valid, test_share=share, valid_share=valid_share)
        return official_parts(
            self, self.train_size, seed, valid=valid, test_share=test_share, valid_share=valid_share
        )


def official_parts(
    data: Dataset, train_size: int, seed: int, *, valid: bool, test_share: float | None, valid_share: float
) -> tuple[Dataset, ...]:
    """Split into the first ``train_size`` examples, some of which go to valid if asked for, and all others as test."""
    if test_share is not None:
        raise DataError(
            f"{data.name} has an official test part of {len(data) - train_size} examples: omit test_share"
        )
    if not 0 < valid_share < 1:
        raise DataError(f"valid_share must lie between 0 and 1, not {valid_share}")
    test = data.subset(torch.arange(train_size, len(data)), part="test")
    if not valid:
        return data.subset(torch.arange(train_size), part="train"), test
    valid_size = max(1, round(train_size * valid_share))
    if valid_size >= train_size:
        raise DataError(
            f"{train_size} examples are too few for train and valid with valid_share={valid_share}"
        )
    order = shuffle_indices(train_size, seed)
    parts = data.subset(order[valid_size:], part="train"), data.subset(order[:valid_size], part="valid")
    for part in parts:
        part.origin.update(seed=seed, valid_share=valid_share)
    return (*parts, test)
