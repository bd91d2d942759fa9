"""Folders of sound files as waveforms."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data import sound
from reprkit.data.base import Dataset
from reprkit.data.collation import to_index
from reprkit.data.corrupt_files import CorruptFiles, labels_from_folders
from reprkit.data.folders import find_files
from reprkit.data.resampling import lowpass, polyphase
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Count, Positive, Share

MEMORY = 1 << 30  # bytes of windows that are kept in memory after they were read


class Audio(Dataset):
    """All sound files below a folder: waveforms of one channel and one rate, in the order of their paths.

    Field: ``x`` sequence (t 1), float32, the mean of the channels; with ``labels`` also ``label``, the folder
    of the first level (the names are ``classes``).  Files of another rate are resampled (polyphase filter,
    ``scipy.signal.resample_poly``).  Only the frames that an example needs are read, by seeking.  Of channels that cancel each
    other the loudest is taken; ``facts`` counts such files (``antiphase_count``).

    With ``seconds`` each file is cut into consecutive windows of that length without overlap; the rest at its
    end is dropped, and files shorter than one window are left out and counted (``short_count``).  Otherwise each file is one
    example.  Windows stay in memory after they were read, if 1 GiB holds all of them.

    Every file is decoded once when the data set is constructed, to skip unreadable ones.  ``facts`` says which files were
    ignored, by which rule, and which could not be read.  Links are followed.

    Args:
        root: the folder; files may lie at any depth.
        rate: sampling rate, in Hz.
        seconds: length of a window; None takes whole files, whose length varies.
        labels: whether the first folder level is the class.
        max_corrupt: largest share of unreadable files that may be skipped; more is an error.

    Raises:
        PartArgumentError: an argument out of its range, or a window shorter than one sample.
        DataError: no such folder, no sound files in it, too many unreadable ones, or none that is long enough.
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
        found = find_files(root, sound.SUFFIXES, "sound files", undecoded=sound.UNDECODED)
        self._root = found.folder
        self._rate = rate
        self._steps = None if seconds is None else round(seconds * rate)
        self.files, self._rates, counts, lengths = list[str](), list[int](), list[int](), list[int]()
        antiphase = 0
        for name, checked in corrupt.iter_readable(found.names, self._check_file):
            native, frames = checked.rate, checked.frames
            antiphase += checked.channel is not None
            self.files.append(name)
            self._rates.append(native)
            # For a whole file the resampling filter rounds the number of samples up.
            length = -(-frames * rate // native) if self._steps is None else frames * rate // native
            counts.append(1 if self._steps is None else length // self._steps)
            lengths.append(length)
        corrupt.add_entries(found.unreadable)
        corrupt.check_share(len(found.names) + len(found.unreadable), str(self._root))
        for native in {native for native in self._rates if native != rate}:
            lowpass(max(rate, native) // math.gcd(rate, native))  # cached now rather than in the first step
        self._lengths = torch.tensor(lengths)
        self._counts = np.array(counts)
        self._owner = np.repeat(np.arange(len(counts)), counts)
        self._first = np.cumsum([0, *counts])[:-1]
        if not len(self._owner):
            raise DataError(f"no file below {str(self._root)!r} is as long as seconds={seconds}")
        self._store: np.ndarray | None = None
        self._loaded = np.zeros(len(self._owner), bool)
        fields = {"x": Field(kind="sequence", shape=(self._steps, 1))}
        self.facts: dict[str, Any] = {"rate": rate, **corrupt.facts(), **found.facts()}
        self.facts |= {"short_count": counts.count(0)} if counts.count(0) else {}
        self.facts |= {"antiphase_count": antiphase} if antiphase else {}
        self._labels: Tensor | None = None
        if labels:
            self._labels, fields["label"], self.facts["classes"] = labels_from_folders(self.files, self._root)
        self.signature = Signature(fields)

    def __len__(self) -> int:
        """Return the number of windows, or of files."""
        return len(self._owner)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one window or file; a negative index counts from the end.

        Raises:
            DataError: a file that was readable when the data set was constructed no longer is.
        """
        position = range(len(self))[index]
        owner = int(self._owner[position])
        window = position - int(self._first[owner])
        (wave,) = self._read_windows(owner, range(window, window + 1))
        example = {"x": torch.from_numpy(wave)[:, None]}
        return example if self._labels is None else {**example, "label": self._labels[owner]}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices``; windows are read from their files once, if 1 GiB holds all of them."""
        if self._steps is None or 4 * self._steps * len(self) > MEMORY:
            return super().batch(indices)
        index = to_index(indices)
        if self._store is None:
            # Memory is allocated as the array is filled.
            self._store = np.empty((len(self), self._steps), np.float32)
        missing = [position for position in index.tolist() if not self._loaded[position]]
        for owner in sorted({int(self._owner[position]) for position in missing}):
            # All windows of the file, because opening it takes the most time.
            first, count = int(self._first[owner]), int(self._counts[owner])
            for position, wave in enumerate(self._read_windows(owner, range(count)), first):
                self._store[position] = wave
            self._loaded[first : first + count] = True
        batch = {"x": torch.from_numpy(self._store[index.numpy()])[:, :, None]}
        if self._labels is not None:
            batch["label"] = self._labels[torch.from_numpy(self._owner)[index]]
        return batch

    def identities(self) -> list[str]:
        """Return the path of each example's file below the folder: the windows of a file stay in one part."""
        paths = [Path(name).as_posix() for name in self.files]
        return [paths[owner] for owner in self._owner.tolist()]

    def label_values(self, field: str) -> Tensor:
        """Return the label of every window or file (n,); reads no file."""
        if field != "label" or self._labels is None:
            return super().label_values(field)
        return self._labels[torch.from_numpy(self._owner)]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which reads files itself, without the windows in memory."""
        return {**self.__dict__, "_store": None, "_loaded": np.zeros_like(self._loaded)}

    def lengths(self) -> dict[str, Tensor]:
        """Return the number of samples of every file; {} for windows, which have one length."""
        return {"x": self._lengths} if self._steps is None else {}

    def summary(self) -> str:
        """Return what was read, in one line."""
        return f"{super().summary()}; raw samples of {self._rate:,} Hz (as log-mel frames: data set sound-folder, in reprkit-audio)"

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._root.resolve().name

    def _check_file(self, name: str) -> sound.Checked:
        """Decode a file to its end."""
        return sound.check_file(self._root / name)

    def _read_windows(self, owner: int, windows: range) -> Iterator[np.ndarray]:
        """Yield some windows of a file, or the whole file.

        Raises:
            DataError: the file was readable when the data set was constructed, and no longer is.
        """
        file = self._root / self.files[owner]
        try:
            if self._steps is None:
                yield sound.read(file, self._rate, limit=False).numpy()
                return
            with sound.open_file(file) as opened:
                for window in windows:
                    yield self._read_window(opened, self._rates[owner], window * self._steps, self._steps)
        except Exception as error:
            raise DataError(
                f"{str(file)!r} was readable when the data set was constructed, and no longer is: {error}"
            ) from error

    def _read_window(self, opened: sound.OpenSound, native: int, start: int, steps: int) -> np.ndarray:
        shared = math.gcd(native, self._rate)
        up, down = self._rate // shared, native // shared
        if up == down:
            return _require_length(opened.read(start, steps), steps)
        # Begin at a frame that is also a sample of the new rate, with context for the filter (10 * max(up, down) taps a side).
        context = 10 * max(up, down) // up + 1
        begin = max(0, (start * down // up - context) // down * down)
        until = math.ceil((start + steps) * down / up) + context
        wave = opened.read(begin, until - begin)
        skip = start - begin // down * up
        return _require_length(polyphase(wave, up, down)[skip : skip + steps], steps)


def _require_length(wave: np.ndarray, steps: int) -> np.ndarray:
    if len(wave) != steps:
        raise DataError(f"{len(wave)} of {steps} samples can be read")
    return wave
