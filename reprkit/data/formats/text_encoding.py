"""The encoding of text files: by byte-order mark, else as named, else UTF-8 without NUL characters."""

from __future__ import annotations

import codecs
from pathlib import Path

from reprkit.errors import DataError, PartArgumentError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HEAD = 1 << 16  # bytes that are searched for NUL characters
_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le", "ascii": "utf-8"}


def codec_name(encoding: str | None) -> str:
    """Return Python's name of an encoding; UTF-8 for None.

    Raises:
        PartArgumentError: no encoding of this name, or none of texts with line ends.
    """
    try:
        name = codecs.lookup(encoding or "utf-8").name
        line_end = "\n".encode(_WITHOUT_MARK.get(name, name))
        known = line_end.strip(b"\0") == b"\n"
    except (LookupError, UnicodeError, TypeError):
        known = False
    if not known:
        raise PartArgumentError(
            f"encoding={encoding!r} is no encoding of texts; usual are 'utf-8', 'latin-1', 'cp1252', 'utf-16'"
        )
    return _WITHOUT_MARK.get(name, name)


def detect_encoding(head: bytes, encoding: str | None) -> tuple[str, int]:
    """Return the encoding of a text that begins with ``head``, and the size of its byte-order mark, in bytes.

    A mark decides, then the encoding that is given, then UTF-8.

    Raises:
        DataError: the text has NUL characters, as UTF-16 without a mark and binary data have.
        PartArgumentError: no such encoding.
    """
    codec = codec_name(encoding)
    for mark, marked in _MARKS:
        if head.startswith(mark):
            return marked, len(mark)
    if not codec.startswith(("utf-16", "utf-32")) and b"\0" in head[:_HEAD]:
        raise DataError(_explain_nul(head[:_HEAD]))
    return codec, 0


def decode_text(content: bytes, encoding: str | None = None) -> str:
    r"""Decode a whole text, without its byte-order mark; line ends are ``\n``.

    Raises:
        DataError: it has NUL characters, or is not of its encoding.
        PartArgumentError: no such encoding.
    """
    codec, mark = detect_encoding(content, encoding)
    try:
        return normalize_line_ends(content[mark:].decode(codec))
    except UnicodeDecodeError as error:
        raise wrong_encoding(error) from error


def read_text(path: str | Path, encoding: str | None = None) -> str:
    r"""Read a whole text file, without its byte-order mark; line ends are ``\n``.

    Raises:
        DataError: it cannot be read, has NUL characters, or is not of its encoding.
        PartArgumentError: no such encoding.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
    try:
        return decode_text(content, encoding)
    except DataError as error:
        raise DataError(f"{str(path)!r} cannot be read as text: {error}") from error


def normalize_line_ends(text: str) -> str:
    r"""Replace ``\r\n`` and ``\r`` by ``\n``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def wrong_encoding(error: UnicodeDecodeError) -> DataError:
    """Return the error for bytes that are not of their encoding: which byte, and how another one is named."""
    shown = "UTF-8" if error.encoding == "utf-8" else error.encoding
    advice = "; encoding='latin-1' or 'cp1252' reads Western texts" if error.encoding == "utf-8" else ""
    return DataError(f"not valid {shown}: {error.reason} at byte {error.start}{advice}")


def _explain_nul(head: bytes) -> str:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if zeros > 10 * others and zeros > len(head) // 20:
            return f"it has NUL characters, as {name.upper()} without a byte-order mark: encoding={name!r}"
    return "it has NUL characters, so it is binary data, or of an encoding that encoding= must name"
