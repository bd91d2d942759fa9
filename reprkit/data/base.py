"""Base class of all data sets: a subclass defines signature, length and one example, and inherits the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.collation import collate, to_index
from reprkit.data.identity import split_by_identity
from reprkit.data.signature import Field, Signature
from reprkit.data.summary import dataset_html, summarize
from reprkit.errors import DataError
from reprkit.registry.constructors import wrap_constructor

if TYPE_CHECKING:
    from reprkit.data.loading.order import Order

_SPLIT = 0x73706C69  # salt: the split and the sample order have the same seed


@dataclass(frozen=True)
class Piece:
    """A piece of a file, see ``Dataset.read_pieces``.

    Attributes:
        values: the steps of the piece and of its margins (t c) or (t,).
        before: number of steps of the margin before it.
        steps: number of its own steps.
        units: its length in what the file counts, such as samples of sound.
    """

    values: Tensor
    before: int
    steps: int
    units: int


class Dataset(torch.utils.data.Dataset[dict[str, Tensor]]):
    """A map-style data set of plain dicts of tensors.

    A subclass sets ``signature`` and defines ``__len__`` and ``__getitem__``.  Data in memory should also
    define ``batch``, with one look-up per field (as ``reprkit.data.Tensors`` does).  A data set with official
    splits overrides ``split``.

    Attributes:
        signature: kind, shape, range and vocabulary of each field.
        reference: the qualified reference it was created from; None for an instance made in code.
        facts: further entries for ``describe``, as plain JSON, such as class names and skipped files.
        raw_suffixes: suffixes of the files that ``read_raw`` reads, in lower case with their dot.
    """

    signature: Signature
    reference: str | None = None
    facts: Mapping[str, Any] = MappingProxyType({})
    renamed_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})  # as in reprkit.interfaces.Part
    raw_suffixes: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the constructor so that it validates its arguments, and indexing so that it takes slices."""
        super().__init_subclass__(**kwargs)
        if "__getitem__" in cls.__dict__:
            cls.__getitem__ = _with_slices(cls.__getitem__)  # type: ignore[method-assign]
        if "__init__" in cls.__dict__:
            cls.__init__ = wrap_constructor(cls.__init__)  # type: ignore[method-assign]

    def __len__(self) -> int:
        """Return the number of examples."""
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example: field -> tensor, without a batch axis; IndexError past the end.  A slice gives a ``subset``."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Iterate over the examples in order."""
        return (self[index] for index in range(len(self)))

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,): every field (b ...), and ``NAME_mask`` where lengths vary."""
        return collate([self[index] for index in to_index(indices).tolist()], self.signature)

    def count_symbols(self, *fields: str) -> Self:
        """Count how often each symbol of ``fields`` (default: ``x``) occurs, in ``signature[...].counts``; return the data set.

        Padding does not count.  Call it on the training data, before ``rk.build(data=...)``: parts get the signature.

        Raises:
            DataError: a field that does not hold symbols.
        """
        counts = {}
        for name in fields or ("x",):
            field = self.signature[name]
            if not field.discrete or field.vocab is None:
                raise DataError(
                    f"field {name!r} of {self.name} is {field.kind} data, which has no symbols to count"
                )
            counts[name] = torch.zeros(field.vocab, dtype=torch.int64)
        for batch in self.batches():
            for name, total in counts.items():
                mask = batch.get(f"{name}_mask")
                total += (
                    (batch[name] if mask is None else batch[name][mask])
                    .flatten()
                    .bincount(minlength=len(total))
                )
        counted = {
            name: replace(self.signature[name], counts=tuple(total.tolist()))
            for name, total in counts.items()
        }
        self.signature = Signature({**self.signature, **counted})
        return self

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]] | None:
        """Return the length of every example: field -> (n,), int64, for each field whose length varies, in its own units.

        Must be cheap: it does not load examples.  None means unknown; ``rk.loop(buckets=True)`` and training on several processes
        need the lengths.
        """
        return None if self.signature.varying_fields() else {}

    def batches(self, size: int = 256) -> Iterator[dict[str, Tensor]]:
        """Iterate over all examples in order, ``size`` at a time, for evaluation; the last batch may be smaller."""
        if size < 1:
            raise DataError(f"a batch has at least 1 example, not {size}")
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))

    def subset(self, indices: Int[Tensor, " m"] | Iterable[int], part: str = "subset") -> Subset:
        """Return the examples at ``indices`` (m,) as a data set; ``part`` is its name in reports.

        Raises:
            DataError: no indices, or an index out of range.
        """
        return Subset(self, indices, part=part)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split at random into train and test, or train, valid and test: disjoint and complete.

        The test part depends on ``seed`` and ``test_share`` only: a validation part is taken from the training
        part.  Where ``identities`` tells what each example is, a hash of it decides the part: added or removed examples change no
        other's part, equal identities stay together, and the shares hold on average.  Otherwise positions are drawn.

        Args:
            seed: seed of the split.
            valid: whether to return a validation part too, for choosing hyper-parameters.
            test_share: share of all examples in test, in (0, 1).
            valid_share: share of all examples in valid, in (0, 1).

        Raises:
            DataError: a share out of range, or too few examples, so that a part would be empty.
        """
        identities = self.identities()
        derived = derive_seed(seed, _SPLIT)  # refuses what is no seed
        if identities is not None:
            held_out_share(valid, test_share, valid_share)
            shares = (valid, test_share, valid_share)
            parts = split_by_identity(identities, seed, *shares, level=self.split_level())
        else:
            test, held_out = split_sizes(len(self), valid, test_share, valid_share)
            shuffled = torch.randperm(len(self), generator=torch.Generator().manual_seed(derived))
            parts = {
                "train": shuffled[test + held_out :],
                "valid": shuffled[test : test + held_out],
                "test": shuffled[:test],
            }
        whole = self.fit_statistics(parts["train"])
        subsets = tuple(
            Subset(whole, index, part=name) for name, index in parts.items() if valid or name != "valid"
        )
        for subset in subsets:
            subset.origin.update(split_settings(seed, valid, test_share, valid_share))
        return subsets

    def fit_statistics(self, rows: Int[Tensor, " m"]) -> Dataset:
        """Return the data set with the statistics in its signature, such as a column's mean, learned from the examples at ``rows``.

        ``split`` and ``rk.data.fold`` call it with the rows (m,) of the training part.  By default the data set itself: most have
        no such statistics, and a subset keeps those of the whole, so that all parts of a split have equal ones.
        """
        return self

    def identities(self) -> Sequence[str] | None:
        """Return what each example is (n,), such as its path or its patient, by which ``split`` divides; None: its position.

        The same example has the same text in every version of the data set, whatever else is in it and however it is read.
        Examples of equal identity stay in one part.
        """
        return None

    def split_level(self) -> int:
        """Return how many splits or selections lie between the whole data set and this one."""
        return 0

    def renumber_classes(self, numbers: Mapping[str, list[int]], classes: Mapping[str, list[str]]) -> Dataset:
        """Return the data set with the classes of label fields renumbered, as a model or another data set numbers them.

        A subclass whose evaluators need its own class overrides it.

        Args:
            numbers: field -> old number -> new number.
            classes: field -> names of the new classes, in order.
        """
        from reprkit.data.relabeled import Relabeled

        return Relabeled(self, numbers, classes)

    @classmethod
    def read_raw(cls, value: str | Path, field: Field) -> list[Tensor]:
        """Return the examples that a file or a raw text holds, for a field whose form this class declares (``Spec(forms=...)``).

        Called for a trained model, whose signature holds the field: its ``form`` has all settings.  An example has the shape of
        the field; where its length is fixed, a longer value gives several.

        Args:
            value: a file, as a Path; or a text, as a str.
            field: the model's.

        Raises:
            DataError: a file that cannot be read, or a value that holds no example.
        """
        raise DataError(f"{cls.__name__} reads no files for a trained model (it does not define read_raw)")

    @classmethod
    def writes_files(cls, field: Field, output: Field) -> bool:
        """Whether ``read_pieces`` and ``write_pieces`` serve a model from ``field`` to ``output``, so that files are compressed."""
        return False

    @classmethod
    def read_pieces(cls, path: Path, field: Field, steps: int | None, margin: int) -> Iterator[Piece]:
        """Yield a file piece by piece, as a trained model reads it, for files larger than memory.

        Args:
            path: the file.
            field: the model's; lengths that it states are those of training, not of pieces.
            steps: of a piece; the last one may be shorter.  None: the file is one piece.
            margin: steps that are read before and after a piece, where the file has them.

        Raises:
            DataError: the file cannot be read.
        """
        raise DataError(f"{cls.__name__} reads no files in pieces (it does not define read_pieces)")

    @classmethod
    def write_pieces(cls, path: Path, pieces: Iterable[Tensor], field: Field, units: int) -> None:
        """Write the outputs of a model for the pieces of a file, without their margins, as one file.

        Args:
            path: the file; its suffix is the format.
            pieces: (t c) or (t,), in order.
            field: the model's input, whose ``form`` has the settings.
            units: the length of the file, as the sum of ``Piece.units``; what the pieces hold beyond it is cut off.

        Raises:
            DataError: a format that is not known, or the file cannot be written.
        """
        raise DataError(f"{cls.__name__} writes no files (it does not define write_pieces)")

    def raw(self, index: int) -> str | Path | None:
        """Return what ``read_raw`` reads the example from: its text or the path of its file; None where there is no such value."""
        return None

    def label_values(self, field: str) -> Int[Tensor, " n"]:
        """Return a label field of all examples (n,), int64.

        By default it reads every example once: a data set that knows its labels without them overrides it.
        """
        return torch.cat([batch[field] for batch in self.batches()])

    def order(
        self,
        batch: int,
        seed: int = 0,
        *,
        ranks: int = 1,
        rank: int = 0,
        buckets: bool | int = False,
        groups: str | None = None,
        mates: int = 2,
    ) -> Order:
        """Return the order of examples in training: see ``reprkit.data.Order``; ``Stream`` has another one.

        Args:
            batch: number of examples in a global batch, over all ranks.
            seed: seed of the order.
            ranks: number of processes.
            rank: rank of this process, from 0.
            buckets: batch examples of similar lengths together; a number sets how many batches are sorted at a time.
            groups: a label field: ``mates`` examples with the same label are in a batch, in a row.
            mates: see ``groups``; from 2.

        Raises:
            DataError: fewer examples than one batch, a batch size that is no multiple of ``ranks`` or ``mates``, buckets without
                lengths or together with groups, or groups that are no label field.
        """
        from reprkit.data.loading.buckets import WINDOW, lengths_for_buckets
        from reprkit.data.loading.mates import groups_of
        from reprkit.data.loading.order import Order

        lengths = lengths_for_buckets(self) if buckets else None
        window = WINDOW if isinstance(buckets, bool) else buckets
        members = None if groups is None else groups_of(self, groups)
        return Order(
            len(self),
            batch,
            seed,
            ranks=ranks,
            rank=rank,
            lengths=lengths,
            window=window,
            groups=members,
            mates=mates,
        )

    @property
    def name(self) -> str:
        """Short name for reports."""
        return type(self).__name__.lower()

    def summary(self) -> str:
        """Return what was read, in one line: "x: image h=8 w=8 c=1 in 0 to 1, 1,797 examples; label: 10 classes"."""
        return summarize(self.signature, len(self), self.facts)

    def describe(self) -> dict[str, Any]:
        """Return the description that ``run.json`` stores, as plain JSON: name, reference, number of examples, signature, facts."""
        return {
            "name": self.name,
            "reference": self.reference,
            "size": len(self),
            "signature": self.signature.to_json(),
            **self.facts,
        }

    def _repr_html_(self) -> str:
        """Return a table of the fields, for a notebook."""
        return dataset_html(self.name, self._count(), self.signature, self.facts)

    def _count(self) -> int | None:
        """Return the number of examples; None for a stream."""
        return len(self)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {field.kind} {field.shape}" for name, field in self.signature.items())
        return f"{type(self).__name__}({self.name}: {len(self)} examples, {fields})"


