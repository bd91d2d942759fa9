"""Data set of a folder of recordings of any sound, as log-mel frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from reprkit import Field
from reprkit.data.base import Piece, held_out_share
from reprkit.data.folders import find_files
from reprkit.data.sound import SUFFIXES, UNDECODED
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Positive, Share
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.division import PARTS, Division, file_identity, split_identities, text_identity
from reprkit_audio.data.features import load_or_analyze
from reprkit_audio.data.recordings import window_starts
from reprkit_audio.data.sound_pieces import frame_pieces, makes_sound, write_sound
from reprkit_audio.frontends import frontend


class SoundFolder(Corpus):
    """All sound files below a folder, as frames of a front end: what ``rk.dataset("recordings/")`` gives.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``label`` (names: ``classes``), the folder of the first level, if
    there are several such folders and no file lies beside them.  Any rate, depth and number of channels is read as one channel
    of 16 kHz.  For voices there is ``speech``, which also reads transcripts and cuts silence off; for waveforms ``audio``.

    A file that cannot be read, is silent or shorter than 0.1 s is left out, counted and named in ``facts``, which also says which
    files were ignored.  Links are followed.  ``split`` divides by a hash of each file's path, so that a file keeps its part when
    others are added; with fewer files than parts, by the pieces (``seconds``) of files.  Frames are cached by file and front end.

    Args:
        root: the folder.
        frontend: the front end of the frames: "log-mel" or "world", with options.
        frames: length of a window, 128 frames of 16 ms by default; None: whole recordings of varying length.  A recording
            shorter than a window is left out and counted.
        stride: frames from one window to the next; None: ``frames``, no overlap.
        seconds: longer files are cut into pieces of equal length, at most this long.
        max_corrupt: the largest share of unreadable files that may be left out; a larger one is an error.

    Raises:
        DataError: no folder, no sound files, too many that cannot be read, or none that is as long as a window.
        PartArgumentError: a setting out of its range.
    """

    raw_suffixes: ClassVar[frozenset[str]] = frozenset(SUFFIXES)

    def __init__(
        self,
        root: str | os.PathLike[str],
        frontend: str = "log-mel",
        *,
        frames: Count | None = 128,
        stride: Count | None = None,
        seconds: Positive = 20.0,
        max_corrupt: Share = 0.01,
    ) -> None:
        self._root = Path(root).expanduser()
        found = find_files(root, SUFFIXES, "sound files", undecoded=UNDECODED)
        firsts = [name.partition("/")[0] if "/" in name else "" for name in found.names]
        labeled = "" not in firsts and len(set(firsts)) > 1
        super().__init__(
            (
                Clip(path=found.folder / name, speaker=first if labeled else "")
                for name, first in zip(found.names, firsts, strict=True)
            ),
            found.folder.resolve().name,
            frontend=frontend,
            frames=frames,
            stride=stride,
            trim=False,
            seconds=seconds,
            max_corrupt=max_corrupt,
            facts=found.facts(),
            unreadable=found.unreadable,
            label="label" if labeled else None,
        )

    @classmethod
    def read_raw(cls, value: str | Path, field: Field) -> list[Tensor]:
        """Return the frames of a sound file, by the front end that the field's form names: whole, or in windows.

        Windows of a fixed length do not overlap, but for the last one, which ends with the sound.  Silence at the ends is kept.

        Raises:
            DataError: a file that cannot be read, is silent, shorter than 0.1 s or than a window, or a text.
        """
        if isinstance(value, str):
            raise DataError(f"it is no name of a sound file ({', '.join(sorted(SUFFIXES))})")
        if field.form is None:
            raise DataError("the field names no front end (Field.form)")
        if not value.is_file():
            raise DataError(f"no file {str(value)!r}")
        clip = Clip(path=value, speaker="")
        frames = load_or_analyze(clip, frontend(field.form), trim=False)[0].frames
        window = field.shape[0]
        if window is None:
            return [frames]
        starts = window_starts(len(frames), window, window)
        if not starts:
            raise DataError(f"it has {len(frames)} frames, and the model reads windows of {window}")
        return [frames[start : start + window] for start in starts]

    @classmethod
    def writes_files(cls, field: Field, output: Field) -> bool:
        """Whether the model turns log-mel frames into frames of the same form, or into their waveform."""
        return makes_sound(field, output)

    @classmethod
    def read_pieces(cls, path: Path, field: Field, steps: int | None, margin: int) -> Iterator[Piece]:
        """Yield the frames of a sound file in pieces; a unit is a sample at the front end's rate.

        The frames equal those of the whole file.  Any rate and number of channels is read, silence too.
        """
        return frame_pieces(path, field, steps, margin)

    @classmethod
    def write_pieces(cls, path: Path, pieces: Iterable[Tensor], field: Field, units: int) -> None:
        """Write waveforms (t 1), or frames by Griffin-Lim, as one sound file, of ``units`` samples at the front end's rate."""
        write_sound(path, pieces, field, units)

    def raw(self, index: int) -> Path | None:
        """Return the example's file; None for a window of a piece of a file, or one that overlaps others."""
        clip = self.clips[int(self.owner[range(len(self))[index]])]
        whole = not clip.start and clip.stop is None
        return clip.path if whole and self._stride in (None, self._steps) else None

    def clip_identities(self, clips: Sequence[Clip]) -> list[str]:
        """Return the path of each clip's file, or of its piece where there are fewer than three files."""
        names = [file_identity(clip, self._root) for clip in clips]
        return names if len(set(names)) >= len(PARTS) else [text_identity(clip, self._root) for clip in clips]

    def divide(self, clips: Sequence[Clip], division: Division) -> list[str]:
        """Assign every clip to "train", "valid" or "test": the clips of a file together, where there are enough files.

        Raises:
            DataError: shares out of range, or too few clips.
        """
        held_out_share(division.valid, division.test_share, division.valid_share)
        parts = split_identities(self.clip_identities(clips), division)
        part_of = {at: part for part, indices in parts.items() for at in indices.tolist()}
        return [part_of[at] for at in range(len(clips))]
