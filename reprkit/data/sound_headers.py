"""Sound files whose header does not say how long they are: streamed WAV and FLAC, MP3 without a count of its frames.

libsndfile reads as much as a header claims.  ``with_true_length`` returns such a file under a header that is right.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from reprkit.data import flac_header

_RIFF_LIMIT = 0xFFFFFFFF
_CHUNKS_AFTER_DATA = (
    b"LIST",
    b"id3 ",
    b"ID3 ",
    b"bext",
    b"fact",
    b"cue ",
    b"smpl",
    b"iXML",
    b"_PMX",
    b"PEAK",
    b"JUNK",
)
_MAX_HEADER = 1 << 20  # bytes before the sound of a WAV file
# kbit/s of MPEG 1 and of MPEG 2 and 2.5, layer III.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def with_true_length(file: Path | BinaryIO) -> Path | BinaryIO | View:
    """Return the file itself, or a view of it whose header states its true length."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            kind = _kind(opened.read(12))
            if kind is None:
                return file
        status = file.stat()
        found = _header_of(str(file), kind, status.st_size, status.st_mtime_ns)
        return file if found is None else View(file.open("rb"), *found, owned=True)
    start = file.tell()
    kind = _kind(file.read(12))
    file.seek(start)
    if kind is None or start:
        return file
    found = _HEADERS[kind](file)
    file.seek(start)
    return file if found is None else View(file, *found, owned=False)


def _kind(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return "wav"
    if head[:4] == flac_header.MAGIC:
        return "flac"
    is_mp3 = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)
    return "mp3" if is_mp3 else None


class View(io.RawIOBase):
    """A file without its first bytes, with others in their place: read and seek only."""

    def __init__(self, file: BinaryIO, prefix: bytes, skip: int, *, owned: bool) -> None:
        self._file, self._owned = file, owned
        self._prefix, self._skip, self._place = prefix, skip, 0
        self._size = len(prefix) + max(0, file.seek(0, os.SEEK_END) - skip)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        """Return the position."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer from the position on; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        if self._place < len(self._prefix):
            part = self._prefix[self._place : self._place + len(view)]
        else:
            self._file.seek(self._place - len(self._prefix) + self._skip)
            part = self._file.read(len(view))
        view[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        """Close the view, and the file if it was opened for it."""
        if self._owned:
            self._file.close()
        super().close()


def _streamed_wav(file: BinaryIO) -> tuple[bytes, int] | None:
    """Return a header with the true size of the sound, and the size of the old one, if a WAV file claims no sound and has some."""
    size, place = file.seek(0, os.SEEK_END), 12
    while place < min(size, _MAX_HEADER):
        file.seek(place)
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            start = place + 8
            if length or size == start or _is_chunk(file.read(8), size - start):
                return None
            file.seek(0)
            return _wav_header(file.read(start), place, size - start), start
        place += 8 + length + length % 2
    return None


_HEADERS: dict[str, Callable[[BinaryIO], tuple[bytes, int] | None]] = {
    "wav": _streamed_wav,
    "flac": flac_header.counting_header,
    "mp3": lambda file: _mp3_start(file.read()),
}


def _is_chunk(head: bytes, left: int) -> bool:
    """Whether what follows an empty sound is another chunk of the file, and not sound."""
    return len(head) == 8 and head[:4] in _CHUNKS_AFTER_DATA and struct.unpack("<I", head[4:])[0] + 8 <= left


def _wav_header(head: bytes, place: int, length: int) -> bytes:
    # A size of 2**32 - 1 is read to the end of the file.
    data = min(length, _RIFF_LIMIT)
    whole = min(place + length, _RIFF_LIMIT)
    return head[:4] + struct.pack("<I", whole) + head[8 : place + 4] + struct.pack("<I", data)


@functools.lru_cache(maxsize=1 << 14)
def _header_of(path: str, kind: str, size: int, modified: int) -> tuple[bytes, int] | None:
    """Return the header of a file that is read again in every epoch; its size and time make the result that of its content."""
    del size, modified
    with open(path, "rb") as file:
        return _HEADERS[kind](file)


def _mp3_start(content: bytes) -> tuple[bytes, int] | None:
    """Return a first frame that counts the others, and where those begin; None if the file's own count is right.

    A file that holds fewer frames than it says was cut short, which is an error and not mended here.
    """
    size = len(content)
    start = _next_frame(content, _skip_id3(content))
    if start is None:
        return None
    length = _frame_length(content, start) or 0
    stated, tagged = _stated_frames(content[start : start + length])
    begin = start + length if tagged else start
    count, place = 0, begin
    while True:
        length = _frame_length(content, place) or 0
        if not length or place + length > size:
            following = _next_frame(content, place + 1) if place + 1 < size and not length else None
            if following is None:
                break
            place = following
            continue
        count, place = count + 1, place + length
    if not count or (stated is not None and stated >= count):
        return None
    return _counting_frame(content[begin : begin + 4], count), begin


def _skip_id3(content: bytes) -> int:
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    sizes = content[6:10]
    return 10 + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3])


def _next_frame(content: bytes, place: int) -> int | None:
    """Return the position of the next two frames in a row, or of the last one; None if there are none."""
    while (place := content.find(b"\xff", place)) >= 0:
        length = _frame_length(content, place)
        if length and (place + length >= len(content) - 4 or _frame_length(content, place + length)):
            return place
        place += 1
    return None


def _frame_length(content: bytes, place: int) -> int | None:
    """Return the length of the frame of layer III that begins at a position; None if none does."""
    head = content[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, index, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or index in (0, 15) or rate == 3:  # reserved values, and a bitrate that no table holds
        return None
    bits = 1000 * _BITRATES[version != 3][index]
    return (144 if version == 3 else 72) * bits // _RATES[version][rate] + (head[2] >> 1 & 1)


def _stated_frames(frame: bytes) -> tuple[int | None, bool]:
    """Return the number of frames that a first frame states, and whether it is a header without sound."""
    for tag in (b"Xing", b"Info"):
        place = frame.find(tag, 4, 48)
        if place >= 0:
            flags = int.from_bytes(frame[place + 4 : place + 8], "big")
            stated = int.from_bytes(frame[place + 8 : place + 12], "big") if flags & 1 else None
            return stated, True
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big"), True
    return None, False


def _counting_frame(head: bytes, count: int) -> bytes:
    """Return a frame of the same kind with the tag Xing, which states the number of the others."""
    version, mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    for index in range(1, 15):  # the smallest frame that holds the tag
        start = bytes((0xFF, head[1] | 1, index << 4 | head[2] & 0x0C, head[3]))
        length = _frame_length(start, 0) or 0
        if length >= 4 + side + 16:
            tag = b"Xing" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
            return (start + bytes(side) + tag).ljust(length, b"\0")
    raise AssertionError("no frame holds the tag")
