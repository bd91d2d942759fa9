"""Streaming data set of tar files, as WebDataset has them: a record is the files of one name."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprkit.data.formats.columns import HEAD
from reprkit.data.formats.media_readers import Size
from reprkit.data.formats.member_readers import Member, kind_of, member_reader, read_array
from reprkit.data.formats.shard_paths import find_shards
from reprkit.data.formats.shard_writer import stored_columns, stored_signature
from reprkit.data.formats.tar_index import cache_path
from reprkit.data.formats.tar_shards import Reference, TarShards
from reprkit.data.formats.value_readers import LabelReader, ValueReader, class_facts
from reprkit.data.signature import Field, Signature
from reprkit.data.streams import Stream
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share
from reprkit.utils.cache import write_cached
from reprkit.utils.untrusted_json import read_json

_SLOW = 1.0  # seconds: classes whose search took longer are kept in the cache


class TarStream(Stream):
    """Records of tar files, read during training by as many processes as there are, each its own part.

    The layout is WebDataset's: the files of a record are neighbors in a tar file, with equal names up to the first dot, such as
    ``0001.jpg`` and ``0001.cls``.  What a file holds is told by its suffix:

    =======================================  =========================================================
    suffix                                   field
    =======================================  =========================================================
    jpg, png, webp and other images          image (h w c) of ``size``, in [0, 1]
    wav, flac, ogg and other sound           sequence (t 1), of varying length, at ``rate``
    cls, index, id: a whole number           label
    txt, text                                tokens (t,), its UTF-8 bytes, of varying length; as "label" a label
    npy                                      vector (d,), sequence (t c), image (h w c)
    npy of whole numbers, with ``vocabs``    tokens (t,), map (h w)
    json, as "json.KEY"                      as in JSON Lines: a text, a list of numbers, a label ...
    =======================================  =========================================================

    When the data set is made, the headers of all files are read (one a file in a tar, about 20 µs), and labels without ``classes``.
    What took longer than a second is kept in the cache folder.  In training a process reads the records of its own batches only,
    by their place, in its worker processes where there are any.  A resumed run reads on where the last one stopped, on any number
    of processes.  See ``reprkit.data.loading.shard_sampler.ShardSampler`` for the order.

    A tar file that is truncated or damaged has the records before the damage, and is named in ``describe`` and in a warning.

    Args:
        path: a folder of .tar files at any depth, a .tar file, a pattern (``"train-{0000..0099}.tar"``, ``"train-*.tar"``), or a
            list of these.
        columns: field -> suffix; alternatives ``"jpg;png"``; a value of JSON ``"json.caption"``.  By default ``cls`` is ``label``,
            and ``x`` the only other kind of file besides JSON.
        size: (h, w) of images, (h, w, 1) for grayscale, or one number for both sides.
        rate: sampling rate of sound, in Hz.
        classes: field -> values of a label, in order.  Without it all labels are read when the data set is made.
        vocabs: field -> number of symbols of arrays or lists of whole numbers.
        buffer: size of the shuffle buffer in records, over all processes.  It holds places, not contents.
        readers: shards that are read at a time, over all processes.
        max_corrupt: largest share of unreadable records that may be skipped (of at least 1,000), and of bytes that truncated and
            damaged tar files have lost.

    Raises:
        DataError: no such file, no records, an unknown suffix or none that must be ``x``, ``classes`` or ``vocabs`` of a field
            that has none, a record without one of the fields among the first ones, or tar files that have lost more than
            ``max_corrupt`` of their bytes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        columns: Mapping[str, str] | None = None,
        size: Size = None,
        rate: Count = 16000,
        classes: Mapping[str, list[Any]] | None = None,
        vocabs: Mapping[str, Count] | None = None,
        buffer: Count = 1000,
        readers: Count = 16,
        max_corrupt: Share = 0.01,
    ) -> None:
        paths, ignored = find_shards(path)
        self._name = _short_name(path, paths)
        self._shards = TarShards(paths)
        self.buffer, self.readers, self.max_corrupt = buffer, readers, max_corrupt
        self.facts = {**ignored, **self._check_damage()}
        if not self._shards.count:
            raise DataError(f"{self._name} has no records: {_describe_files(paths)}")
        stored = stored_signature(paths)
        head = [reference for reference, _ in zip(self.read(), range(HEAD), strict=False)]
        chosen = columns or stored_columns(stored) or self._infer_columns(head)
        self._members = {name: Member(source) for name, source in chosen.items()}
        self._masks = {name: f"{name}_mask.npy" for name in stored or ()}
        wanted = {suffix for member in self._members.values() for suffix in member.suffixes}
        self._wanted = frozenset(wanted | set(self._masks.values()))
        _check_names("classes", classes, self._members, ("number", "text", "json"))
        _check_names("vocabs", vocabs, self._members, ("array", "text", "json"))
        self._readers = {
            name: member_reader(
                name,
                member,
                self._first_values(name, member, head),
                size=size,
                rate=rate,
                classes=_classes_of(name, classes, stored),
                vocab=(vocabs or {}).get(name),
                field=None if stored is None else stored.get(name),
            )
            for name, member in self._members.items()
        }
        found = {name: self._number_classes(name) for name in self._labels()}
        fields = {name: reader.field() for name, reader in self._readers.items()}
        for name in self._labels():  # of shards that state the names of their classes
            known = None if stored is None else stored.get(name)
            if known is not None and known.classes and known.vocab == fields[name].vocab:
                fields[name], found[name] = known, list(known.classes)
        self.signature = Signature(fields)
        self.facts = {**self.facts, **class_facts(found)}

    def shards(self) -> TarShards:
        """Return the tar files."""
        return self._shards

    def read(self) -> Iterator[Reference]:
        """Yield (number of the file, number of the record in it)."""
        for shard, size in enumerate(self._shards.sizes.tolist()):
            yield from ((shard, number) for number in range(size))

    def decode(self, record: Reference) -> dict[str, Tensor]:
        """Read a record and return its fields.

        Raises:
            DataError: it lacks a file, or one of them cannot be read; names the place.
        """
        try:
            files = self._shards.content(record, self._wanted)
            example = {}
            for name, reader in self._readers.items():
                example[name] = reader(reader.validate(self._members[name].parse(files)))
                mask = files.get(self._masks.get(name, ""))
                if mask is not None:
                    example[f"{name}_mask"] = torch.from_numpy(read_array(mask)).bool()
            return example
        except MemoryError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            raise DataError(f"{self._shards.place(record)}: {reason}") from error

    @property
    def name(self) -> str:
        """Name of the folder, of the file, or the pattern."""
        return self._name

    def _check_damage(self) -> dict[str, Any]:
        """Return the entries for ``describe`` of files that are damaged; raise if they have lost too much."""
        index = self._shards.index
        if not index.damages:
            return {}
        named = [{"name": self._shards.paths[number].name, "why": why} for number, why in index.damages]
        lines = "\n".join(f"  {each['name']}: {each['why']}" for each in named[:5])
        share, lost = self._shards.lost_share(), int(index.lost.sum())
        if share > self.max_corrupt:
            raise DataError(
                f"{len(named)} of the {len(self._shards.paths)} tar files of {self._name} are truncated or damaged, and "
                f"{share:.1%} of all bytes cannot be read; at most max_corrupt={self.max_corrupt:g} may be lost\n{lines}\n"
                "  copy them again, or allow more with max_corrupt="
            )
        warnings.warn(
            f"{len(named)} of the {len(self._shards.paths)} tar files of {self._name} are truncated or damaged; their records "
            f"before the damage are used, and about {lost:,} bytes are lost\n{lines}",
            stacklevel=3,
        )
        return {"skipped": named[:20], "skipped_count": len(named)}

    def _infer_columns(self, head: Sequence[Reference]) -> dict[str, str]:
        """Return field -> suffix: ``cls`` is the label, and x the only other kind of file besides JSON."""
        counts = Counter(suffix for reference in head for suffix in self._shards.suffixes_of(reference))
        by_kind: dict[str, list[str]] = {}
        for suffix in counts:
            by_kind.setdefault(kind_of(suffix) or "", []).append(suffix)
        numbers = by_kind.pop("number", [])
        label = "cls" if "cls" in numbers else numbers[0] if len(numbers) == 1 else None
        for kind in ("", "json"):
            by_kind.pop(kind, None)
        media = [name for name in by_kind if name != "text"] or list(by_kind)
        if len(media) != 1 or len({suffix.count(".") for suffix in by_kind[media[0]]}) > 1:
            listed = ", ".join(f"{count} .{suffix}" for suffix, count in counts.most_common(10))
            raise DataError(
                f"which files of {self._name} are x?  Give columns={{'x': 'jpg', 'label': 'cls'}}\n"
                f"  the first {len(head)} records have: {listed}"
            )
        if media[0] == "array" and len(by_kind["array"]) > 1:
            raise DataError(
                f"which arrays of {self._name} are x?  Give columns={{'x': ...}}, one of {', '.join(sorted(by_kind['array']))}"
            )
        return {"x": ";".join(sorted(by_kind[media[0]])), **({"label": label} if label else {})}

    def _first_values(self, name: str, member: Member, head: Sequence[Reference]) -> list[Any]:
        """Return the values of a field in the first records that can be read."""
        values, reason = list[Any](), ""
        for reference in head:
            try:
                values.append(member.parse(self._shards.content(reference, member.suffixes)))
            except Exception as error:
                reason = reason or f"{self._shards.place(reference)}: {type(error).__name__}: {error}"
        if 2 * len(values) < len(head):
            known = sorted({suffix for each in head for suffix in self._shards.suffixes_of(each)})
            raise DataError(
                f"field {name!r} cannot be read from most of the first {len(head)} records of {self._name}: {reason}."
                f"{nearest(member.source, known)}\n  they have the files: {', '.join(f'.{each}' for each in known)}"
            )
        return values

    def _labels(self) -> list[str]:
        return [name for name, reader in self._readers.items() if isinstance(reader, LabelReader)]

    def _number_classes(self, name: str) -> list[Any]:
        """Return the classes of a label, read from all records where they are not declared."""
        reader, member = self._readers[name], self._members[name]
        assert isinstance(reader, LabelReader)
        if reader.classes is None:
            for value in self._all_labels(member, reader):
                reader.observe(value)
        return reader.number_classes()

    def _all_labels(self, member: Member, reader: ValueReader) -> list[Any]:
        """Return the different labels of all records that have a valid one."""
        shards = self._shards
        cached = cache_path(shards.paths, ".json", member.source)
        if cached.exists():
            try:
                return [reader.validate(value) for value in read_json(cached)]
            except (ValueError, DataError):
                pass  # damaged: it is made again
        began, found = time.monotonic(), set[Any]()
        for reference in self.read():
            try:
                found.add(reader.validate(member.parse(shards.content(reference, member.suffixes))))
            except Exception:  # counted when the record is used
                continue
        if time.monotonic() - began > _SLOW:
            write_cached(cached, json.dumps(sorted(found)).encode())
        return sorted(found)


