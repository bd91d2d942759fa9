"""The base of every data set: what it must give (signature, length, one example) and what it gets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.collate import to_index, collate
from reprkit.data.signature import Signature
from reprkit.errors import DataError
from reprkit.registry.constraints import checking

if TYPE_CHECKING:
    from reprkit.data.loading.order import Order

_SPLIT = 0x73706C69  # keeps the split's randomness apart from the sample order's, which has the same seed


class Dataset(torch.utils.data.Dataset[dict[str, Tensor]]):
    """A map-style data set of plain dicts of tensors.

    A subclass sets ``signature`` and defines ``__len__`` and ``__getitem__``.  Data that lies in memory
    should define ``batch`` too, with one look-up a field (``reprkit.data.Tensors`` does).  A set that comes
    with its own division overrides ``split``.

    Attributes:
        signature: per field its kind, shape, range and vocabulary.
        reference: the reference it was made from, qualified; None when it was made by hand.
        facts: what else ``describe`` shall say, as plain JSON: names of classes, files that were left out.
    """

    signature: Signature
    reference: str | None = None
    facts: Mapping[str, Any] = MappingProxyType({})
    renamed_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})  # as in reprkit.interfaces.Part

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the constructor so that it checks what it is given."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = checking(cls.__init__)  # type: ignore[method-assign]

    def __len__(self) -> int:
        """How many examples."""
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One example: field -> tensor, without a batch axis; IndexError past the end."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """The examples in order."""
        return (self[index] for index in range(len(self)))

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices (b,): every field (b ...), and ``NAME_mask`` where lengths vary."""
        return collate([self[index] for index in to_index(indices).tolist()], self.signature)

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]] | None:
        """The length of every example, in its own units: field -> (n,), int64, for each field whose length varies.

        Cheaply: without making the examples.  None says that they are not known; ``rk.loop(buckets=True)`` and training on
        several processes need them.
        """
        return None if any(None in field.shape for field in self.signature.values()) else {}

    def batches(self, size: int = 256) -> Iterator[dict[str, Tensor]]:
        """All examples in order, ``size`` at a time; the last batch may be smaller.  For evaluation."""
        if size < 1:
            raise DataError(f"a batch has at least 1 example, not {size}")
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))

    def subset(self, indices: Int[Tensor, " m"] | Iterable[int], part: str = "subset") -> Subset:
        """The examples of these indices (m,) as a data set of their own; ``part`` names it in reports.

        Raises:
            DataError: no indices, or one that is out of range.
        """
        return Subset(self, indices, part=part)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Divide at random into train and test, or train, valid and test: disjoint and complete.

        The test part depends on ``seed`` and ``test_share`` only: asking for a validation part takes it from
        the training part.

        Args:
            seed: which division.
            valid: also a validation part, for choosing hyper-parameters.
            test_share: share of all examples that goes to test, in (0, 1).
            valid_share: share of all examples that goes to valid, in (0, 1).

        Raises:
            DataError: shares out of range, or so few examples that a part would be empty.
        """
        held_out_share(valid, test_share, valid_share)
        size = len(self)
        generator = torch.Generator().manual_seed(derive_seed(seed, _SPLIT))
        shuffled = torch.randperm(size, generator=generator)
        test = max(1, round(size * test_share))
        held = max(1, round(size * valid_share)) if valid else 0
        if test + held >= size:
            raise DataError(
                f"{size} examples are too few for {'train, valid, test' if valid else 'train, test'} with "
                f"test_share={test_share}{f', valid_share={valid_share}' if valid else ''}"
            )
        parts = {
            "train": shuffled[test + held :],
            "valid": shuffled[test : test + held],
            "test": shuffled[:test],
        }
        made = tuple(
            Subset(self, index, part=name) for name, index in parts.items() if valid or name != "valid"
        )
        how = {"seed": seed, "test_share": test_share, **({"valid_share": valid_share} if valid else {})}
        for each in made:
            each.origin.update(how)
        return made

    def order(
        self, batch: int, seed: int = 0, *, ranks: int = 1, rank: int = 0, buckets: bool | int = False
    ) -> Order:
        """Which examples are in which step's batch, in training: see ``reprkit.data.Order``, and ``Stream`` for another.

        Args:
            batch: examples in a global batch, over all ranks.
            seed: which order.
            ranks: number of processes.
            rank: this process's number, from 0.
            buckets: put examples of similar lengths together; a number: so many batches are sorted at a time.

        Raises:
            DataError: fewer examples than one batch, one that the ranks cannot share, or buckets without lengths.
        """
        from reprkit.data.loading.buckets import WINDOW, lengths_for_buckets
        from reprkit.data.loading.order import Order

        lengths = lengths_for_buckets(self) if buckets else None
        window = WINDOW if isinstance(buckets, bool) else buckets
        return Order(len(self), batch, seed, ranks=ranks, rank=rank, lengths=lengths, window=window)

    @property
    def name(self) -> str:
        """A short name for reports."""
        return type(self).__name__.lower()

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it, as plain JSON: name, reference, number of examples, signature."""
        return {
            "name": self.name,
            "reference": self.reference,
            "size": len(self),
            "signature": self.signature.to_json(),
            **self.facts,
        }

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {field.kind} {field.shape}" for name, field in self.signature.items())
        return f"{type(self).__name__}({self.name}: {len(self)} examples, {fields})"