def _with_slices(getitem: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``__getitem__`` that gives a subset for a slice."""

    @functools.wraps(getitem)
    def get(self: Dataset, index: Any) -> Any:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        if not hasattr(index, "__index__"):
            raise DataError(
                f"an example is data[number], and some are data[start:stop] or data.subset(numbers), not "
                f"data[{type(index).__name__}]"
            )
        return getitem(self, index)

    return get


class Subset(Dataset):
    """Subset of a data set, in the order of ``indices``; a batch stays one look-up per field.

    Attributes:
        data: the whole data set.
        indices: indices of its examples (m,), int64.
        part: "train", "valid", "test" or another name.
        origin: how the examples were chosen, for ``describe``.
    """

    def __init__(self, data: Dataset, indices: Tensor | Iterable[int], *, part: str = "subset") -> None:
        index = to_index(indices)
        if index.ndim != 1 or len(index) == 0:
            raise DataError(
                f"a subset takes a 1-D sequence of indices, at least one, not shape {tuple(index.shape)}"
            )
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(data):
            raise DataError(
                f"index {low if low < 0 else high} is out of range: {data.name} has {len(data)} examples"
            )
        self.data, self.indices, self.part = data, index, part
        self.origin: dict[str, Any] = {}
        self.signature, self.reference, self.facts = data.signature, data.reference, dict(data.facts)
        if type(data) is Subset:  # one look-up however deep the nesting
            self.data, self.indices = data.data, data.indices[index]
            self.origin["within"] = {"part": data.part, **data.origin}

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example."""
        return self.data[int(self.indices[index])]

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices``, which are positions within the subset."""
        return self.data.batch(self.indices.index_select(0, to_index(indices)))

    def identities(self) -> Sequence[str] | None:
        """Return what each example is (m,), as the whole data set says."""
        whole = self.data.identities()
        return None if whole is None else [whole[index] for index in self.indices.tolist()]

    def split_level(self) -> int:
        """Return how many splits or selections lie between the whole data set and this one."""
        level, origin = 1 + self.data.split_level(), self.origin
        while "within" in origin:
            level, origin = level + 1, origin["within"]
        return level

    def raw(self, index: int) -> str | Path | None:
        """Return what the example was read from in the whole data set."""
        return self.data.raw(int(self.indices[index]))

    def label_values(self, field: str) -> Int[Tensor, " m"]:
        """Return a label field of the subset's examples (m,)."""
        return self.data.label_values(field)[self.indices]

    def lengths(self) -> Mapping[str, Int[Tensor, " m"]] | None:
        """Return the lengths of these examples, as the whole data set gives them."""
        lengths = self.data.lengths()
        return None if lengths is None else {name: values[self.indices] for name, values in lengths.items()}

    @property
    def name(self) -> str:
        """Name of the whole data set and of the part."""
        return f"{self.data.name} ({self.part})"

    def describe(self) -> dict[str, Any]:
        """Return the description that ``run.json`` stores."""
        return {**super().describe(), "part": self.part, "of": len(self.data), **self.origin}


def held_out_share(valid: bool, test_share: float, valid_share: float) -> float:
    """Return the share of the examples that is not used for training.

    Raises:
        DataError: a share out of range.
    """
    share = test_share + (valid_share if valid else 0)
    if not (0 < test_share < 1 and 0 < valid_share < 1 and share < 1):
        raise DataError(
            f"test_share and valid_share must lie between 0 and 1 and leave examples to train on, not "
            f"test_share={test_share}, valid_share={valid_share}"
        )
    return share


def split_sizes(
    count: int, valid: bool, test_share: float, valid_share: float, *, what: str = "examples"
) -> tuple[int, int]:
    """Return how many of ``count`` examples (or groups: ``what``) go to test and to valid.

    Raises:
        DataError: a share out of range, or too few, so that a part would be empty.
    """
    held_out_share(valid, test_share, valid_share)
    test = max(1, round(count * test_share))
    held_out = max(1, round(count * valid_share)) if valid else 0
    if test + held_out >= count:
        raise DataError(
            f"{count} {what} are too few for {'train, valid, test' if valid else 'train, test'} with "
            f"test_share={test_share}{f', valid_share={valid_share}' if valid else ''}"
        )
    return test, held_out


def split_settings(seed: int, valid: bool, test_share: float, valid_share: float) -> dict[str, float]:
    """Return the settings of a split, for the ``origin`` of its parts."""
    return {"seed": seed, "test_share": test_share, **({"valid_share": valid_share} if valid else {})}


def derive_seed(*numbers: int) -> int:
    """Derive a generator's seed from several integers; neighboring values give unrelated seeds.

    Raises:
        DataError: a number is negative, or not an integer.
    """
    if not all(isinstance(number, int | np.integer) and number >= 0 for number in numbers):
        raise DataError(f"seeds are integers from 0, not {', '.join(map(repr, numbers))}")
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