def _classes_of(
    name: str, classes: Mapping[str, list[Any]] | None, stored: Mapping[str, Field] | None
) -> list[Any] | None:
    if classes is not None and name in classes:
        return list(classes[name])
    field = None if stored is None else stored.get(name)
    return None if field is None or field.kind != "label" else list(range(field.vocab or 0))


def _check_names(
    argument: str, given: Mapping[str, Any] | None, fields: Mapping[str, Member], kinds: Sequence[str]
) -> None:
    """Check that an argument is for fields that exist, and whose files are of a kind that it applies to."""
    for name in given or ():
        if name not in fields:
            raise DataError(
                f"{argument}= names {name!r}, and there is no such field.{nearest(name, fields)}\n"
                f"  the fields are: {', '.join(fields)}"
            )
        if fields[name].kind not in kinds:
            raise DataError(
                f"{argument}= names {name!r}, whose files {fields[name].source!r} are of kind {fields[name].kind}: it applies to "
                f"{', '.join(kinds)}"
            )


def _short_name(path: Any, paths: Sequence[Path]) -> str:
    if isinstance(path, str | os.PathLike):
        given = Path(path).expanduser()
        return given.resolve().stem if given.exists() else str(given.name)
    return f"{paths[0].stem} and {len(paths) - 1} others" if len(paths) > 1 else paths[0].stem


def _describe_files(paths: Sequence[Path]) -> str:
    return f"{len(paths)} tar files, the first of them {str(paths[0])!r}"
