"""Conversion between data and tokens, and between grids of tokens: cutting, aligning, fusing and upsampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.gather_rows import gather_tokens
from reprkit.types import LAYOUT, Code, Features


def row_grid(field: Field, x: Tensor) -> tuple[int, ...]:
    """Return the grid that reads ``x`` (b ...) as a sequence: an image by rows, a map by cells, a sequence by frames.

    A vector is one token.
    """
    if field.planar:
        return (x.shape[1], x.shape[2] if field.kind == "map" else 1)
    return (1,) if field.kind in ("vector", "label") else (x.shape[1],)


def step_grid(field: Field | None, steps: int) -> tuple[int, ...]:
    """Return the grid of ``steps`` tokens read one by one: rows of an image, cells of a map (of all of them only), frames."""
    if field is not None and field.kind == "map" and steps == field.steps:
        return tuple(int(size or 0) for size in field.space)
    return (steps, 1) if field is not None and field.kind == "image" else (steps,)


def to_tokens(x: Tensor, grid: tuple[int, ...], kind: str) -> Tensor:
    """Cut data (b h w c), (b t c), (b d) or symbols (b t), (b h w) into the equal blocks of ``grid``: tokens (b n p).

    Raises:
        BuildError: the grid does not divide the data.
    """
    if kind == "vector":
        return x.unsqueeze(1)
    if kind == "label":
        return x[:, None, None]
    space = x.shape[1:3] if kind in ("image", "map") else x.shape[1:2]
    if len(grid) != len(space) or any(size % cells for size, cells in zip(space, grid, strict=True)):
        raise BuildError(f"a grid of {grid} tokens does not divide {kind} data of size {tuple(space)}")
    if kind == "image":
        return rearrange(x, "b (gh ph) (gw pw) c -> b (gh gw) (ph pw c)", gh=grid[0], gw=grid[1])
    if kind == "map":
        return rearrange(x, "b (gh ph) (gw pw) -> b (gh gw) (ph pw)", gh=grid[0], gw=grid[1])
    return rearrange(x, "b (g p) c -> b g (p c)" if kind == "sequence" else "b (g p) -> b g p", g=grid[0])


def from_tokens(tokens: Tensor, grid: tuple[int, ...], field: Field) -> Tensor:
    """Invert ``to_tokens``: (b n p) to the field's own layout (b h w c), (b h w), (b t c), (b d), (b t) or (b)."""
    if field.kind == "vector":
        return tokens.squeeze(1)
    if field.kind == "label":
        return tokens[:, 0, 0]
    if field.planar:
        height, width = (int(size or 0) for size in field.shape[:2])
        return rearrange(
            tokens,
            "b (gh gw) (ph pw c) -> b (gh ph) (gw pw) c"
            if field.kind == "image"
            else "b (gh gw) (ph pw) -> b (gh ph) (gw pw)",
            gh=grid[0],
            gw=grid[1],
            ph=height // grid[0],
            pw=width // grid[1],
        )
    if field.kind == "sequence":
        return rearrange(tokens, "b g (p c) -> b (g p) c", c=field.channels)
    return rearrange(tokens, "b g p -> b (g p)")


def align(
    code: Features | Code, tokens: int, grid: tuple[int, ...] | None = None
) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"] | None]:
    """Resample a code to ``tokens`` tokens: (b n d), and which of them are present (None: all).

    The tokens of an encoder that read a subset are scattered to their positions (zeros elsewhere); one token is broadcast;
    another number of tokens is resampled by nearest neighbor, in two dimensions where both sides have a grid.
    """
    x = code.z if isinstance(code, Code) else code.x
    present: Tensor | None = None
    if code.positions is not None:
        # The encoder read a subset: scatter its tokens to their positions.
        length = code.length or int(code.positions.max()) + 1
        shape = (x.shape[0], length)
        present = torch.zeros(shape, dtype=torch.bool, device=x.device).scatter(1, code.positions, True)
        index = code.positions.unsqueeze(-1).expand(-1, -1, x.shape[-1])
        x = torch.zeros(*shape, x.shape[-1], dtype=x.dtype, device=x.device).scatter(1, index, x)
    if x.shape[1] == tokens:
        return x, present
    if x.shape[1] == 1:
        return x.expand(-1, tokens, -1), None if present is None else present.expand(-1, tokens)
    index = _nearest_index(code.grid, x.shape[1], grid, tokens, x.device)
    return x[:, index], None if present is None else present[:, index]


def fuse(codes: Sequence[Code]) -> Features | None:
    """Sum codes of one width, aligned to the one with the most tokens (b n d); None if there are no codes.

    The result has the tree of that code, or of the first with as many tokens.
    """
    others = list(codes)
    if not others:
        return None
    lead = others.pop(max(range(len(others)), key=lambda place: _token_count(others[place])))
    if lead.positions is not None and any(
        _token_count(code) > 1 and code.positions is not lead.positions for code in others
    ):
        # The encoders read different subsets: scatter the lead too, so that no token of the others is dropped.
        lead = replace(lead, z=align(lead, _token_count(lead))[0], mask=None, positions=None)
    x = lead.z
    for code in others:
        aligned, _ = align(code, _token_count(lead), lead.grid)
        x = x + (aligned if lead.positions is None else gather_tokens(aligned, lead.positions))
    layout = {name: getattr(lead, name) for name in LAYOUT}
    trees = (code.parents for code in (lead, *others) if code.z.shape[1] == x.shape[1])
    layout["parents"] = next((parents for parents in trees if parents is not None), None)
    return Features(x=x, **layout)


def _token_count(code: Code) -> int:
    """Return the number of tokens of the example, including those that the encoder did not read."""
    return code.length or code.z.shape[1]


def _nearest_index(
    source: tuple[int, ...] | None,
    count: int,
    target: tuple[int, ...] | None,
    tokens: int,
    device: torch.device,
) -> Tensor:
    """Return, for each token of the target, the index of the source token that covers it."""
    plane = source and target and len(source) == len(target) == 2 and math.prod(source) == count
    # Rows (8, 1) to cells (4, 4) would lose every other row: never downsample one axis while upsampling the other.
    if plane and source and target and (source[0] - target[0]) * (source[1] - target[1]) >= 0:
        rows = torch.arange(target[0], device=device) * source[0] // target[0]
        columns = torch.arange(target[1], device=device) * source[1] // target[1]
        return (rows[:, None] * source[1] + columns[None]).flatten()
    return torch.arange(tokens, device=device) * count // tokens


def upsample(
    hit: Bool[Tensor, "b n"], source: tuple[int, ...], target: tuple[int, ...], field: Field, x: Tensor
) -> Tensor:
    """Return 1.0 for the elements of the target's tokens (b m p) that the hit tokens of the source's grid cover, else 0.0."""
    space = x.shape[1:3] if field.planar else x.shape[1:2]
    if field.kind in ("vector", "label"):
        return repeat(hit.float(), "b 1 -> b 1 p", p=field.channels)
    cells = math.prod(space) // math.prod(source) * field.channels
    image = from_tokens(repeat(hit.float(), "b n -> b n p", p=cells), source, field)
    return to_tokens(image, target, field.kind)
