"""Read verses of SWORD modules: compressed texts of Debian's packages ``sword-text-*``."""

from __future__ import annotations

import html
import re
import struct
import zlib
from pathlib import Path

from reprkit.errors import DataError

_HIDDEN = re.compile(r"<(note|title)\b[^>]*?(?<!/)>.*?</\1>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_BOOK = re.compile(r'<div\b[^>]*\bosisID="([^".]+)"[^>]*\bsID=[^>]*\btype="book"')
_CHAPTER = re.compile(r'<chapter\b[^>]*\bosisID="([^".]+)\.(\d+)"[^>]*\bsID=')
_PARAGRAPH = "¶"
_TESTAMENTS = ("ot", "nt")


def read_module(folder: Path) -> dict[str, str]:
    """Read the verses of a module in the format zText: key "Gen.1.1" (OSIS) -> text without markup, notes and headings.

    A testament has three files: ``.bzv``, ten bytes for each entry (block, first byte, bytes), ``.bzs``, twelve for each block
    (first byte, bytes, bytes after decompression), ``.bzz``, blocks compressed by zlib.  The entries of a book are its heading,
    and for each chapter its heading and its verses, in the order of the module's versification.  A verse that a translation
    does not have is an empty entry, and is left out.

    Args:
        folder: the module's folder, with ``ot.bzz`` or ``nt.bzz``.

    Raises:
        DataError: no module in the folder, or damaged files.
    """
    verses: dict[str, str] = {}
    for testament in _TESTAMENTS:
        if (folder / f"{testament}.bzz").is_file():
            verses |= _read_testament(folder, testament)
    if not verses:
        raise DataError(f"{str(folder)!r} holds no verses of a SWORD module (zText): no ot.bzz or nt.bzz")
    return verses


def plain_text(markup: str) -> str:
    """Return the words of an entry in OSIS: no notes, titles, tags and signs of paragraphs, on one line."""
    text = html.unescape(_TAG.sub("", _HIDDEN.sub(" ", markup)))
    return " ".join(text.replace(_PARAGRAPH, " ").split())


def _read_testament(folder: Path, testament: str) -> dict[str, str]:
    try:
        places, blocks, packed = (
            (folder / f"{testament}.{end}").read_bytes() for end in ("bzv", "bzs", "bzz")
        )
        texts = [
            zlib.decompress(packed[first : first + size])
            for first, size, _ in struct.iter_unpack("<III", blocks)
        ]
        entries = [
            texts[block][first : first + size].decode("utf-8") if size else ""
            for block, first, size in struct.iter_unpack("<IIH", places)
        ]
    except (OSError, struct.error, zlib.error, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"the SWORD module in {str(folder)!r} is damaged: {error}") from error
    verses, chapter, number = dict[str, str](), "", 0
    for entry in entries:
        if _BOOK.search(entry):
            chapter = ""
        elif heading := _CHAPTER.search(entry):
            chapter, number = f"{heading[1]}.{heading[2]}", 0
        elif chapter:
            number += 1
            if text := plain_text(entry):
                verses[f"{chapter}.{number}"] = text
    return verses
