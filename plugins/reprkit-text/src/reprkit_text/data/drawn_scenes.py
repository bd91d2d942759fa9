"""Drawn scenes: one or two shapes on a dark picture, with a sentence that says what is where; pairs of attributes are held out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Dataset, Field
from reprkit.data import Subset
from reprkit.data.base import derive_seed, split_settings
from reprkit.data.identity import split_by_identity
from reprkit.errors import DataError
from reprkit.registry.constraints import Seed
from reprkit_text.data.captioned import CaptionedPictures
from reprkit_text.vocabulary import Vocabulary

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLORS = {
    "red": (0.9, 0.15, 0.15),
    "orange": (1.0, 0.6, 0.1),
    "yellow": (1.0, 1.0, 0.3),
    "green": (0.1, 0.7, 0.2),
    "cyan": (0.2, 0.9, 0.9),
    "blue": (0.2, 0.3, 1.0),
    "purple": (0.7, 0.2, 0.8),
    "white": (1.0, 1.0, 1.0),
}
SIZES = {"small": 0.09, "large": 0.16}  # radius as a share of the picture's width
LONE_SIZES = {"small": 0.16, "large": 0.26}  # of the only object of a picture
RELATIONS = ("left of", "above")
PLACES = (
    "at the top left", "at the top", "at the top right", "at the left", "in the middle", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip
_COUNTS = (len(SIZES), len(COLORS), len(SHAPES))
_OBJECTS = math.prod(_COUNTS)
_BLOCK = 512  # pictures that are drawn at a time


class DrawnScenes(CaptionedPictures):
    """Two objects of a size, a color and a shape, one left of or above the other: "a small red circle above a large blue ring".

    Every scene of two different objects occurs once: 80 x 79 x 2 = 12,640, with one picture and one sentence.  Where exactly
    the objects are, their brightness and the background's are drawn from ``seed``.  ``objects=1``: one object, in one of nine
    places, "a small red circle at the top left", 80 x 9 = 720 scenes.  ``copies``: pictures of each scene, which are never divided
    between the parts of a split.

    **Held-out combinations**: each shape has one color in which it occurs in no picture of train and valid (red circle, green
    square, purple triangle, orange cross, cyan ring).  ``split`` puts every scene with such an object into test (23 %): a model
    has seen both words and both attributes, and never the two together.  Of the shares of ``split`` only that of valid counts.
    ``held_out="scenes"`` divides scenes by a hash instead: each pair of attributes of an object occurs in training.

    Fields: ``x`` image (size size 3); ``text`` tokens (t,), the sentence; labels ``size_1``, ``color_1``, ``shape_1`` of the
    object that the sentence names first, ``size_2``, ``color_2``, ``shape_2``, and ``relation``; of one object ``place`` instead.

    Args:
        size: width and height in pixels.
        tokenizer: see ``documents``; trained on all sentences.  ``marks`` puts a symbol at the end, by which a decoder ends.
        held_out: what test consists of.
        objects: number of objects of a picture.
        copies: pictures of each sentence.
        seed: of the pictures.
    """

    def __init__(
        self,
        size: Annotated[int, Ge(16), Le(256)] = 32,
        tokenizer: str | Vocabulary = "byte-pair(vocab=400, marks=True)",
        *,
        held_out: Literal["pairs", "scenes"] = "pairs",
        objects: Literal[1, 2] = 2,
        copies: Annotated[int, Ge(1), Le(1000)] = 1,
        seed: Seed = 0,
    ) -> None:
        chosen, where = (each.repeat_interleave(copies, 0) for each in _all_scenes(objects))
        self.held_out, self._size = held_out, size
        attributes = torch.stack(torch.unravel_index(chosen, _COUNTS), -1)  # (n objects 3)
        self._noise = torch.rand(
            len(chosen), 7, generator=torch.Generator().manual_seed(derive_seed(seed, 7))
        )
        self._pictures = torch.zeros(len(chosen), size, size, 3, dtype=torch.uint8)
        self._drawn = torch.zeros(len(chosen), dtype=torch.bool)
        self._attributes, self._where = attributes, where
        names = [tuple(SIZES), tuple(COLORS), SHAPES]
        labels = {
            f"{kind}_{place + 1}": (attributes[:, place, column], names[column])
            for place in range(objects)
            for column, kind in enumerate(("size", "color", "shape"))
        }
        phrases = [
            "a " + " ".join(values)
            for values in ((s, c, k) for s in names[0] for c in names[1] for k in names[2])
        ]
        kind, kinds = ("place", PLACES) if objects == 1 else ("relation", RELATIONS)
        texts = [
            " ".join([phrases[named[0]], kinds[how], *(phrases[other] for other in named[1:])])
            for named, how in zip(chosen.tolist(), where.tolist(), strict=True)
        ]
        self._set_up(
            Field(kind="image", shape=(size, size, 3), range=(0.0, 1.0)),
            texts,
            tokenizer,
            name="drawn-scenes",
            length=None,
            labels={**labels, kind: (where, kinds)},
            facts={"held out": held_out},
        )

    def pixels(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b h w 3"]:
        """Return the pictures of scenes, of 8 bits; each is drawn when it is first read, and kept."""
        for rows in index[~self._drawn[index]].split(_BLOCK):
            self._pictures[rows] = (self._draw(rows) * 255).round().to(torch.uint8)
            self._drawn[rows] = True
        return self._pictures[index].float() / 255

    def identities(self) -> list[str]:
        """Return the sentences."""
        return self.texts

    def novel(self) -> Tensor:
        """Return which scenes hold an object of a held-out pair of color and shape (n,)."""
        return (self._attributes[..., 1] == (3 * self._attributes[..., 2]) % len(COLORS)).any(1)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into train and test, or train, valid and test; test are all scenes with held-out pairs, whatever ``seed``.

        A hash of the sentence and ``seed`` decides which of the other scenes are valid.  With ``held_out="scenes"`` the hash
        decides all.

        Raises:
            DataError: a share out of range.
        """
        if self.held_out == "scenes":
            return super().split(seed, valid=valid, test_share=test_share, valid_share=valid_share)
        if not 0 < valid_share < 1:
            raise DataError(f"valid_share must lie between 0 and 1, not {valid_share}")
        new = self.novel()
        known, held = (~new).nonzero()[:, 0], new.nonzero()[:, 0]
        parts = {"train": known, "test": held[_order(held, seed)]}
        if valid:
            names = [self.texts[row] for row in known.tolist()]
            pieces = split_by_identity(names, seed, False, valid_share, 0.5)
            parts = {"train": known[pieces["train"]], "valid": known[pieces["test"]], "test": parts["test"]}
        subsets = tuple(Subset(self, rows, part=name) for name, rows in parts.items())
        for subset in subsets:
            subset.origin.update(split_settings(seed, valid, test_share, valid_share))
            subset.origin["held out"] = "pairs of color and shape"
        return subsets

    def _draw(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b h w 3"]:
        """Paint the objects over a background; a pixel at a border is mixed."""
        noise, objects = self._noise[index], self._attributes.shape[1]
        centers = _centers(self._where[index], noise[:, :4].view(-1, 2, 2)[:, :objects])
        line = (torch.arange(self._size) + 0.5) / self._size
        picture = (0.05 + 0.15 * noise[:, 4]).view(-1, 1, 1, 1).expand(-1, self._size, self._size, 3)
        colors, radii = torch.tensor(list(COLORS.values())), torch.tensor(list(sizes_of(objects).values()))
        for place in range(objects):
            sizes, hues, shapes = self._attributes[index, place].unbind(1)
            radius = radii[sizes].view(-1, 1, 1)
            x = (line - centers[:, place, 0, None])[:, None, :] / radius
            y = (line - centers[:, place, 1, None])[:, :, None] / radius
            x, y = torch.broadcast_tensors(x, y)
            distance = torch.empty_like(x)
            for number, shape in enumerate(SHAPES):
                own = shapes == number
                distance[own] = _DISTANCES[shape](x[own], y[own])
            cover = (0.5 - distance * radius * self._size).clamp(0, 1).unsqueeze(-1)
            paint = colors[hues] * (0.85 + 0.15 * noise[:, 5 + place, None])
            picture = picture + cover * (paint[:, None, None, :] - picture)
        return picture


def sizes_of(objects: int) -> dict[str, float]:
    """Return the radius of each size, as a share of the picture's width, in pictures of so many objects."""
    return LONE_SIZES if objects == 1 else SIZES


def _all_scenes(objects: int) -> tuple[Int[Tensor, "n k"], Int[Tensor, " n"]]:
    """Return the objects of all scenes, and the relation or the place; the objects of a scene differ."""
    shape = (*[_OBJECTS] * objects, len(PLACES if objects == 1 else RELATIONS))
    *named, where = torch.unravel_index(torch.arange(math.prod(shape)), shape)
    chosen = torch.stack(named, 1)
    different = (chosen[:, :1] != chosen[:, 1:]).all(1)
    return chosen[different], where[different]


def _centers(where: Int[Tensor, " b"], noise: Float[Tensor, "b k 2"]) -> Float[Tensor, "b k 2"]:
    """Return x and y of each object, as shares of the picture.

    Two objects are apart along the relation's axis, and near the middle of the other; one is near the middle of its ninth.
    """
    if noise.shape[1] == 1:
        cells = torch.stack([where % 3, where // 3], -1)
        return 0.26 + 0.24 * cells[:, None] + 0.08 * (noise - 0.5)
    along = torch.tensor([0.25, 0.75]) + 0.12 * (noise[:, :, 0] - 0.5)
    beside = 0.5 + 0.4 * (noise[:, :, 1] - 0.5)
    centers = torch.stack([along, beside], -1)
    return torch.where((where == 0).view(-1, 1, 1), centers, centers.flip(-1))


def _order(rows: Int[Tensor, " m"], seed: int) -> Int[Tensor, " m"]:
    """Return a permutation by ``seed``, since reports show the first examples."""
    return torch.randperm(len(rows), generator=torch.Generator().manual_seed(derive_seed(seed, len(rows))))


# Signed distances from shapes of radius 1, negative inside.
def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.85


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(y - 0.75, 0.894 * x.abs() - 0.447 * (y + 1))


def _cross(x: Tensor, y: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 1, short - 0.3)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.75).abs() - 0.25


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
}
