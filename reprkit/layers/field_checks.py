"""Checks of dependent arguments and of data fields that several parts share."""

from __future__ import annotations

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.interfaces import require


def check_heads(heads: int, width: int) -> None:
    """Raise PartArgumentError unless ``heads`` divides ``width``."""
    require(width % heads == 0, f"heads must divide width: {heads} heads do not divide a width of {width}")


MAX_ATTENTION = 2**15  # tokens; the attention of so many has 2**30 weights a head


def check_attention(tokens: int, part: str) -> None:
    """Raise unless attention over so many tokens is practical: its cost grows with their square.

    Raises:
        BuildError: more than ``MAX_ATTENTION`` tokens.
    """
    if tokens > MAX_ATTENTION:
        raise BuildError(
            f"{part}: attention over {tokens:,} tokens computes {tokens:,} x {tokens:,} weights; the limit is {MAX_ATTENTION:,}\n"
            "  of sound, train on log-mel frames, 62 a second: rk.dataset('recordings/') with reprkit-audio\n"
            "  else cut shorter windows: audio(root, seconds=0.1), length=; or use gru"
        )


def image_shape(field: Field, part: str) -> tuple[int, int, int]:
    """Return height, width and channels of an image field; of a map of symbols, 1 channel.

    Raises:
        BuildError: the field is neither an image nor a map.
    """
    if not field.planar:
        raise BuildError(
            f"{part} is for images (h w c) and maps (h w), and x is {field.kind} data: use mlp, gru or transformer"
        )
    height, width = (int(size or 0) for size in field.shape[:2])
    return height, width, field.channels


def flat_size(field: Field, part: str) -> int:
    """Return the number of values of one example.

    Raises:
        BuildError: the field's length varies.
    """
    size = 1
    for length in field.shape:
        if length is None:
            raise BuildError(f"{part} needs a fixed length, and that of x varies: use gru or transformer")
        size *= length
    return size


def require_token_count(tokens: int | None, part: str) -> int:
    """Return the number of tokens of the code, for decoders whose weights depend on it.

    Raises:
        BuildError: the number varies, or there is no code.
    """
    if tokens is None:
        raise BuildError(
            f"{part} needs a code with a known number of tokens, and here it varies or there is none: "
            "pool the factor (pool=True gives one token), or use gru or transformer"
        )
    return tokens
