"""Square patches of images."""

from __future__ import annotations

import math

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.field_checks import image_shape

MOST_TOKENS = 1024  # the default patch never gives more tokens than this: it raises instead


def patch_grid(field: Field, patch: int | None, part: str) -> tuple[int, int, int]:
    """Return the rows and columns of patches, and the side of a patch.

    Without ``patch`` the side is the largest divisor of the image's size up to a seventh of its shorter side,
    between 2 and 16: 2 for the 8 x 8 digits, 4 for 28 and 32 pixels, 8 for 64, 16 from 112 on.

    Raises:
        BuildError: not an image, or a patch that does not divide it.
    """
    height, width, _ = image_shape(field, part)
    divisor = math.gcd(height, width)
    sides = [side for side in range(1, divisor + 1) if divisor % side == 0]
    if patch is None:
        patch = max(side for side in sides if side <= min(16, max(2, min(height, width) // 7)))
        if height * width // patch**2 > MOST_TOKENS:
            raise BuildError(
                f"no good default patch divides images of {height} x {width}: crop them, or give patch="
            )
    if patch not in sides:
        raise BuildError(
            f"patch={patch} does not divide images of {height} x {width}; "
            f"these do: {', '.join(map(str, sides))}"
        )
    return height // patch, width // patch, patch
