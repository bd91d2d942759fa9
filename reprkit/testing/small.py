"""References to parts with small arguments, for tests that try many of them."""

from __future__ import annotations

from reprkit.registry.lookup import Found
from reprkit.registry.sources import read_class

# Sizes by the names that constructors give them; a part gets those that it has.
_SIZES: dict[str, dict[str, int]] = {
    "encoder": {"width": 16, "depth": 1, "heads": 2, "stride": 2, "dim": 4},
    "decoder": {"width": 16, "depth": 1, "heads": 2, "stride": 2, "memory": 16},
    "latent": {
        "dim": 3,
        "bits": 5,
        "classes": 4,
        "groups": 2,
        "codes": 6,
        "codebooks": 2,
        "layers": 2,
        "vocab": 9,
        "width": 8,
        "length": 5,
    },
}


def small_reference(found: Found) -> str:
    """A reference to the part, with small values for those of its sizes that are known by name.

    The arguments are read from the source of the class, so a part that is new gets small ones without being
    listed anywhere.  A part of another kind than encoder, decoder and latent keeps its defaults.
    """
    sizes = _SIZES.get(found.kind, {})
    source = read_class(found.spec.build) if sizes else None
    if source is None:
        return found.name
    names = [each.name for each in source.arguments]
    given = ", ".join(f"{name}={sizes[name]}" for name in names if name in sizes)
    return f"{found.name}({given})" if given else found.name
