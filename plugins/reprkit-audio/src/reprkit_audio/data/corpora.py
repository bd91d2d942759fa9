"""Folder layouts of speech corpora: speaker and text from a file's path and the files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reprkit.data.corrupt_files import find_files
from reprkit.data.sound import SUFFIXES
from reprkit_audio.data.clips import Clip

_LIBRI = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?$")
_TEXT_SUFFIXES = (".normalized.txt", ".txt", ".lab")  # LibriTTS's normalized text before the original


def clips_below(root: str) -> tuple[Path, list[Clip]]:
    """List the clips below a folder, sorted by path, with texts where there are any; returns the folder, too.

    ==========================================  =======================================  ============================
    what                                        speaker                                  text
    ==========================================  =======================================  ============================
    ROOT/SPEAKER/**/NAME.wav                    first folder                             NAME.txt or NAME.lab beside it
    VCTK: ROOT/wav48*/SPEAKER/NAME(_mic1).flac  second folder; of two microphones the    ROOT/txt/SPEAKER/NAME.txt
                                                first
    LibriTTS: ROOT/(train-clean-100/)           the folder under the subset's            NAME.normalized.txt, or
    SPEAKER/CHAPTER/NAME.wav                                                             SPEAKER-CHAPTER.trans.txt
    ROOT/NAME.wav                               one speaker, ROOT's name                 as above
    ==========================================  =======================================  ============================

    Raises:
        DataError: no such folder, or no sound files below it.
    """
    folder, names = find_files(root, SUFFIXES, "sound files")
    return folder, list(_vctk_clips(folder, names) if _is_vctk(folder) else _folder_clips(folder, names))


def _is_vctk(folder: Path) -> bool:
    return (folder / "txt").is_dir() and any(each.is_dir() for each in folder.glob("wav48*"))


def _vctk_clips(folder: Path, names: list[str]) -> Iterator[Clip]:
    """VCTK (Yamagishi et al. 2019): of two microphones with the same content the first, since two speakers lack the second."""
    for name in names:
        first, _, rest = name.partition("/")
        speaker, _, file = rest.partition("/")
        stem = Path(file).stem
        if not first.startswith("wav48") or not file or stem.endswith("_mic2"):
            continue
        own = stem.removesuffix("_mic1")
        yield Clip(
            path=folder / name,
            speaker=speaker,
            text=_read(folder / "txt" / speaker / f"{own}.txt"),
            language="en",
        )


def _folder_clips(folder: Path, names: list[str]) -> Iterator[Clip]:
    transcripts: dict[Path, dict[str, str]] = {}
    for name in names:
        *folders, _ = name.split("/")
        if len(folders) > 1 and _LIBRI.match(folders[0]):
            folders = folders[1:]
        path = folder / name
        speaker = folders[0] if folders else folder.resolve().name
        if path.parent not in transcripts:
            transcripts[path.parent] = _read_transcripts(path.parent)
        yield Clip(
            path=path,
            speaker=speaker,
            text=_read_transcript(path) or transcripts[path.parent].get(path.stem),
        )


def _read_transcript(path: Path) -> str | None:
    """Read the transcript of a sound file: a text file of its name in its folder."""
    for suffix in _TEXT_SUFFIXES:
        text = _read(path.parent / (path.stem + suffix))
        if text is not None:
            return text
    return None


def _read_transcripts(folder: Path) -> dict[str, str]:
    """Read LibriSpeech's transcripts of a folder: ``NAME THE TEXT`` per line."""
    transcripts = {}
    for each in sorted(folder.glob("*.trans.txt")):
        for line in (_read(each) or "").splitlines():
            name, _, text = line.partition(" ")
            transcripts[name] = text.strip()
    return transcripts


def _read(path: Path) -> str | None:
    """Read a text file; None if it is missing, empty or not UTF-8."""
    try:
        return path.read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
