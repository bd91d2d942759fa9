"""Pictures with sounds: a folder of one's own, or the cut-outs with noises that are fetched from Debian's packages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.folders import FolderFiles, find_files
from reprkit.data.formats.image_files import Depths, Fit, read_image, suffixes, undecoded
from reprkit.data.sound import SUFFIXES, UNDECODED
from reprkit.errors import DataError, PartArgumentError
from reprkit.interfaces import require
from reprkit.registry.constraints import Positive, Share, Width
from reprkit.registry.references import Reference
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.features import load_or_analyze
from reprkit_audio.frontends import frontend as front_end
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.gathering_pairs import pairs_folder
from reprkit_audio.sound_texture import texture, texture_size

_VIDEO = "videos are not read: take a picture and the sound out of it, as by ffmpeg -i NAME{0} -frames:v 1 NAME.png NAME.wav"
_VIDEOS = {
    suffix: _VIDEO.format(suffix)
    for suffix in (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
}  # fmt: skip


class Sounding(Dataset):
    """Pictures, each with what it sounds like: the files of a folder that differ in their suffix only, ``dog.png`` and ``dog.wav``.

    Without a folder, the pairs of ``reprkit voice fetch sounding``: cut-outs and drawings of things with their noises, from
    Debian's tuxpaint-stamps-default (GPL-2) and qabcs-data (GPL-3 or later, some pictures CC0 or public domain).  The packages'
    copyright files lie beside them in the cache, in ``reprkit/audio/sounding``.

    Fields: ``x`` image (size size 3), float32 in [0, 1]; ``sound`` sequence (t bands), log-mel frames, its front end in ``form``;
    ``texture`` vector (d,), statistics of the sound (Owens et al. 2016, arXiv 1608.07017): ``reprkit_audio.sound_texture``.

    Pictures are any that Pillow decodes, sounds any that libsndfile does, as one channel; videos are not read.  A picture without
    a sound, and a pair that cannot be decoded, is silent or shorter than 0.1 s, is left out, counted and named in ``facts``, which
    also names other files.  Frames are cached by file and front end.

    Attributes:
        names: path of each picture in the folder, without its suffix.
        sounds: the sound file of each.

    Args:
        root: a folder; None for the fetched pairs.
        size: width and height of the pictures, in pixels.
        package: which of the fetched pairs: 113 of "tuxpaint", mostly photographs, 241 drawings of "qabcs", or "both".  A picture's
            style tells the package, and so much about the sound: compare with ``"qabcs"`` alone.
        group: what ``split`` keeps together: "pair" only what shares a sound file, "folder" the pairs of a folder, such as those
            of one thing.  None: "folder" for the fetched pairs, where a folder has all things that share a word of their names,
            else "pair".
        frontend: front end of the frames, "log-mel" with options.
        seconds: longer sounds are cut there, and counted.
        fit: "crop" crops the center to a square, "pad" adds black borders, "stretch" distorts.
        max_corrupt: largest share of pairs that may be left out; more is an error.

    Raises:
        DataError: no such folder, no pairs, pairs that were not fetched yet, or too many pairs that cannot be read.
        PartArgumentError: a setting out of its range, or another front end.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        size: Width = 64,
        *,
        package: Literal["both", "tuxpaint", "qabcs"] = "both",
        group: Literal["pair", "folder"] | None = None,
        frontend: str = "log-mel(bands=32)",
        seconds: Positive = 5.0,
        fit: Fit = "crop",
        max_corrupt: Share = 0.01,
    ) -> None:
        front = front_end(frontend)
        if not isinstance(front, LogMel):
            raise PartArgumentError(
                f"dataset sounding: frontend={frontend!r} is not log-mel, whose bands the statistics describe"
            )
        require(
            root is None or package == "both",
            f"dataset sounding: package={package!r} is of the fetched pairs, and root= is a folder of your own",
        )
        folder = pairs_folder() if root is None else Path(root).expanduser()
        if root is None and not folder.is_dir():
            raise DataError(
                f"no pairs of pictures and sounds in {str(folder)!r}\n"
                "  fetch them (195 MB, no root): reprkit voice fetch sounding\n"
                "  or give a folder of your own: sounding(root='album')"
            )
        self._by_folder = (group or ("folder" if root is None else "pair")) == "folder"
        self._name = folder.resolve().name
        skips, depths = CorruptFiles("pairs", max_corrupt), Depths()
        pairs, found = _find_pairs(folder, skips)
        if package != "both":
            pairs = {name: pairs[name] for name in pairs if os.path.basename(name).startswith(f"{package}-")}
        total, longest = len(pairs) + skips.count, max(1, front.count(round(seconds * front.rate)))

        def read(name: str) -> tuple[np.ndarray, Tensor]:
            picture = read_image(folder / name, (size, size), fit=fit, depths=depths)
            return picture, load_or_analyze(Clip(path=folder / pairs[name], speaker=""), front, trim=False)[
                0
            ].frames

        readable = list(skips.iter_readable(pairs, read))
        skips.check_share(total, str(folder))
        depths.check(folder)
        self._names = [name for name, _ in readable]
        self._pictures = torch.from_numpy(np.stack([picture for _, (picture, _) in readable]))
        self._frames = [frames[:longest] for _, (_, frames) in readable]
        self._textures = torch.stack([texture(frames, front) for frames in self._frames])
        self.names = [os.path.splitext(name)[0] for name in self._names]
        self.sounds = [folder / pairs[name] for name in self._names]
        cut = sum(len(frames) > longest for _, (_, frames) in readable)
        self.facts = {
            **found.facts(),
            **skips.facts(),
            **depths.facts(),
            **({"cut_count": cut} if cut else {}),
        }
        settings = {"fit": fit} if fit != "crop" else {}
        self.signature = Signature(
            {
                "x": Field(
                    kind="image",
                    shape=(size, size, 3),
                    range=(0.0, 1.0),
                    form=str(Reference("image", settings)) if settings else None,
                ),
                "sound": Field(kind="sequence", shape=(None, front.bands), form=front.form),
                "texture": Field(kind="vector", shape=(texture_size(front),)),
            }
        )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one pair; a negative index counts from the end."""
        row = range(len(self))[index]
        picture = self._pictures[row].float() / 255
        return {"x": picture, "sound": self._frames[row], "texture": self._textures[row]}

    def lengths(self) -> dict[str, Tensor]:
        """Return the number of frames of every sound."""
        return {"sound": torch.tensor([len(frames) for frames in self._frames])}

    def identities(self) -> list[str]:
        """Return the folder of each pair, or its name, which names its sound."""
        return [os.path.dirname(name) for name in self.names] if self._by_folder else self.names

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._name


def _find_pairs(folder: Path, skips: CorruptFiles) -> tuple[dict[str, str], FolderFiles]:
    """Return the pictures that have a sound beside them, picture -> sound, and what else is in the folder.

    Raises:
        DataError: no such folder, or no pictures below it.
    """
    missing = {**undecoded(), **UNDECODED, **_VIDEOS}
    found = find_files(folder, suffixes() | SUFFIXES, "pictures and sounds", undecoded=missing)
    skips.add_entries(found.unreadable)
    sounds, pairs = dict[str, str](), dict[str, str]()
    for name in found.names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in SUFFIXES and sounds.setdefault(stem, name) != name:
            found.ignore(name, "a second sound of its name")
    for name in found.names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in SUFFIXES:
            continue
        if stem in sounds:
            pairs[name] = sounds[stem]
        else:
            skips.add(name, f"there is no sound {stem}.wav, .ogg, .flac or the like beside it")
    for name in sorted(set(sounds.values()) - set(pairs.values())):
        found.ignore(name, "a sound without a picture of its name")
    if not pairs and not skips.count:
        raise DataError(f"the folder {str(folder)!r} holds sounds, and no picture of the name of one")
    return pairs, found
