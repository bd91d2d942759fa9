"""Data whose authors said which examples are for testing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reprkit import Dataset, Signature
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit_vision.data.splits import shuffled


class Official(Tensors):
    """Tensors of which the first ``trained`` examples are for training and the others are the official test part."""

    def __init__(
        self, values: Mapping[str, Tensor], signature: Signature, *, trained: int, name: str
    ) -> None:
        super().__init__(values, signature, divisors={"x": 255.0}, name=name)
        self.trained = trained

    def split(
        self,
        seed: int = 0,
        *,
        valid: bool = False,
        test_share: float | None = None,
        valid_share: float = 0.1,
    ) -> tuple[Dataset, ...]:
        """The official parts; ``seed`` decides which of the training part are valid, where that is asked for.

        Args:
            seed: of the validation part.
            valid: also a validation part, of the official training part.
            test_share: not for these data: the test part is given.
            valid_share: share of the official training part that goes to valid, in (0, 1).

        Raises:
            DataError: ``test_share`` was given, or ``valid_share`` is out of range.
        """
        return official_parts(
            self, self.trained, seed, valid=valid, test_share=test_share, valid_share=valid_share
        )


def official_parts(
    data: Dataset, trained: int, seed: int, *, valid: bool, test_share: float | None, valid_share: float
) -> tuple[Dataset, ...]:
    """The first ``trained`` examples, of which some may go to valid, and all others as test."""
    if test_share is not None:
        raise DataError(
            f"{data.name} has an official test part of {len(data) - trained} examples: leave test_share out"
        )
    if not 0 < valid_share < 1:
        raise DataError(f"valid_share lies between 0 and 1, not {valid_share}")
    test = data.subset(torch.arange(trained, len(data)), part="test")
    if not valid:
        return data.subset(torch.arange(trained), part="train"), test
    held = max(1, round(trained * valid_share))
    if held >= trained:
        raise DataError(f"{trained} examples are too few for train and valid with valid_share={valid_share}")
    order = shuffled(trained, seed)
    made = data.subset(order[held:], part="train"), data.subset(order[:held], part="valid")
    for each in made:
        each.origin.update(seed=seed, valid_share=valid_share)
    return (*made, test)
