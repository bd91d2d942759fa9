"""Small sample data of every kind, on which parts are checked."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.data.padding import broadcast_mask, length_mask
from reprkit.data.signature import Column, Field, Signature

_LABEL = Field(kind="label", shape=(), vocab=3)

# The sides are divisible by patch sizes of 1, 2, 4 and 8.
IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)), "label": _LABEL})
COLOR_IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0)), "label": _LABEL})
VECTORS = Signature({"x": Field(kind="vector", shape=(6,)), "label": _LABEL})
SEQUENCES = Signature({"x": Field(kind="sequence", shape=(None, 3), range=(-1.0, 1.0)), "label": _LABEL})
TOKENS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=7), "label": _LABEL})
MAPS = Signature({"x": Field(kind="map", shape=(8, 8), vocab=5), "label": _LABEL})

_COLUMNS = (
    Column("age", mean=40.0, std=12.0),
    Column("trade", "category", classes=("cook", "smith", "tailor")),
    Column("height", mean=1.7, std=0.1),
    Column("native", "category", classes=("no", "yes")),
)
TABLES = Signature({"x": Field(kind="vector", shape=(7,), columns=_COLUMNS), "label": _LABEL})

SAMPLE_DATA = {
    "images": IMAGES,
    "colour": COLOR_IMAGES,
    "vectors": VECTORS,
    "sequences": SEQUENCES,
    "tokens": TOKENS,
    "maps": MAPS,
    "tables": TABLES,
}


def random_batch(data: Signature, size: int, *, seed: int = 0, length: int = 6) -> dict[str, Tensor]:
    """Generate random values that fit a signature; variable lengths are drawn, and padding is zero.

    The first example always has the full length, the second has length 1.
    """
    generator = torch.Generator().manual_seed(seed)
    batch = data.example(size, length)
    for name, field in data.items():
        if field.discrete:
            batch[name] = torch.randint(field.vocab or 2, batch[name].shape, generator=generator)
        elif field.columns and field.kind == "vector":
            batch[name], batch[f"{name}_mask"] = _random_rows(field, size, generator)
        else:
            low, high = field.range or (-1.0, 1.0)
            draw = torch.rand(batch[name].shape, generator=generator)
            batch[name] = (draw < 0.5).float() if field.vocab == 2 else low + (high - low) * draw
        if None in field.shape:
            lengths = torch.randint(1, length + 1, (size,), generator=generator)
            lengths[0] = length
            lengths[1:2] = 1
            mask = length_mask(lengths, length)
            batch[f"{name}_mask"] = mask
            batch[name] = batch[name] * broadcast_mask(mask, batch[name])
    return batch


def _random_rows(field: Field, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Generate rows of a table (b d), and their mask: an eighth of the values, though none of the first column, is missing."""
    values, masks = [], []
    for index, column in enumerate(field.columns):
        if column.kind == "number":
            value = column.mean + column.std * torch.randn(size, 1, generator=generator)
        else:
            chosen = torch.randint(column.width, (size,), generator=generator)
            value = torch.nn.functional.one_hot(chosen, column.width).float()
        present = (torch.rand(size, 1, generator=generator) > 0.125) | (index == 0)
        values.append(value)
        masks.append(present.expand(size, column.width))
    return torch.cat(values, 1), torch.cat(masks, 1)


def refill_padding(batch: dict[str, Tensor], data: Signature) -> dict[str, Tensor]:
    """Return the batch with other values at the padding of ``x``: no output may depend on them."""
    x, mask = batch["x"], broadcast_mask(batch["x_mask"], batch["x"])
    other = (data["x"].vocab or 2) - 1 if data["x"].discrete else 7
    return {**batch, "x": torch.where(mask, x, torch.full_like(x, other))}
