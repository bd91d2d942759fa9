"""A folder of sound files as waveforms."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.signature import Field, Signature
from reprkit.data.vetting import Skips, classes_of, files_below
from reprkit.errors import DataError

SUFFIXES = frozenset((".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"))
_BLOCK = 1 << 20  # frames read at once when a file is looked at


class Audio(Dataset):
    """All sound files below a folder: waveforms of one channel and one rate, in the order of their paths.

    Field: ``x`` sequence (t 1), float32, the mean of the channels; with ``labels`` also ``label``, the folder
    of the first level (its names are ``classes``).  Files of another rate are resampled (polyphase filter,
    ``scipy.signal.resample_poly``).  Only the frames that an example needs are read, by seeking.

    With ``seconds`` each file gives windows of that length, one after another without overlap; what is left
    at its end, and a file shorter than one window, gives none.  Without, each file is one example.

    Every file is decoded once when the set is made, to leave out those that cannot be read.

    Args:
        root: the folder; files may lie at any depth.
        rate: samples a second, in Hz.
        seconds: length of a window; None takes whole files, whose length varies.
        labels: whether the first folder level is the class.
        max_corrupt: the largest share of unreadable files that is left out; more is an error.

    Raises:
        DataError: no such folder, no sound files in it, too many that cannot be read, or none long enough.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        rate: int = 16000,
        *,
        seconds: float | None = None,
        labels: bool = False,
        max_corrupt: float = 0.01,
    ) -> None:
        if rate < 1 or (seconds is not None and round(seconds * rate) < 1):
            raise DataError(f"rate={rate}, seconds={seconds}: a window holds at least one sample")
        skips = Skips("sound files", max_corrupt)
        self._root, found = files_below(root, SUFFIXES, "sound files")
        self._rate = rate
        self._steps = None if seconds is None else round(seconds * rate)
        self.files, self._rates, counts = list[str](), list[int](), list[int]()
        for name, (native, frames) in skips.vetted(found, self._look):
            self.files.append(name)
            self._rates.append(native)
            whole = frames * rate // native
            counts.append(1 if self._steps is None else whole // self._steps)
        skips.judge(len(found), str(self._root))
        self._owner = np.repeat(np.arange(len(counts)), counts)
        self._first = np.cumsum([0, *counts])[:-1]
        if not len(self._owner):
            raise DataError(f"no file below {str(self._root)!r} is as long as seconds={seconds}")
        fields = {"x": Field(kind="sequence", shape=(self._steps, 1))}
        self.facts: dict[str, Any] = {"rate": rate, **skips.facts()}
        self._labels: Tensor | None = None
        if labels:
            known, places = classes_of(self.files, self._root)
            self.facts["classes"] = known
            self._labels = torch.tensor(places)
            fields["label"] = Field(kind="label", shape=(), vocab=len(known))
        self.signature = Signature(fields)

    def __len__(self) -> int:
        """How many windows, or files."""
        return len(self._owner)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One window or file; a negative index counts from the end.

        Raises:
            DataError: a file that was readable when the set was made no longer is.
        """
        place = range(len(self))[index]
        owner = int(self._owner[place])
        try:
            wave = self._wave(owner, place - int(self._first[owner]))
        except Exception as error:
            file = str(self._root / self.files[owner])
            raise DataError(
                f"{file!r} could be read when the data set was made, and now cannot: {error}"
            ) from error
        made = {"x": torch.from_numpy(wave)[:, None]}
        return made if self._labels is None else {**made, "label": self._labels[owner]}

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._root.resolve().name

    def _look(self, name: str) -> tuple[int, int]:
        """(rate, frames) of a file that can be decoded to its end."""
        import soundfile

        with soundfile.SoundFile(self._root / name) as opened:
            frames = 0
            while len(block := opened.read(_BLOCK, dtype="float32")):
                if not np.isfinite(block).all():
                    raise DataError("it holds values that are not finite")
                frames += len(block)
            if not frames or (opened.frames > 0 and frames < opened.frames):
                raise DataError(f"{frames} of its {opened.frames} frames can be read")
            return int(opened.samplerate), frames

    def _wave(self, owner: int, window: int) -> np.ndarray:
        import soundfile
        from scipy.signal import resample_poly

        native, steps = self._rates[owner], self._steps
        shared = math.gcd(native, self._rate)
        up, down = self._rate // shared, native // shared
        with soundfile.SoundFile(self._root / self.files[owner]) as opened:
            if steps is None:
                wave = opened.read(dtype="float32", always_2d=True).mean(axis=1)
                return wave if up == down else resample_poly(wave, up, down).astype(np.float32)
            if up == down:
                opened.seek(window * steps)
                return _exact(opened.read(steps, dtype="float32", always_2d=True).mean(axis=1), steps)
            # From a frame that the new rate hits too, with room for the filter (10 * max(up, down) taps a side).
            room = 10 * max(up, down) // up + 1
            begin = max(0, (window * steps * down // up - room) // down * down)
            until = math.ceil((window + 1) * steps * down / up) + room
            opened.seek(begin)
            wave = opened.read(until - begin, dtype="float32", always_2d=True).mean(axis=1)
        skip = window * steps - begin // down * up
        return _exact(resample_poly(wave, up, down).astype(np.float32)[skip : skip + steps], steps)


def _exact(wave: np.ndarray, steps: int) -> np.ndarray:
    if len(wave) != steps:
        raise DataError(f"{len(wave)} of {steps} samples can be read")
    return wave
