"""A folder of sound files as waveforms."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data import sound
from reprkit.data.base import Dataset
from reprkit.data.collate import to_index
from reprkit.data.corrupt_files import CorruptFiles, classes_from_folders, find_files
from reprkit.data.resampling import lowpass, polyphase
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Count, Positive, Share

MEMORY = 1 << 30  # bytes of windows that are kept in memory once they were read


class Audio(Dataset):
    """All sound files below a folder: waveforms of one channel and one rate, in the order of their paths.

    Field: ``x`` sequence (t 1), float32, the mean of the channels; with ``labels`` also ``label``, the folder
    of the first level (its names are ``classes``).  Files of another rate are resampled (polyphase filter,
    ``scipy.signal.resample_poly``).  Only the frames that an example needs are read, by seeking.

    With ``seconds`` each file gives windows of that length, one after another without overlap; what is left
    at its end, and a file shorter than one window, gives none.  Without, each file is one example.
    Batches of windows stay in memory once they were read, where 1 GiB holds all of them.

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
        rate: Count = 16000,
        *,
        seconds: Positive | None = None,
        labels: bool = False,
        max_corrupt: Share = 0.01,
    ) -> None:
        require(
            seconds is None or round(seconds * rate) >= 1,
            f"dataset audio: rate={rate}, seconds={seconds}: a window must hold at least one sample",
        )
        corrupt = CorruptFiles("sound files", max_corrupt)
        self._root, found = find_files(root, sound.SUFFIXES, "sound files")
        self._rate = rate
        self._steps = None if seconds is None else round(seconds * rate)
        self.files, self._rates, counts, lengths = list[str](), list[int](), list[int](), list[int]()
        for name, (native, frames) in corrupt.iter_readable(found, self._look):
            self.files.append(name)
            self._rates.append(native)
            # Of whole files the filter gives the last sample, too, that begins in them.
            whole = -(-frames * rate // native) if self._steps is None else frames * rate // native
            counts.append(1 if self._steps is None else whole // self._steps)
            lengths.append(whole)
        corrupt.check_share(len(found), str(self._root))
        for native in {each for each in self._rates if each != rate}:
            lowpass(max(rate, native) // math.gcd(rate, native))  # now rather than in the first step
        self._lengths = torch.tensor(lengths)
        self._counts = np.array(counts)
        self._owner = np.repeat(np.arange(len(counts)), counts)
        self._first = np.cumsum([0, *counts])[:-1]
        if not len(self._owner):
            raise DataError(f"no file below {str(self._root)!r} is as long as seconds={seconds}")
        self._store: np.ndarray | None = None
        self._have = np.zeros(len(self._owner), bool)
        fields = {"x": Field(kind="sequence", shape=(self._steps, 1))}
        self.facts: dict[str, Any] = {"rate": rate, **corrupt.facts()}
        self._labels: Tensor | None = None
        if labels:
            known, places = classes_from_folders(self.files, self._root)
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
        window = place - int(self._first[owner])
        (wave,) = self._waves(owner, range(window, window + 1))
        made = {"x": torch.from_numpy(wave)[:, None]}
        return made if self._labels is None else {**made, "label": self._labels[owner]}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices; windows are read from their files once, as long as 1 GiB holds all of them."""
        if self._steps is None or 4 * self._steps * len(self) > MEMORY:
            return super().batch(indices)
        index = to_index(indices)
        if self._store is None:
            self._store = np.empty((len(self), self._steps), np.float32)  # pages are taken as they are filled
        for owner in sorted({int(self._owner[place]) for place in index.tolist() if not self._have[place]}):
            # All of the file's: opening it takes the most time.
            first, count = int(self._first[owner]), int(self._counts[owner])
            for place, wave in enumerate(self._waves(owner, range(count)), first):
                self._store[place] = wave
            self._have[first : first + count] = True
        made = {"x": torch.from_numpy(self._store[index.numpy()])[:, :, None]}
        if self._labels is not None:
            made["label"] = self._labels[torch.from_numpy(self._owner)[index]]
        return made

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process, which reads files itself: without the windows."""
        return {**self.__dict__, "_store": None, "_have": np.zeros_like(self._have)}

    def lengths(self) -> dict[str, Tensor]:
        """Samples of every file; windows have one length."""
        return {"x": self._lengths} if self._steps is None else {}

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._root.resolve().name

    def _look(self, name: str) -> tuple[int, int]:
        """(rate, frames) of a file that can be decoded to its end."""
        return sound.check_file(self._root / name)

    def _waves(self, owner: int, windows: range) -> Iterator[np.ndarray]:
        """Some windows of a file, or all of it.

        Raises:
            DataError: it was readable when the set was made, and no longer is.
        """
        file = self._root / self.files[owner]
        try:
            if self._steps is None:
                yield sound.read(file, self._rate, limit=False).numpy()
                return
            with sound.open_file(file) as opened:
                for window in windows:
                    yield self._window(opened, self._rates[owner], window * self._steps, self._steps)
        except Exception as error:
            raise DataError(
                f"{str(file)!r} could be read when the data set was made, and now cannot: {error}"
            ) from error

    def _window(self, opened: Any, native: int, start: int, steps: int) -> np.ndarray:
        shared = math.gcd(native, self._rate)
        up, down = self._rate // shared, native // shared
        if up == down:
            return _exact(sound.read_frames(opened, start, steps), steps)
        # From a frame that the new rate hits too, with room for the filter (10 * max(up, down) taps a side).
        room = 10 * max(up, down) // up + 1
        begin = max(0, (start * down // up - room) // down * down)
        until = math.ceil((start + steps) * down / up) + room
        wave = sound.read_frames(opened, begin, until - begin)
        skip = start - begin // down * up
        return _exact(polyphase(wave, up, down)[skip : skip + steps], steps)


def _exact(wave: np.ndarray, steps: int) -> np.ndarray:
    if len(wave) != steps:
        raise DataError(f"{len(wave)} of {steps} samples can be read")
    return wave
