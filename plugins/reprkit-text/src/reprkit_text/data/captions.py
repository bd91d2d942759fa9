"""Pictures with texts from files: a folder with a text beside each picture, or a table of picture files and texts."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import MinLen
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Field
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.folders import find_files
from reprkit.data.formats.image_files import Depths, Fit, read_image, suffixes, undecoded
from reprkit.data.formats.text_encoding import read_text
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share, Width
from reprkit.registry.references import Reference
from reprkit_text.data.captioned import CaptionedPictures
from reprkit_text.data.records import strip_text
from reprkit_text.vocabulary import Vocabulary

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_INDEX = ("metadata.jsonl", "metadata.csv")  # of a folder, as the library datasets names them


class _Pair(NamedTuple):
    file: str
    text: str
    group: str


class Captions(CaptionedPictures):
    """Pictures of one's own, each with one or several texts.

    ===========================================  ====================================================================
    root                                         pairs
    ===========================================  ====================================================================
    a folder                                     each picture below it, with the text of the file of the same name and suffix
                                                 ``.txt`` beside it
    a folder with metadata.jsonl, metadata.csv   the rows of that file, as the ``imagefolder`` of datasets
    a .csv, .tsv, .jsonl or .ndjson file         its rows: ``file`` is the path of a picture, relative to the file's folder
    ===========================================  ====================================================================

    A row of JSON whose text is a list is one pair for each text.  Pairs of one ``group`` stay together in ``split``; without
    ``group`` those of one picture do.  Data sets of the hub with pictures and texts are read by ``hub``.

    A picture without a text, a row without a picture or text, and a picture that cannot be decoded are left out, counted and named;
    ``facts`` also names other files of a folder.  Pictures are decoded once, and kept as 8 bits.

    Fields: ``x`` image (h w c), float32 in [0, 1]; ``text`` tokens (t,).

    Args:
        root: a folder or a file.
        size: (h, w) of the pictures, or one number for both.
        tokenizer: see ``documents``; trained on these texts (all parts of them).
        file: key of the picture's path.
        text: key of the text, or several, such as one for each language: a row is a pair for each text that it has.
        group: key of what stays together, such as a name; None: the picture.
        length: largest number of symbols of a text; the rest is cut off and counted (``cut_count``).
        fit: "crop" crops the center to the aspect ratio of ``size``, "pad" adds black borders, "stretch" distorts.
        max_corrupt: largest share of pairs that may be left out; more is an error.

    Raises:
        DataError: no such folder or file, no pairs, unknown keys, or too many pairs that cannot be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: Width | tuple[Width, Width] = 64,
        tokenizer: str | Vocabulary = "byte-pair(vocab=4000, lower=True, marks=True)",
        *,
        file: str = "file_name",
        text: str | Annotated[tuple[str, ...], MinLen(1)] = "text",
        group: str | None = None,
        length: Count | None = 77,
        fit: Fit = "crop",
        max_corrupt: Share = 0.01,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        self._root = Path(root).expanduser()
        skips, depths = CorruptFiles("pairs", max_corrupt), Depths()
        table = _table_of(self._root)
        facts: dict[str, Any] = {}
        if table is None:
            pairs, facts = _pairs_of_folder(self._root, skips)
            folder = self._root
        else:
            texts = (text,) if isinstance(text, str) else text
            pairs, folder = _pairs_of_table(table, file, texts, group, skips), table.parent
        total = len(pairs) + skips.count
        files = list(dict.fromkeys(pair.file for pair in pairs))

        def read(name: str) -> np.ndarray:
            return read_image(folder / name, (height, width), fit=fit, depths=depths)

        broken = CorruptFiles("pictures", 1.0)
        decoded = dict(broken.iter_readable(files, read))
        reasons = {entry["name"]: entry["why"] for entry in broken.named}
        for pair in pairs:
            if pair.file not in decoded:
                skips.add(pair.file, reasons.get(pair.file, "it cannot be decoded"))
        skips.check_share(total, str(self._root))
        depths.check(folder)
        self._pairs = [pair for pair in pairs if pair.file in decoded]
        numbers = {name: number for number, name in enumerate(decoded)}
        self._picture_of = torch.tensor([numbers[pair.file] for pair in self._pairs])
        self._pictures = torch.from_numpy(np.stack(list(decoded.values())))
        settings = {"fit": fit} if fit != "crop" else {}
        form = str(Reference("image", settings)) if settings else None
        self._set_up(
            Field(kind="image", shape=(height, width, 3), range=(0.0, 1.0), form=form),
            [pair.text for pair in self._pairs],
            tokenizer,
            name=self._root.resolve().stem,
            length=length,
            labels={},
            facts={"pictures": len(decoded), **facts, **skips.facts(), **depths.facts()},
        )

    def pixels(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b h w 3"]:
        """Return the pictures."""
        return self._pictures[self._picture_of[index]].float() / 255

    def identities(self) -> list[str]:
        """Return the group of each pair, or its picture."""
        return [pair.group for pair in self._pairs]


def _table_of(root: Path) -> Path | None:
    """Return the table that lists the pairs; None for a folder without one.

    Raises:
        DataError: nothing there, or a file of another kind.
    """
    if root.is_dir():
        return next((root / name for name in _INDEX if (root / name).is_file()), None)
    if not root.exists():
        raise DataError(f"no folder or file {str(root)!r} (looked in {Path.cwd()})")
    if root.suffix.lower() not in _TABLES:
        raise DataError(
            f"{str(root)!r} is no table of pictures and texts: give a folder, or a file that ends in {', '.join(_TABLES)}"
        )
    return root


def _pairs_of_folder(root: Path, skips: CorruptFiles) -> tuple[list[_Pair], dict[str, Any]]:
    """Return the pictures that have a text beside them, and what else is in the folder."""
    found = find_files(root, suffixes(), "pictures", undecoded=undecoded())
    skips.add_entries(found.unreadable)
    pairs, used = list[_Pair](), set[str]()
    for name in found.names:
        beside = Path(name).with_suffix(".txt").as_posix()
        used.add(beside)
        if not (root / beside).is_file():
            skips.add(name, f"there is no text {beside} beside it")
            continue
        try:
            text = strip_text(read_text(root / beside))
        except (DataError, OSError) as error:
            skips.add(name, f"{beside}: {error}".splitlines()[0])
            continue
        if text:
            pairs.append(_Pair(name, text, name))
        else:
            skips.add(name, f"{beside} is empty")
    texts = found.ignored.pop("suffix .txt", [])
    for name in texts:
        if name not in used:
            found.ignore(name, "a text without a picture of its name")
    return pairs, found.facts()


def _pairs_of_table(
    path: Path, file_key: str, text_keys: tuple[str, ...], group_key: str | None, skips: CorruptFiles
) -> list[_Pair]:
    """Return the pairs of a table's rows.

    Raises:
        DataError: no row has these keys.
    """
    known: dict[str, None] = {}
    pairs = list[_Pair]()
    for number, row in _rows(path, skips):
        known.update(dict.fromkeys(row))
        where = f"{path.name}, row {number}"
        file, group = row.get(file_key), None if group_key is None else row.get(group_key)
        values = [row[key] for key in text_keys if row.get(key)]
        texts = [each for value in values for each in (value if isinstance(value, list) else [value])]
        if not isinstance(file, str) or not file:
            skips.add(where, f"it has no {file_key!r}")
        elif not texts or not all(isinstance(each, str) and strip_text(each) for each in texts):
            skips.add(where, f"it has no {' or '.join(map(repr, text_keys))}, or an empty one")
        elif group_key is not None and group is None:
            skips.add(where, f"it has no {group_key!r}")
        else:
            pairs += [_Pair(file, strip_text(each), file if group is None else str(group)) for each in texts]
    for key in (file_key, *text_keys, *([group_key] if group_key else [])):
        if known and key not in known:
            raise DataError(
                f"{str(path)!r} has no {key!r}.{nearest(key, known)}\n  its keys: {', '.join(map(repr, known))}; name the right "
                "ones with file=, text= and group="
            )
    if not known:
        raise DataError(f"{str(path)!r} has no rows")
    return pairs


def _rows(path: Path, skips: CorruptFiles) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number, from 1, and the values of each row of a table."""
    content = read_text(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        reader = csv.DictReader(
            io.StringIO(content), delimiter="\t" if path.suffix.lower() == ".tsv" else ","
        )
        yield from enumerate(reader, 1)
        return
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            skips.add(f"{path.name}, row {number}", f"not JSON: {error}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            skips.add(f"{path.name}, row {number}", f"it is {type(row).__name__}, not an object")
