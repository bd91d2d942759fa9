"""A folder of labeled images, with folders for the classes and for the official parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprkit import Dataset, Signature
from reprkit.data.collation import to_index
from reprkit.data.formats.images import Images
from reprkit.errors import DataError
from reprkit.registry.constraints import Real, Share, Width
from reprkit_vision.data.official import official_parts

_TRAIN, _TEST, _VALID = "train", ("test", "val", "valid"), ("val", "valid")


class ImageFolder(Dataset):
    """Images in folders named after their classes, with the official split where there is one.

    ``ROOT/train/CLASS/*.jpg`` and ``ROOT/test/CLASS`` (or ``val``) are the official parts; with both ``val``
    and ``test`` the first is the validation part.  ``ROOT/CLASS/*.jpg`` has none and is split
    by a hash of each image's path: it stays in its part when others are added.

    Fields: ``x`` image (h w c), float32 in [0, 1]; ``label``, the index of the class in alphabetical order
    (``classes``).  Reading, caching and skipping of files is that of reprkit's ``images(labels=True)``.

    Args:
        root: the folder.
        size: (h, w) in pixels, or one number for both; each image is center-cropped to that shape and resized.
        gray: read images with one channel, otherwise with three.
        range: the values in the files that become 0 and 1, for pictures of 16 bits; see ``images``.
        cache: a folder for the decoded images; see ``images``.
        max_corrupt: the largest share of unreadable files that is skipped; more is an error.

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
        range: tuple[Real, Real] | None = None,
        cache: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        self.root = Path(root).expanduser()
        self.parts: dict[str, Images] = {}
        for name, folder in _part_folders(self.root).items():
            self.parts[name] = Images(
                folder, size, labels=True, gray=gray, range=range, cache=cache, max_corrupt=max_corrupt
            )
        first, *others = self.parts.values()
        self.classes: list[str] = first.facts["classes"]
        for name, part in zip(list(self.parts)[1:], others, strict=True):
            different = sorted(set(part.facts["classes"]) ^ set(self.classes))
            if different:
                raise DataError(
                    f"{self.root / name} and its train part differ in classes: {', '.join(different)}"
                )
        self.facts = _merge_facts(self.parts, _other_entries(self.root, self.parts))
        self.signature = Signature({name: first.signature[name] for name in ("x", "label")})
        ends = torch.tensor([len(part) for part in self.parts.values()]).cumsum(0)
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends])

    def __len__(self) -> int:
        """Number of images."""
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One image and its label; a negative index counts from the end."""
        index = range(len(self))[index]
        return {name: value[0] for name, value in self.batch([index]).items()}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """The images of these indices (b,).

        Raises:
            DataError: a file that was readable when the data set was built no longer is.
        """
        index = to_index(indices)
        owner = torch.bucketize(index, self._starts[1:], right=True)
        field = self.signature["x"]
        images = {
            "x": torch.empty(len(index), *(int(size or 0) for size in field.shape)),
            "label": torch.empty(len(index), dtype=torch.int64),
        }
        for number, part in enumerate(self.parts.values()):
            rows = (owner == number).nonzero().flatten()
            if len(rows):
                for name, value in part.batch(index[rows] - self._starts[number]).items():
                    images[name][rows] = value
        return images

    def identities(self) -> list[str]:
        """Return the path of each image below the folder."""
        return [
            f"{name}/{path}" if name else path
            for name, part in self.parts.items()
            for path in part.identities()
        ]

    def split(
        self,
        seed: int = 0,
        *,
        valid: bool = False,
        test_share: float | None = None,
        valid_share: float = 0.1,
    ) -> tuple[Dataset, ...]:
        """Split into the official parts where the folder has them (without ``test_share``), else at random.

        Without an official validation part one is drawn from the training part by ``seed``.

        Raises:
            DataError: shares out of range, a ``test_share`` although there is an official test part, or too few images.
        """
        if _TRAIN not in self.parts:
            share = 0.2 if test_share is None else test_share
            return super().split(seed, valid=valid, test_share=share, valid_share=valid_share)
        train_size = len(self.parts[_TRAIN])
        official_valid = len(self.parts) == 3
        parts = official_parts(
            self,
            train_size,
            seed,
            valid=valid and not official_valid,
            test_share=test_share,
            valid_share=valid_share,
        )
        if not official_valid:
            return parts
        test_start = int(self._starts[2])
        valid_part = self.subset(torch.arange(train_size, test_start), part="valid")
        test = self.subset(torch.arange(test_start, len(self)), part="test")
        return (parts[0], valid_part, test) if valid else (parts[0], test)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.root.resolve().name


def _part_folders(root: Path) -> dict[str, Path]:
    """Find the folders of the official parts: train, val (if there is also test) and test; ``{"": root}`` without parts."""
    if not (root / _TRAIN).is_dir():
        return {"": root}
    others = [name for name in _TEST if (root / name).is_dir()]
    if not others:
        raise DataError(
            f"{root} has a folder 'train' but neither 'test' nor 'val'; to split 'train' at random give {root / _TRAIN}"
        )
    valid = [name for name in others[1:] if name in _VALID and others[0] == "test"][:1]
    return {name: root / name for name in (_TRAIN, *valid, others[0])}


def _merge_facts(parts: dict[str, Images], left: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The classes, and the files of all parts that were skipped, ignored or reduced; and entries outside of the parts."""
    facts: dict[str, Any] = {"classes": next(iter(parts.values())).facts["classes"]}
    skipped, ignored = list[dict[str, str]](), {rule: dict(entry) for rule, entry in left.items()}
    for name, part in parts.items():
        skipped += [
            {**file, "name": f"{name}/{file['name']}".lstrip("/")} for file in part.facts.get("skipped", [])
        ]
        for rule, entry in part.facts.get("ignored", {}).items():
            mine = ignored.setdefault(rule, {"count": 0, "names": []})
            mine["count"] += entry["count"]
            mine["names"] = [*mine["names"], *(f"{name}/{file}".lstrip("/") for file in entry["names"])][:5]
        for key in ("skipped_count", "reduced_count"):
            if count := part.facts.get(key):
                facts[key] = facts.get(key, 0) + count
    facts |= {"skipped": skipped} if skipped else {}
    if ignored:
        facts |= {"ignored_count": sum(entry["count"] for entry in ignored.values()), "ignored": ignored}
    return facts


def _other_entries(root: Path, parts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Entries of the root outside of the official parts: rule -> count and names."""
    if list(parts) == [""]:
        return {}
    left: dict[str, dict[str, Any]] = {}
    for entry in sorted(root.iterdir()):
        if entry.name not in parts:
            rule = "hidden" if entry.name.startswith(".") else "outside of the official parts"
            found = left.setdefault(rule, {"count": 0, "names": []})
            found["count"] += 1
            found["names"] = [*found["names"], entry.name][:5]
    return left
