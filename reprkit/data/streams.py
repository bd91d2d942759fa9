"""Data that is read from front to back, without length or random access, in a shuffled order that a seed decides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, held_out_share, derive_seed
from reprkit.data.collate import collate
from reprkit.data.formats.in_memory import InMemory
from reprkit.data.loading.stream_sampler import SPARES, RankShare, StreamSampler
from reprkit.errors import DataError, ReprkitError

_STREAM, _PART = 0x73747265616D, 0x7374727061727473  # keep apart what is drawn from one seed
_JUDGED = 1000  # records: the share of unreadable ones is of these at least
_NAMED = 5  # unreadable records that are named, by each process
_SLOTS = 256  # processes that count: this one and its workers


class NoLengthError(DataError, TypeError):
    """A stream was asked for what only data of known size has."""


class Stream(Dataset):
    """A data set that can only be read from its start, as often as one likes.

    A subclass sets ``signature`` and defines ``read``, the records in their stored order, and ``decode``, from a record to an
    example.  There is no length and no indexing; ``take(n)`` gives the first examples as an ordinary data set, for evaluation.

    In training the order of records is a pure function of (seed, epoch): records pass through a buffer of ``buffer`` of them, from
    which the next is drawn.  A global batch is the next ``batch`` records, of which each process takes its slice; every process
    reads all records and decodes its own.  What does not fill a batch at an epoch's end is dropped.  Resuming reads over what was
    used before in its epoch without decoding it.

    A record that ``decode`` refuses is left out and counted, the first ones are named in warnings, and the next readable record of
    the batch stands in its place a second time: so neither later batches nor a resume depend on it.

    Attributes:
        buffer: records that are shuffled together; 1 keeps the stored order.
        max_corrupt: the largest share of unreadable records, of those that this process has decoded, at least 1,000.
    """

    buffer: int = 1000
    max_corrupt: float = 0.01

    def read(self) -> Iterator[Any]:
        """The records from the first on, the same each time: fit to be pickled, and cheap to read, as ``decode`` does the work."""
        raise NotImplementedError(f"{type(self).__name__} must define read")

    def decode(self, record: Any) -> dict[str, Tensor]:
        """The example of a record; it may raise anything."""
        raise NotImplementedError(f"{type(self).__name__} must define decode")

    def numbered_records(self) -> Iterator[tuple[int, Any]]:
        """(position, record), in stored order.

        Raises:
            DataError: reading fails; names the position.
        """
        position, records = 0, self.read()
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except Exception as error:
                said = str(error) if isinstance(error, ReprkitError) else f"{type(error).__name__}: {error}"
                raise DataError(f"record {position} of {self.name} cannot be read: {said}") from error
            yield position, record
            position += 1

    def stream(self, seed: int = 0, epoch: int = 0) -> Iterator[dict[str, Tensor]]:
        """The readable examples of one epoch in its shuffled order."""
        return self._decode_all(self.shuffled_records(seed, epoch))

    def shuffled_records(self, seed: int, epoch: int) -> Iterator[tuple[int, Any]]:
        """(position, record) in the order of one epoch."""
        if self.buffer < 1:
            raise DataError(f"buffer is a number of records from 1, not {self.buffer}")
        generator = np.random.default_rng(derive_seed(seed, _STREAM, epoch))
        held: list[tuple[int, Any]] = []
        for item in self.numbered_records():
            if len(held) < self.buffer:
                held.append(item)
                continue
            place = int(generator.integers(self.buffer))
            drawn, held[place] = held[place], item
            yield drawn
        for place in generator.permutation(len(held)).tolist():
            yield held[place]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """The readable examples in stored order."""
        return self._decode_all(self.numbered_records())

    def __bool__(self) -> bool:
        """Whether there is a record."""
        return next(self.numbered_records(), None) is not None

    def __len__(self) -> int:
        """There is none: NoLengthError."""
        raise self._no_length()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """There is none: NoLengthError."""
        raise self._no_length()

    def take(self, count: int) -> InMemory:
        """The first readable examples as a data set in memory.

        Raises:
            DataError: a count below 1, or no readable example.
        """
        if count < 1:
            raise DataError(f"take(n) takes at least 1 example, not {count}")
        examples = [example for example, _ in zip(self, range(count), strict=False)]
        if not examples:
            raise DataError(f"{self.name} holds no record that can be read")
        made = InMemory(examples, self.signature, f"{self.name} (first {len(examples)})")
        made.facts = self.facts
        return made

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Divide into streams: a hash of (seed, position) says to which part a record belongs.

        The shares hold on average.  As elsewhere, the test part depends on ``seed`` and ``test_share`` only.

        Raises:
            DataError: shares out of range.
        """
        wanted = held_out_share(valid, test_share, valid_share)
        bounds = {"test": (0.0, test_share), "valid": (test_share, wanted), "train": (wanted, 1.0)}
        names = ("train", "valid", "test") if valid else ("train", "test")
        return tuple(Part(self, name, bounds[name], seed) for name in names)

    def order(  # type: ignore[override]
        self, batch: int, seed: int = 0, *, ranks: int = 1, rank: int = 0, buckets: bool | int = False
    ) -> StreamSampler:
        """The order of records in training.

        Raises:
            DataError: buckets, which need lengths; a batch that the ranks cannot share equally.
        """
        if buckets:
            raise DataError(
                f"buckets need the length of every example beforehand, and {self.name} is a stream: go on without"
            )
        self._counters()  # now, so that worker processes count in the same memory
        return StreamSampler(self, batch, seed, ranks=ranks, rank=rank)

    def batch(self, indices: Any) -> dict[str, Tensor]:
        """The batch of a share of records, which ``order`` deals out.

        Raises:
            DataError: too many records that cannot be read.
        """
        if not isinstance(indices, RankShare):
            raise NoLengthError(f"{self.name} is a stream and has no indices: data.take(n).batch(...)")
        share = indices
        known: dict[int, dict[str, Tensor] | None] = {}
        wanted = range(share.size if share.whole else share.own)
        examples = [self._decode_or_next(share, place, known) for place in wanted]
        self._check_share()
        made = collate(examples, self.signature)
        return {name: value[: share.own] for name, value in made.items()} if share.whole else made

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it; without a size."""
        return {
            "name": self.name,
            "reference": self.reference,
            "stream": True,
            "buffer": self.buffer,
            "signature": self.signature.to_json(),
            **self.facts,
            **({"skipped": self._first_skipped(), "skipped_count": self.skipped} if self.skipped else {}),
        }

    def __repr__(self) -> str:
        """Name and fields."""
        fields = ", ".join(f"{name}: {field.kind} {field.shape}" for name, field in self.signature.items())
        return f"{type(self).__name__}({self.name}: a stream, {fields})"

    @property
    def skipped(self) -> int:
        """Records that could not be read so far, here and in worker processes."""
        return int(self._counters()[:, 1].sum())

    def _counters(self) -> Int[Tensor, "slots 2"]:
        """Records decoded, and those that could not be: a row for each process, in memory that workers share."""
        if "_shared" not in self.__dict__:
            self._shared = torch.zeros((_SLOTS, 2), dtype=torch.int64).share_memory_()
        return self._shared

    def _first_skipped(self) -> list[dict[str, str]]:
        """The first records that this process could not read."""
        named: list[dict[str, str]] = self.__dict__.setdefault("_names", [])
        return named

    def _no_length(self) -> NoLengthError:
        return NoLengthError(
            f"{self.name} is a stream: it has no length and no random access\n"
            "  data.take(n) gives its first n examples as a data set in memory, to evaluate on or to fit on"
        )

    def _decode_all(self, items: Iterable[tuple[int, Any]]) -> Iterator[dict[str, Tensor]]:
        for item in items:
            made = self._decode_or_none(*item)
            self._check_share()
            if made is not None:
                yield made

    def _decode_or_next(
        self, share: RankShare, place: int, known: dict[int, dict[str, Tensor] | None]
    ) -> dict[str, Tensor]:
        """The example at a place of a batch, or the next that can be read; ``known`` are those that were decoded before."""
        for further in range(min(SPARES + 1, share.size)):
            next_ = (place + further) % share.size
            if next_ not in known:
                known[next_] = self._decode_or_none(*share.records[next_])
            made = known[next_]
            if made is not None:
                return made
        first = share.records[place][0]
        raise DataError(f"record {first} of {self.name} and those that come next in its batch cannot be read")

    def _decode_or_none(self, position: int, record: Any) -> dict[str, Tensor] | None:
        counts = self._own_counters()
        counts[0] += 1
        try:
            return self.decode(record)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise anything; it is counted and named
            counts[1] += 1
            if int(counts[1]) <= _NAMED:
                said = str(error) if isinstance(error, ReprkitError) else f"{type(error).__name__}: {error}"
                self._first_skipped().append({"name": f"record {position}", "why": said})
                warnings.warn(
                    f"record {position} of {self.name} cannot be read and is left out: {said}", stacklevel=2
                )
            return None

    def _own_counters(self) -> Tensor:
        worker = torch.utils.data.get_worker_info()
        return self._counters()[0 if worker is None else 1 + worker.id % (_SLOTS - 1)]

    def _check_share(self) -> None:
        seen, skipped = self._own_counters().tolist()
        if skipped > self.max_corrupt * max(seen, _JUDGED):
            raise DataError(
                f"{skipped} of {seen} records of {self.name} cannot be read; at most max_corrupt={self.max_corrupt:g} of them "
                f"(of {_JUDGED:,} at least) may be left out\n  mend them, or allow more with max_corrupt="
            )


class Part(Stream):
    """The records of another stream whose hash lies between two bounds; see ``Stream.split``."""

    def __init__(self, whole: Stream, part: str, bounds: tuple[float, float], seed: int) -> None:
        self.data, self.part, self._bounds, self._salt = whole, part, bounds, derive_seed(seed, _PART)
        self.signature, self.reference = whole.signature, whole.reference
        self.buffer, self.max_corrupt = whole.buffer, whole.max_corrupt
        self.facts = {**whole.facts, "part": part, "seed": seed, "share": round(bounds[1] - bounds[0], 6)}

    def numbered_records(self) -> Iterator[tuple[int, Any]]:
        """Those of the whole stream, with their positions in it."""
        low, high = self._bounds
        return (
            (place, each) for place, each in self.data.numbered_records() if low <= _hash(place, self._salt) < high
        )

    def decode(self, record: Any) -> dict[str, Tensor]:
        """As the whole stream does."""
        return self.data.decode(record)

    @property
    def name(self) -> str:
        """The whole stream's, and the part."""
        return f"{self.data.name} ({self.part})"


def _hash(position: int, salt: int) -> float:
    """A number in [0, 1) for a position (splitmix64: Steele et al. 2014)."""
    full = (1 << 64) - 1
    value = (position * 0x9E3779B97F4A7C15 + salt) & full
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & full
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & full
    return math.ldexp((value ^ (value >> 31)) >> 11, -53)
