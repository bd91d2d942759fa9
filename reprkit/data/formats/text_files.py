"""Lines of text files: only the position of each line is kept in memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.folders import FolderFiles, find_files
from reprkit.data.formats.positional_file import PositionalFile
from reprkit.data.formats.text_encoding import codec_name, decode_text, detect_encoding, wrong_encoding
from reprkit.data.regular_files import check_regular
from reprkit.errors import DataError

BYTES_FORM = "lines(units='bytes')"  # of a field of UTF-8 bytes, ``Field.form``
_MAX_OPEN = 64  # files that are open at the same time
_CHUNK = 1 << 20  # bytes read at a time


class TextFiles:
    """Lines of one file, or of all files with given suffixes below a folder, in the order of their paths.

    Line ends (LF, CRLF or CR) and a byte-order mark are removed, and blank lines are ignored.  A byte-order mark says which
    encoding a file has; without one it is ``encoding``.  All lines are given as UTF-8.  16 bytes per line are kept in memory
    (24 where a file has another encoding); a line itself is read on access.

    Args:
        path: a file (any suffix), or a folder.
        suffixes: suffixes of the files in a folder, in lower case with their dot.
        what: name of the files in the plural, for messages.
        encoding: of files without a byte-order mark; UTF-8 by default.

    Raises:
        DataError: no such file, or a folder without files of these suffixes.
        PartArgumentError: no such encoding.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        suffixes: Collection[str],
        what: str,
        encoding: str | None = None,
    ) -> None:
        codec_name(encoding)
        self._encoding = encoding
        self.path = check_regular(Path(path).expanduser())
        if not self.path.exists():
            raise DataError(f"no file {str(self.path)!r} (looked in {Path.cwd()})")
        self._found = FolderFiles(self.path.parent, [self.path.name])
        if self.path.is_dir():
            self._found = find_files(self.path, suffixes, what)
        self.names, self._folder = self._found.names, self._found.folder
        self._codecs: dict[int, str] = {}  # file -> its encoding, where it is not UTF-8
        self._lengths: Tensor | None = None  # of the lines in UTF-8, where a file has another encoding
        self._spans = torch.empty((0, 2), dtype=torch.int64)
        self._ends, self._sizes = np.zeros(0, np.int64), list[int]()
        self._open: dict[int, PositionalFile] = {}

    def index(self, check: Callable[[bytes], Any], corrupt: CorruptFiles) -> None:
        """Index all lines; those for which ``check`` raises are skipped, and recorded as ``file:line``.

        Args:
            check: called with each line, in UTF-8.
            corrupt: the record of skipped lines and files.

        Raises:
            DataError: no lines, or too many lines or files are skipped.
        """
        spans, ends, recoded = array("q"), [], array("q")
        files = CorruptFiles("files", corrupt.max_share)
        files.add_entries(self._found.unreadable)
        for index, name in enumerate(self.names):
            try:
                self._sizes.append((self._folder / name).stat().st_size)
                for number, begin, size, line in self._lines(index):
                    try:
                        content = _content(line)
                        check(content)
                    except MemoryError:
                        raise
                    except Exception as error:  # json and codecs raise many exceptions
                        reason = (
                            str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
                        )
                        corrupt.add(f"{name}:{number}", reason[:200])
                    else:
                        spans.extend((begin, begin + size))
                        if index in self._codecs:
                            recoded.append(len(content))
            except (DataError, OSError) as error:  # of the whole file; lines before it stay
                files.add(name, str(error).splitlines()[0][:200])
            self._sizes.extend([0] * (index + 1 - len(self._sizes)))
            ends.append(len(spans) // 2)
        files.check_share(len(self.names) + len(self._found.unreadable), str(self.path))
        corrupt.add_all(files)
        if spans:
            self._spans = torch.frombuffer(spans, dtype=torch.int64).reshape(-1, 2)
        self._ends = np.array(ends)
        if recoded:
            inside = np.isin(np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0)), list(self._codecs))
            self._lengths = self.lengths.clone()
            self._lengths[torch.from_numpy(inside)] = torch.tensor(recoded)
        total = len(self) + corrupt.count
        if not total:
            raise DataError(f"{str(self.path)!r} holds only blank lines")
        corrupt.check_share(total, str(self.path))

    def head(self, count: int) -> list[bytes]:
        """Return the first ``count`` lines, without checking them."""
        lines: list[bytes] = []
        for index in range(len(self.names)):
            try:
                for _, _, _, line in self._lines(index):
                    if isinstance(line, bytes):
                        lines.append(line)
                    if len(lines) == count:
                        return lines
            except (DataError, OSError):
                continue  # reported when all lines are indexed
        return lines

    def facts(self) -> dict[str, Any]:
        """Return the entries for ``describe``: ignored files of the folder, and encodings other than UTF-8."""
        found = sorted(set(self._codecs.values()))
        return {**self._found.facts(), **({"encoding": ", ".join(found)} if found else {})}

    def read_all(self, skips: CorruptFiles) -> list[str]:
        r"""Read all files whole, those without text left out; line ends are ``\n``.

        Lines that are not valid UTF-8 are left out, and recorded as ``file:line``; so are files that cannot be read.

        Raises:
            DataError: too many lines or files are left out.
        """
        files, texts, count = CorruptFiles("files", skips.max_share), list[str](), skips.count
        files.add_entries(self._found.unreadable)
        for index, name in enumerate(self.names):
            try:
                text = self._read_whole(index, skips)
            except (DataError, OSError) as error:
                files.add(name, str(error)[:200])
                continue
            count += text.count("\n") + 1
            if text:
                texts.append(text)
        files.check_share(len(self.names) + len(self._found.unreadable), str(self.path))
        skips.check_share(count, str(self.path))
        skips.add_all(files)
        return texts

    def _read_whole(self, index: int, skips: CorruptFiles) -> str:
        content = (self._folder / self.names[index]).read_bytes()
        codec, mark = detect_encoding(content, self._encoding)
        if codec != "utf-8":
            self._codecs[index] = codec
            return decode_text(content, self._encoding)
        valid = list[bytes]()
        for number, line in enumerate(content[mark:].splitlines(keepends=True), 1):
            try:
                line.decode("utf-8")
                valid.append(line)
            except UnicodeDecodeError as error:
                skips.add(f"{self.names[index]}:{number}", str(wrong_encoding(error)))
        return decode_text(b"".join(valid), "utf-8")

    def __len__(self) -> int:
        """Return the number of lines that were not skipped."""
        return len(self._spans)

    def __getitem__(self, index: int) -> bytes:
        """Return one line; a negative index counts from the end.

        Raises:
            DataError: its file was removed or has changed.
        """
        position = range(len(self))[index]
        start, stop = self._spans[position].tolist()
        number = int(np.searchsorted(self._ends, position, side="right"))
        line = self._file(number).read(start, stop)
        codec = self._codecs.get(number)
        return line if codec is None else line.decode(codec).encode("utf-8")

    @property
    def lengths(self) -> Tensor:
        """Number of bytes of each line in UTF-8 (n,), int64."""
        return self._spans[:, 1] - self._spans[:, 0] if self._lengths is None else self._lengths

    @property
    def name(self) -> str:
        """Name of the folder, or of the file without its suffix."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which opens the files itself."""
        return {**self.__dict__, "_open": {}}

    def _lines(self, index: int) -> Iterator[tuple[int, int, int, bytes | DataError]]:
        """Yield (number from 1, first byte, bytes in the file, content in UTF-8 or its error) of each line that is not blank.

        Raises:
            DataError: the file has NUL characters.
            OSError: it cannot be read.
        """
        with (self._folder / self.names[index]).open("rb") as opened:
            codec, mark = detect_encoding(opened.read(_CHUNK), self._encoding)
            opened.seek(mark)
            if codec != "utf-8":
                self._codecs[index] = codec
            number = 0
            for start, line in _split(opened, mark, "\n".encode(codec)):
                if codec == "utf-8":
                    for content in line.rstrip(b"\r\n").split(b"\r"):  # CR alone ends lines, too
                        number += 1
                        if content.strip():
                            nul = b"\0" in content
                            yield (
                                number,
                                start,
                                len(content),
                                DataError("it has NUL characters") if nul else content,
                            )
                        start += len(content) + 1
                    continue
                try:
                    pieces = line.decode(codec).rstrip("\r\n").split("\r")
                except UnicodeDecodeError as error:
                    number += 1
                    yield number, start, len(line), wrong_encoding(error)
                    continue
                for text in pieces:
                    number, size = number + 1, len(text.encode(codec))
                    if text.strip():
                        yield number, start, size, text.encode("utf-8")
                    start += size + len("\r".encode(codec))

    def _file(self, number: int) -> PositionalFile:
        if number not in self._open:
            if len(self._open) >= _MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = PositionalFile(self._folder / self.names[number], self._sizes[number])
        return self._open[number]


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file that are not blank; it is UTF-8, or has a byte-order mark.

    Raises:
        DataError: a line is not of this encoding, or all are blank.
    """
    found = TextFiles(file, (), "text files")
    found.index(lambda line: line.decode("utf-8"), CorruptFiles("lines", 0.0))
    return [found[index].decode("utf-8") for index in range(len(found))]


def byte_tokens(text: str | bytes, length: int | None = None) -> Tensor:
    """Convert a text to its UTF-8 bytes as symbols (t,), int64 from 0 to 255; at most ``length`` of them."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    return torch.frombuffer(bytearray(raw[:length]), dtype=torch.uint8).long()


def _content(line: bytes | DataError) -> bytes:
    if isinstance(line, DataError):
        raise line
    return line


def _split(file: BinaryIO, start: int, line_end: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (first byte, content with its line end) of each line from the present position ``start`` on."""
    unit = len(line_end)
    if unit == 1:
        for line in file:
            yield start, line
            start += len(line)
        return
    rest = b""
    while chunk := file.read(_CHUNK):
        rest, begin = rest + chunk, 0
        while (found := _find_aligned(rest, line_end, begin)) >= 0:
            yield start + begin, rest[begin : found + unit]
            begin = found + unit
        start, rest = start + begin, rest[begin:]
    if rest:
        yield start, rest


def _find_aligned(content: bytes, pattern: bytes, begin: int) -> int:
    """Return the first position of a pattern that is a multiple of its length; -1 if there is none."""
    place = content.find(pattern, begin)
    while place >= 0 and place % len(pattern):
        place = content.find(pattern, place + 1)
    return place