class Subset(Dataset):
    """Some examples of another data set, in the order of ``indices``; batches stay one look-up a field.

    Attributes:
        data: the whole set.
        indices: which of its examples (m,), int64.
        part: "train", "valid", "test" or another name.
        origin: how it was chosen, for ``describe``.
    """

    def __init__(self, data: Dataset, indices: Tensor | Iterable[int], *, part: str = "subset") -> None:
        index = to_index(indices)
        if index.ndim != 1 or len(index) == 0:
            raise DataError(f"a subset takes a row of indices, at least one, not shape {tuple(index.shape)}")
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(data):
            raise DataError(
                f"index {low if low < 0 else high} is not among the {len(data)} examples of {data.name}"
            )
        self.data, self.indices, self.part = data, index, part
        self.origin: dict[str, Any] = {}
        self.signature, self.reference, self.facts = data.signature, data.reference, dict(data.facts)
        if type(data) is Subset:  # one look-up however deep the nesting
            self.data, self.indices = data.data, data.indices[index]
            self.origin["within"] = {"part": data.part, **data.origin}

    def __len__(self) -> int:
        """How many examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One example."""
        return self.data[int(self.indices[index])]

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices, which count within the subset."""
        return self.data.batch(self.indices.index_select(0, to_index(indices)))

    def lengths(self) -> Mapping[str, Int[Tensor, " m"]] | None:
        """Those of the whole set, for these examples."""
        found = self.data.lengths()
        return None if found is None else {name: each[self.indices] for name, each in found.items()}

    @property
    def name(self) -> str:
        """The whole set's name and the part."""
        return f"{self.data.name} ({self.part})"

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it."""
        return {**super().describe(), "part": self.part, "of": len(self.data), **self.origin}


def held_out_share(valid: bool, test_share: float, valid_share: float) -> float:
    """The share of the examples that is not trained on.

    Raises:
        DataError: shares out of range.
    """
    wanted = test_share + (valid_share if valid else 0)
    if not (0 < test_share < 1 and 0 < valid_share < 1 and wanted < 1):
        raise DataError(
            f"shares lie between 0 and 1 and leave something to train on, not test_share={test_share}, "
            f"valid_share={valid_share}"
        )
    return wanted


def derive_seed(*numbers: int) -> int:
    """A seed for a generator, from several whole numbers; near ones give unrelated seeds.

    Raises:
        DataError: a number is negative, or not whole.
    """
    if not all(isinstance(number, int | np.integer) and number >= 0 for number in numbers):
        raise DataError(f"seeds are whole numbers from 0, not {', '.join(map(repr, numbers))}")
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
