"""Streaming data sets: read sequentially, without length or random access, in a shuffled order that depends on a seed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, derive_seed, held_out_share
from reprkit.data.collation import collate
from reprkit.data.formats.in_memory import InMemory
from reprkit.data.formats.value_readers import class_facts
from reprkit.data.loading.shard_sampler import ShardSampler
from reprkit.data.loading.shards import SelectedShards, Shards, hash_position
from reprkit.data.loading.stream_sampler import SPARES, Group, RankShare, StreamSampler
from reprkit.data.relabeled import relabeled_signature, renumber
from reprkit.data.summary import summarize
from reprkit.errors import DataError, ReprkitError

_STREAM, _PART = 0x73747265616D, 0x7374727061727473  # salts: shuffling and splits may have the same seed
_MIN_SEEN = 1000  # records: the share of unreadable ones is computed of at least so many
_NAMED = 5  # unreadable records that each process names
_SLOTS = 256  # processes with a counter: this one and its workers


class NoLengthError(DataError, TypeError):
    """A stream was asked for its length or for an example by index."""


class Stream(Dataset):
    """Base class of data sets that can only be read from the start, any number of times.

    A subclass sets ``signature`` and defines ``read``, which yields the records in stored order, and ``decode``, which turns a
    record into an example.  There is no length and no indexing; ``take(n)`` returns the first examples as an ordinary data set,
    for evaluation.

    In training the order of records is a pure function of (seed, epoch): records pass through a shuffle buffer of size ``buffer``,
    from which the next one is drawn.  A global batch is the next ``batch`` records; each process takes its slice of them.  Every
    process reads all records and decodes its own.  An incomplete batch at the end of an epoch is dropped.  A resumed run skips the
    records that its epoch used before, without decoding them.

    A subclass whose records lie in shards that can be read on their own returns them from ``shards``.  Then every process reads its
    part of the shards only, and a resumed run does not read what it used before: see ``ShardSampler``.

    A record for which ``decode`` raises is skipped and counted, the first ones are named in warnings, and the next readable record
    of the batch is used a second time in its place: so neither later batches nor a resumed run depend on it.

    Attributes:
        buffer: size of the shuffle buffer in records; 1 keeps the stored order (of the records within a shard).
        readers: shards that are read at a time, over all processes, where they can be read on their own.
        max_corrupt: largest share of unreadable records, of those that this process has decoded (of 1,000 at least).
    """

    buffer: int = 1000
    readers: int = 16
    max_corrupt: float = 0.01

    def read(self) -> Iterator[Any]:
        """Yield the records from the first on, the same each time: picklable and cheap to read; ``decode`` does the work."""
        raise NotImplementedError(f"{type(self).__name__} must define read")

    def decode(self, record: Any) -> dict[str, Tensor]:
        """Return the example of a record; may raise any exception."""
        raise NotImplementedError(f"{type(self).__name__} must define decode")

    def shards(self) -> Shards | None:
        """Return the shards of the stream; None where it can only be read from its start."""
        return None

    def numbered_records(self) -> Iterator[tuple[int, Any]]:
        """Yield (position, record) in stored order.

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
                reason = _reason(error)
                raise DataError(f"record {position} of {self.name} cannot be read: {reason}") from error
            yield position, record
            position += 1

    def stream(self, seed: int = 0, epoch: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield the readable examples of one epoch in shuffled order."""
        return self._decode_all(self.shuffled_records(seed, epoch))

    def shuffled_records(self, seed: int, epoch: int) -> Iterator[tuple[int, Any]]:
        """Yield (position, record) in the shuffled order of one epoch."""
        if self.buffer < 1:
            raise DataError(f"buffer is a number of records from 1, not {self.buffer}")
        generator = np.random.default_rng(derive_seed(seed, _STREAM, epoch))
        buffer: list[tuple[int, Any]] = []
        for item in self.numbered_records():
            if len(buffer) < self.buffer:
                buffer.append(item)
                continue
            index = int(generator.integers(self.buffer))
            drawn, buffer[index] = buffer[index], item
            yield drawn
        for index in generator.permutation(len(buffer)).tolist():
            yield buffer[index]

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Iterate over the readable examples in stored order."""
        return self._decode_all(self.numbered_records())

    def _count(self) -> None:
        """There is no number of examples."""

    def __bool__(self) -> bool:
        """Return whether there is any record."""
        return next(self.numbered_records(), None) is not None

    def __len__(self) -> int:
        """Raise NoLengthError."""
        raise self._no_length()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Raise NoLengthError."""
        raise self._no_length()

    def take(self, count: int) -> InMemory:
        """Return the first ``count`` readable examples as a data set in memory.

        Raises:
            DataError: a count below 1, or no readable example.
        """
        if count < 1:
            raise DataError(f"take(n) needs n of at least 1, not {count}")
        examples = [example for example, _ in zip(self, range(count), strict=False)]
        if not examples:
            raise DataError(f"{self.name} holds no record that can be read")
        data = InMemory(examples, self.signature, f"{self.name} (first {len(examples)})")
        data.facts = self.facts
        return data

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into streams: a hash of (seed, position) decides which part a record belongs to.

        The shares hold on average.  As elsewhere, the test part depends on ``seed`` and ``test_share`` only.

        Raises:
            DataError: a share out of range.
        """
        held_out = held_out_share(valid, test_share, valid_share)
        bounds = {"test": (0.0, test_share), "valid": (test_share, held_out), "train": (held_out, 1.0)}
        names = ("train", "valid", "test") if valid else ("train", "test")
        return tuple(Part(self, name, bounds[name], seed) for name in names)

    def renumber_classes(self, numbers: Mapping[str, list[int]], classes: Mapping[str, list[str]]) -> Stream:
        """Return the stream with the classes of label fields renumbered."""
        return RelabeledStream(self, numbers, classes)

    def order(  # type: ignore[override]
        self,
        batch: int,
        seed: int = 0,
        *,
        ranks: int = 1,
        rank: int = 0,
        buckets: bool | int = False,
        groups: str | None = None,
        mates: int = 2,
    ) -> StreamSampler | ShardSampler:
        """Return the order of records in training.

        Raises:
            DataError: buckets, which need lengths, or groups, which need labels; a batch size that is no multiple of ``ranks``.
        """
        if groups is not None:
            raise DataError(
                f"groups need the label of every example in advance, and {self.name} is a stream: train without groups"
            )
        if buckets:
            raise DataError(
                f"buckets need the length of every example in advance, and {self.name} is a stream: train without buckets"
            )
        self._counters()  # created now, so that worker processes share its memory
        shards = self.shards()
        if shards is not None:
            return ShardSampler(self, shards, batch, seed, ranks=ranks, rank=rank)
        return StreamSampler(self, batch, seed, ranks=ranks, rank=rank)

    def batch(self, indices: Any) -> dict[str, Tensor]:
        """Return the batch of a ``RankShare`` of records, as the sampler of ``order`` gives it.

        Raises:
            DataError: too many records that cannot be read.
        """
        if not isinstance(indices, RankShare):
            raise NoLengthError(f"{self.name} is a stream and has no indices: data.take(n).batch(...)")
        share, examples, own = indices, list[dict[str, Tensor]](), 0
        for group in share.groups:
            decoded: dict[int, dict[str, Tensor] | None] = {}
            stop = len(group.records) if share.decode_all else group.stop
            examples += [self._decode_or_next(group, index, decoded) for index in range(group.start, stop)]
            own += group.stop - group.start
        self._check_share()
        batch = collate(examples, self.signature)
        return {name: value[:own] for name, value in batch.items()} if share.decode_all else batch

    def summary(self) -> str:
        """Return what was read, in one line."""
        return summarize(self.signature, None, self.facts)

    def describe(self) -> dict[str, Any]:
        """Return the description that ``run.json`` stores; it has no size."""
        skipped = [*self.facts.get("skipped", ()), *self._first_skipped()]
        count = self.facts.get("skipped_count", 0) + self.skipped
        return {
            "name": self.name,
            "reference": self.reference,
            "stream": True,
            "buffer": self.buffer,
            **self._reading(),
            "signature": self.signature.to_json(),
            **self.facts,
            **({"skipped": skipped, "skipped_count": count} if count else {}),
        }

    def _reading(self) -> dict[str, Any]:
        """Return how processes divide the records, for ``describe``."""
        shards = self.shards()
        if shards is None:
            return {"reading": "every process reads all records and decodes its own"}
        return {
            "reading": "every process reads its own part of the shards",
            "shards": len(shards.sizes),
            "records": shards.count,
            "readers": self.readers,
        }

    def __repr__(self) -> str:
        """Return name and fields."""
        fields = ", ".join(f"{name}: {field.kind} {field.shape}" for name, field in self.signature.items())
        return f"{type(self).__name__}({self.name}: a stream, {fields})"

    @property
    def skipped(self) -> int:
        """Number of records that could not be read so far, here and in worker processes."""
        return int(self._counters()[:, 1].sum())

    def _counters(self) -> Int[Tensor, "slots 2"]:
        """Return the numbers of records decoded and of unreadable ones: one row per process, in memory shared with workers."""
        if "_shared" not in self.__dict__:
            self._shared = torch.zeros((_SLOTS, 2), dtype=torch.int64).share_memory_()
        return self._shared

    def _first_skipped(self) -> list[dict[str, str]]:
        """Return the first records that this process could not read, with the reasons."""
        skipped: list[dict[str, str]] = self.__dict__.setdefault("_names", [])
        return skipped

    def _no_length(self) -> NoLengthError:
        return NoLengthError(
            f"{self.name} is a stream: it has no length and no random access\n"
            "  data.take(n) returns its first n examples as a data set in memory, for evaluation or for training"
        )

    def _decode_all(self, items: Iterable[tuple[int, Any]]) -> Iterator[dict[str, Tensor]]:
        for item in items:
            example = self._decode_or_none(*item)
            self._check_share()
            if example is not None:
                yield example

    def _decode_or_next(
        self, group: Group, index: int, decoded: dict[int, dict[str, Tensor] | None]
    ) -> dict[str, Tensor]:
        """Return the example at an index of the group, or the next readable one; ``decoded`` caches examples by index."""
        for offset in range(min(SPARES + 1, len(group.records))):
            candidate = (index + offset) % len(group.records)
            if candidate not in decoded:
                decoded[candidate] = self._decode_or_none(*group.records[candidate])
            example = decoded[candidate]
            if example is not None:
                return example
        first = group.records[index][0]
        raise DataError(f"record {first} of {self.name} and the records after it in its batch cannot be read")

    def _decode_or_none(self, position: int, record: Any) -> dict[str, Tensor] | None:
        counts = self._own_counters()
        counts[0] += 1
        try:
            return self.decode(record)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise any exception
            counts[1] += 1
            if int(counts[1]) <= _NAMED:
                reason = _reason(error)
                self._first_skipped().append({"name": f"record {position}", "why": reason})
                warnings.warn(
                    f"record {position} of {self.name} cannot be read and is skipped: {reason}", stacklevel=2
                )
            return None

    def _own_counters(self) -> Tensor:
        worker = torch.utils.data.get_worker_info()
        return self._counters()[0 if worker is None else 1 + worker.id % (_SLOTS - 1)]

    def _check_share(self) -> None:
        seen, skipped = self._own_counters().tolist()
        if skipped > self.max_corrupt * max(seen, _MIN_SEEN):
            raise DataError(
                f"{skipped} of {seen} records of {self.name} cannot be read; at most max_corrupt={self.max_corrupt:g} of them "
                f"(of {_MIN_SEEN:,} at least) may be skipped\n  repair them, or allow more with max_corrupt="
            )


class RelabeledStream(Stream):
    """A stream with the classes of its labels renumbered: see ``Dataset.renumber_classes``."""

    def __init__(
        self, whole: Stream, numbers: Mapping[str, list[int]], classes: Mapping[str, list[str]]
    ) -> None:
        self.data, self._numbers = whole, {name: torch.tensor(values) for name, values in numbers.items()}
        self.signature = relabeled_signature(whole.signature, classes)
        self.reference, self.facts = whole.reference, {**whole.facts, **class_facts(dict(classes))}
        self.buffer, self.readers, self.max_corrupt = whole.buffer, whole.readers, whole.max_corrupt

    def shards(self) -> Shards | None:
        """Return the shards of the whole stream."""
        return self.data.shards()

    def numbered_records(self) -> Iterator[tuple[int, Any]]:
        """Yield the records of the whole stream with their positions."""
        return self.data.numbered_records()

    def decode(self, record: Any) -> dict[str, Tensor]:
        """Decode as the whole stream does, and renumber."""
        return renumber(self.data.decode(record), self._numbers)

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.data.name


class Part(Stream):
    """Stream of the records of another stream whose hash lies between two bounds; see ``Stream.split``."""

    def __init__(self, whole: Stream, part: str, bounds: tuple[float, float], seed: int) -> None:
        self.data, self.part, self._bounds, self._salt = whole, part, bounds, derive_seed(seed, _PART)
        self.signature, self.reference = whole.signature, whole.reference
        self.buffer, self.readers, self.max_corrupt = whole.buffer, whole.readers, whole.max_corrupt
        self.facts = {**whole.facts, "part": part, "seed": seed, "share": round(bounds[1] - bounds[0], 6)}
        self._shards: Shards | None = None

    def shards(self) -> Shards | None:
        """Return the shards of the whole stream with the part's records only."""
        whole = self.data.shards()
        if self._shards is None and whole is not None:
            self._shards = SelectedShards(whole, self._bounds, self._salt)
        return self._shards

    def numbered_records(self) -> Iterator[tuple[int, Any]]:
        """Yield the part's records with their positions in the whole stream."""
        low, high = self._bounds
        return (
            (position, record)
            for position, record in self.data.numbered_records()
            if low <= hash_position(position, self._salt) < high
        )

    def decode(self, record: Any) -> dict[str, Tensor]:
        """Decode as the whole stream does."""
        return self.data.decode(record)

    @property
    def name(self) -> str:
        """Name of the whole stream and of the part."""
        return f"{self.data.name} ({self.part})"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ReprkitError) else f"{type(error).__name__}: {error}"
