"""Cutting images into square patches."""

from __future__ import annotations

import math

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.field_checks import image_shape

MOST_TOKENS = 1024  # a default patch that would leave more tokens than this is not chosen in silence


def patch_grid(field: Field, patch: int | None, part: str) -> tuple[int, int, int]:
    """Rows and columns of patches, and the side of a patch.

    Without ``patch`` the side is the largest divisor of the image up to a seventh of its shorter side,
    between 2 and 16: 2 for the 8 x 8 digits, 4 for 28 and 32 pixels, 8 for 64, 16 from 112 on.

    Raises:
        BuildError: no image, or a patch that does not divide it.
    """
    height, width, _ = image_shape(field, part)
    both = math.gcd(height, width)
    fits = [side for side in range(1, both + 1) if both % side == 0]
    if patch is None:
        patch = max(side for side in fits if side <= min(16, max(2, min(height, width) // 7)))
        if height * width // patch**2 > MOST_TOKENS:
            raise BuildError(
                f"no good default patch divides images of {height} x {width}: crop them, or give patch="
            )
    if patch not in fits:
        raise BuildError(
            f"patch={patch} does not divide images of {height} x {width}; "
            f"these do: {', '.join(map(str, fits))}"
        )
    return height // patch, width // patch, patch
