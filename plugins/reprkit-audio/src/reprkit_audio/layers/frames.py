"""Frames and tokens: resampling between them, and operations that ignore padding.

Inside the networks, time is the last axis, (b c t); a mask is (b t), True where a frame is real.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit import Features, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import require
from reprkit.layers.resample_tokens import resampled_mask, zero_invalid_tokens
from reprkit.models.grid import align

Mask = Bool[Tensor, "b t"] | None


def frame_channels(data: Signature, part: str) -> int:
    """Number of values per frame of field ``x``.

    Raises:
        BuildError: the field is not a sequence of frames.
    """
    field = data["x"]
    if field.kind != "sequence":
        raise BuildError(f"{part} needs frames of sound (t c), and x is {field.kind} data")
    return field.channels


def refuse_keep(keep: Tensor | None, part: str) -> None:
    """Refuse argument ``keep``, for encoders whose tokens overlap.

    Raises:
        BuildError: ``keep`` is given.
    """
    if keep is not None:
        raise BuildError(f"{part} cannot read only some frames: its tokens overlap; use gru or transformer")


def halvings(stride: int, depth: int) -> int:
    """Number of blocks, out of ``depth``, that halve the frames so that ``stride`` frames become one token.

    Raises:
        PartArgumentError: ``stride`` is not a power of 2, or needs more than ``depth`` blocks.
    """
    times = stride.bit_length() - 1
    require(
        stride == 2**times and times <= depth,
        f"stride must be a power of 2 of at most 2^depth = {2**depth} (each block halves at most once), not {stride}",
    )
    return times


def token_count(frames: int, stride: int) -> int:
    """Number of tokens for ``frames`` frames; the last token may cover fewer than ``stride``."""
    return math.ceil(frames / stride)


def zero_padding(x: Float[Tensor, "b c t"], mask: Mask) -> Float[Tensor, "b c t"]:
    """Set padding to zero."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(1), 0)


def downsample_mask(mask: Mask, stride: int) -> Mask:
    """Mask of tokens of ``stride`` frames: True where any of a token's frames is real."""
    if mask is None or stride == 1:
        return mask
    missing = -mask.shape[1] % stride
    return reduce(torch.nn.functional.pad(mask, (0, missing)).float(), "b (n s) -> b n", "max", s=stride) > 0


def mean_pool(x: Float[Tensor, "b c t"], mask: Mask, stride: int) -> Float[Tensor, "b c n"]:
    """Mean over every ``stride`` frames, of the real frames only."""
    if stride == 1:
        return x
    missing = -x.shape[-1] % stride
    if mask is None and not missing:
        return reduce(x, "b c (n s) -> b c n", "mean", s=stride)
    real = x.new_ones(x.shape[0], 1, x.shape[-1]) if mask is None else mask.unsqueeze(1).to(x.dtype)
    total, count = (
        reduce(torch.nn.functional.pad(each, (0, missing)), "b c (n s) -> b c n", "sum", s=stride)
        for each in (x * real, real)
    )
    return total / count.clamp(min=1)


def masked_mean(x: Float[Tensor, "b c t"], mask: Mask) -> Float[Tensor, "b c"]:
    """Mean over real frames."""
    if mask is None:
        return x.mean(-1)
    return zero_padding(x, mask).sum(-1) / mask.sum(1, keepdim=True).clamp(min=1).to(x.dtype)


def instance_norm(x: Float[Tensor, "b c t"], mask: Mask) -> Float[Tensor, "b c t"]:
    """Normalize each channel of each example to zero mean and unit variance over its real frames; padding becomes 0.

    Ulyanov et al. 2016 (arXiv 1607.08022), without an affine map; computed in float32 or wider.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    centered = zero_padding(wide - masked_mean(wide, mask).unsqueeze(-1), mask)
    variance = masked_mean(centered.square(), mask).unsqueeze(-1)
    return (centered * torch.rsqrt(variance + 1e-5)).to(x.dtype)


def align_code(
    features: Features | None,
    stride: int,
    part: str,
    *,
    length: int | None,
    usual: int | None,
    teacher: Tensor | None,
) -> tuple[Float[Tensor, "b n d"], Mask, int]:
    """Align a code to tokens of ``stride`` frames: (b n d), its mask, and the number of frames to decode.

    The number of frames is ``length``, or else that of the data, or of ``teacher``, or ``stride`` per token of the code.

    Args:
        features: the code; with another number of tokens, it is resampled to the nearest.
        stride: frames per token.
        part: name of the part, for the message.
        length: the number of frames asked.
        usual: the number of frames of the data, None if it varies.
        teacher: frames (b t c), of which only the number is used.

    Raises:
        BuildError: there is no code.
    """
    if features is None:
        raise BuildError(f"{part} decodes a code, and there is none")
    count = features.x.shape[1] if features.positions is None else features.length or features.x.shape[1]
    frames = length or usual or (count * stride if teacher is None else teacher.shape[1])
    tokens = token_count(frames, stride)
    return align(zero_invalid_tokens(features), tokens)[0], resampled_mask(features, tokens), frames


def upsample(x: Float[Tensor, "b c n"], times: int) -> Float[Tensor, "b c t"]:
    """Repeat every token ``times`` times."""
    return x if times == 1 else repeat(x, "b c n -> b c (n s)", s=times)


def upsample_mask(mask: Mask, times: int) -> Mask:
    """Repeat every token's mask ``times`` times."""
    return mask if mask is None or times == 1 else repeat(mask, "b n -> b (n s)", s=times)


def time_last(x: Float[Tensor, "b t c"]) -> Float[Tensor, "b c t"]:
    """Move channels to the second axis, as convolutions expect."""
    return rearrange(x, "b t c -> b c t")


def time_first(x: Float[Tensor, "b c t"]) -> Float[Tensor, "b t c"]:
    """Move channels to the last axis."""
    return rearrange(x, "b c t -> b t c")
