"""A folder of labelled images whose official parts are folders too."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.formats.images import Images
from reprkit.errors import DataError
from reprkit.registry.constraints import Share, Width
from reprkit_vision.data.official import official_parts

_TRAIN, _TEST, _VALID = "train", ("test", "val", "valid"), ("val", "valid")


class ImageFolder(Dataset):
    """Images in folders named after their classes, divided as their folders say.

    ``ROOT/train/CLASS/*.jpg`` and ``ROOT/test/CLASS`` (or ``val``) are the official parts; with both ``val``
    and ``test`` the first is the validation part.  ``ROOT/CLASS/*.jpg`` has none and is divided at random.

    Fields: ``x`` image (h w c), float32 in [0, 1]; ``label``, the place of the class in the alphabet
    (``classes``).  Pictures are read, kept and left out as reprkit's ``images(labels=True)`` does it.

    Args:
        root: the folder.
        size: (h, w) in pixels, or one number for both; the middle of each picture is cut to that shape.
        gray: one channel, else three.
        cache: a folder for the decoded pictures; see ``images``.
        max_corrupt: the largest share of unreadable files that is left out; more is an error.

    Raises:
        DataError: no folder, no classes, no images, official parts with different classes, a ``train`` without
            a ``test``, or too many files that cannot be read.
    """

    renamed_arguments = {"grey": "gray"}  # noqa: RUF012

    def __init__(
        self,
        root: str,
        size: Width | tuple[Width, Width] = 64,
        *,
        gray: bool = False,
        cache: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        self.root = Path(root).expanduser()
        self.parts: dict[str, Images] = {}
        for name, folder in _folders(self.root).items():
            self.parts[name] = Images(
                folder, size, labels=True, gray=gray, cache=cache, max_corrupt=max_corrupt
            )
        first, *others = self.parts.values()
        self.classes: list[str] = first.facts["classes"]
        for name, part in zip(list(self.parts)[1:], others, strict=True):
            odd = sorted(set(part.facts["classes"]) ^ set(self.classes))
            if odd:
                raise DataError(f"{self.root / name} has other classes than its train: {', '.join(odd)}")
        self.facts = _facts(self.parts)
        self.signature = Signature(
            {"x": first.signature["x"], "label": Field(kind="label", shape=(), vocab=len(self.classes))}
        )
        ends = torch.tensor([len(part) for part in self.parts.values()]).cumsum(0)
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends])

    def __len__(self) -> int:
        """How many images."""
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One image and its label; a negative index counts from the end."""
        place = range(len(self))[index]
        return {name: value[0] for name, value in self.batch([place]).items()}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """The images of these indices (b,).

        Raises:
            DataError: a file that was readable when the set was made no longer is.
        """
        index = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.int64)
        owner = torch.bucketize(index, self._starts[1:], right=True)
        field = self.signature["x"]
        made = {
            "x": torch.empty(len(index), *(int(size or 0) for size in field.shape)),
            "label": torch.empty(len(index), dtype=torch.int64),
        }
        for number, part in enumerate(self.parts.values()):
            rows = (owner == number).nonzero().flatten()
            if len(rows):
                for name, value in part.batch(index[rows] - self._starts[number]).items():
                    made[name][rows] = value
        return made

    def split(
        self,
        seed: int = 0,
        *,
        valid: bool = False,
        test_share: float | None = None,
        valid_share: float = 0.1,
    ) -> tuple[Dataset, ...]:
        """The official parts where the folder has them (``test_share`` is then left out), else a random division.

        Without an official validation part one is taken from the training part by ``seed``.

        Raises:
            DataError: shares out of range or not wanted, or too few images.
        """
        if _TRAIN not in self.parts:
            share = 0.2 if test_share is None else test_share
            return super().split(seed, valid=valid, test_share=share, valid_share=valid_share)
        trained = len(self.parts[_TRAIN])
        official = len(self.parts) == 3
        made = official_parts(
            self,
            trained,
            seed,
            valid=valid and not official,
            test_share=test_share,
            valid_share=valid_share,
        )
        if not official:
            return made
        middle = int(self._starts[2])
        held = self.subset(torch.arange(trained, middle), part="valid")
        test = self.subset(torch.arange(middle, len(self)), part="test")
        return (made[0], held, test) if valid else (made[0], test)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name


def _folders(root: Path) -> dict[str, Path]:
    """The folders of the official parts: train, val (where there are both) and test; ``""`` where there are none."""
    if not (root / _TRAIN).is_dir():
        return {"": root}
    others = [name for name in _TEST if (root / name).is_dir()]
    if not others:
        raise DataError(
            f"{root} has a folder 'train' but neither 'test' nor 'val': give {root / _TRAIN} itself"
        )
    held = [name for name in others[1:] if name in _VALID and others[0] == "test"][:1]
    return {name: root / name for name in (_TRAIN, *held, others[0])}


def _facts(parts: dict[str, Images]) -> dict[str, Any]:
    """The classes once, and what was left out of any part."""
    facts = dict(next(iter(parts.values())).facts)
    skipped = [
        {**each, "name": f"{name}/{each['name']}".lstrip("/")}
        for name, part in parts.items()
        for each in part.facts.get("skipped", [])
    ]
    if skipped:
        facts["skipped"] = skipped
        facts["skipped_count"] = sum(part.facts.get("skipped_count", 0) for part in parts.values())
    return facts
