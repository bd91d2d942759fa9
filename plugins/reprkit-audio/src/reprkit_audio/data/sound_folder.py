"""Data set of a folder of recordings of any sound, as log-mel frames."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from reprkit.data.base import derive_seed, split_sizes
from reprkit.data.folders import find_files
from reprkit.data.sound import SUFFIXES, UNDECODED
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Positive, Share
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpus import Corpus


class SoundFolder(Corpus):
    """All sound files below a folder, as frames of a front end: what ``rk.dataset("recordings/")`` gives.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``label`` (names: ``classes``), the folder of the first level, if
    there are several such folders and no file lies beside them.  Any rate, depth and number of channels is read as one channel
    of 16 kHz.  For voices there is ``speech``, which also reads transcripts and cuts silence off; for waveforms ``audio``.

    A file that cannot be read, is silent or shorter than 0.1 s is left out, counted and named in ``facts``, which also says which
    files were ignored.  Links are followed.  ``split`` keeps the windows of a file in one part; with fewer files than parts need,
    those of each piece (``seconds``) of a file.  Frames are cached by file and front end.

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

    def divide(
        self, clips: Sequence[Clip], seed: int, valid: bool, test_share: float, valid_share: float
    ) -> list[str]:
        """Assign every clip to "train", "valid" or "test": the clips of a file together, where there are enough files.

        Raises:
            DataError: shares out of range, or too few clips.
        """
        groups = [str(clip.path) for clip in clips]
        try:
            test, held = split_sizes(len(set(groups)), valid, test_share, valid_share, what="files")
        except DataError:
            groups = [clip.name for clip in clips]
            test, held = split_sizes(len(set(groups)), valid, test_share, valid_share, what="pieces of files")
        names = sorted(set(groups))
        generator = torch.Generator().manual_seed(derive_seed(seed, 3))
        order = [names[place] for place in torch.randperm(len(names), generator=generator).tolist()]
        part = dict.fromkeys(order[:test], "test") | dict.fromkeys(order[test : test + held], "valid")
        return [part.get(group, "train") for group in groups]
