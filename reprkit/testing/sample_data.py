"""Small sample data of every kind, on which parts are checked."""

from __future__ import annotations

import torch
from torch import Tensor

from reprkit.data.padding import broadcast_mask, length_mask
from reprkit.data.signature import Field, Signature

_LABEL = Field(kind="label", shape=(), vocab=3)

# The sides are divisible by patch sizes of 1, 2, 4 and 8.
IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)), "label": _LABEL})
COLOR_IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0)), "label": _LABEL})
VECTORS = Signature({"x": Field(kind="vector", shape=(6,)), "label": _LABEL})
SEQUENCES = Signature({"x": Field(kind="sequence", shape=(None, 3), range=(-1.0, 1.0)), "label": _LABEL})
TOKENS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=7), "label": _LABEL})

SAMPLE_DATA = {
    "images": IMAGES,
    "colour": COLOR_IMAGES,
    "vectors": VECTORS,
    "sequences": SEQUENCES,
    "tokens": TOKENS,
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
        else:
            low, high = field.range or (-1.0, 1.0)
            draw = torch.rand(batch[name].shape, generator=generator)
            batch[name] = (draw < 0.5).float() if field.vocab == 2 else low + (high - low) * draw
        if f"{name}_mask" in batch:
            lengths = torch.randint(1, length + 1, (size,), generator=generator)
            lengths[0] = length
            lengths[1:2] = 1
            mask = length_mask(lengths, length)
            batch[f"{name}_mask"] = mask
            batch[name] = batch[name] * broadcast_mask(mask, batch[name])
    return batch


def refill_padding(batch: dict[str, Tensor], data: Signature) -> dict[str, Tensor]:
    """Return the batch with other values at the padding of ``x``: no output may depend on them."""
    x, mask = batch["x"], broadcast_mask(batch["x_mask"], batch["x"])
    other = (data["x"].vocab or 2) - 1 if data["x"].discrete else 7
    return {**batch, "x": torch.where(mask, x, torch.full_like(x, other))}
