"""Folder layouts of speech corpora: speaker and text from a file's path and the files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.data.folders import FolderFiles, find_files
from reprkit.data.formats.text_encoding import codec_name, read_text
from reprkit.data.sound import SUFFIXES, UNDECODED
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip

_LIBRI = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?$")
_TEXT_SUFFIXES = (".normalized.txt", ".txt", ".lab")  # LibriTTS's normalized text before the original


@dataclass
class SpeechFolder:
    """The clips below a folder, and what else it holds.

    Attributes:
        files: the folder's files: those that are read, ignored or unreadable.
        clips: sorted by path, with texts where there are any.
        texts: transcripts that cannot be read: (name, reason).
    """

    files: FolderFiles
    clips: list[Clip] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return the entries for ``describe``: ignored files, and transcripts that cannot be read."""
        if not self.texts:
            return self.files.facts()
        named = [{"name": name, "why": why} for name, why in self.texts[:20]]
        return {**self.files.facts(), "unread_texts": named, "unread_text_count": len(self.texts)}


def clips_below(root: str, encoding: str | None = None) -> SpeechFolder:
    """List the clips below a folder, sorted by path, with texts where there are any.

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
        PartArgumentError: no such encoding.
    """
    codec_name(encoding)
    found = SpeechFolder(find_files(root, SUFFIXES, "sound files", undecoded=UNDECODED))
    texts = _Texts(found, encoding)
    clips = _vctk_clips if _is_vctk(found.files.folder) else _folder_clips
    found.clips = list(clips(found.files, texts))
    texts.account()
    return found


class _Texts:
    """Reader of transcripts: each file is read once, and one that cannot be read is recorded."""

    def __init__(self, found: SpeechFolder, encoding: str | None) -> None:
        self._found, self._encoding, self._read = found, encoding, set[str]()

    def read(self, path: Path) -> str | None:
        """Read a text file; None if it is missing, empty or unreadable."""
        if not path.is_file():
            return None
        name = path.relative_to(self._found.files.folder).as_posix()
        self._read.add(name)
        try:
            return read_text(path, self._encoding).strip() or None
        except DataError as error:
            self._found.texts.append(
                (name, str(error).splitlines()[0].partition(" cannot be read as text: ")[2] or str(error))
            )
            return None

    def account(self) -> None:
        """Take the transcripts from the folder's ignored files."""
        ignored = self._found.files.ignored
        for rule, names in ignored.items():
            ignored[rule] = [name for name in names if name not in self._read]


def _is_vctk(folder: Path) -> bool:
    return (folder / "txt").is_dir() and any(each.is_dir() for each in folder.glob("wav48*"))


def _vctk_clips(found: FolderFiles, texts: _Texts) -> Iterator[Clip]:
    """VCTK (Yamagishi et al. 2019): of two microphones with the same content the first, since two speakers lack the second."""
    folder = found.folder
    for name in found.names:
        first, _, rest = name.partition("/")
        speaker, _, file = rest.partition("/")
        stem = Path(file).stem
        if not first.startswith("wav48") or not file or stem.endswith("_mic2"):
            second = stem.endswith("_mic2")
            found.ignore(name, "second microphone" if second else "outside of VCTK's wav48*/SPEAKER")
            continue
        own = stem.removesuffix("_mic1")
        yield Clip(
            path=folder / name,
            speaker=speaker,
            text=texts.read(folder / "txt" / speaker / f"{own}.txt"),
            language="en",
        )


def _folder_clips(found: FolderFiles, texts: _Texts) -> Iterator[Clip]:
    folder = found.folder
    transcripts: dict[Path, dict[str, str]] = {}
    for name in found.names:
        *folders, _ = name.split("/")
        if len(folders) > 1 and _LIBRI.match(folders[0]):
            folders = folders[1:]
        path = folder / name
        speaker = folders[0] if folders else folder.resolve().name
        if path.parent not in transcripts:
            transcripts[path.parent] = _read_transcripts(path.parent, texts)
        yield Clip(
            path=path,
            speaker=speaker,
            text=_read_transcript(path, texts) or transcripts[path.parent].get(path.stem),
        )


def _read_transcript(path: Path, texts: _Texts) -> str | None:
    """Read the transcript of a sound file: a text file of its name in its folder."""
    for suffix in _TEXT_SUFFIXES:
        text = texts.read(path.parent / (path.stem + suffix))
        if text is not None:
            return text
    return None


def _read_transcripts(folder: Path, texts: _Texts) -> dict[str, str]:
    """Read LibriSpeech's transcripts of a folder: ``NAME THE TEXT`` per line."""
    transcripts = {}
    for each in sorted(folder.glob("*.trans.txt")):
        for line in (texts.read(each) or "").splitlines():
            name, _, text = line.partition(" ")
            transcripts[name] = text.strip()
    return transcripts
