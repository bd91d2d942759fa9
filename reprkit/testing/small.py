"""References to parts with small arguments, for tests over many parts."""

from __future__ import annotations

from reprkit.registry.lookup import FoundPart
from reprkit.registry.registry import Registry
from reprkit.registry.sources import read_class

# Values by argument name; a part gets those that its constructor has.
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
        "k": 2,
        "vocab": 9,
        "width": 8,
        "length": 5,
    },
    "objective": {"steps": 20},
}


def small_reference(found: FoundPart) -> str:
    """Return a reference to the part, with small values for the size arguments known by name.

    The arguments are read from the source of the class, so that new parts need not be listed.  Parts of other
    kinds keep their defaults.
    """
    sizes = _SIZES.get(found.kind, {})
    source = read_class(found.spec.build) if sizes else None
    if source is None:
        return found.name
    names = [argument.name for argument in source.arguments]
    arguments = ", ".join(f"{name}={sizes[name]}" for name in names if name in sizes)
    return f"{found.name}({arguments})" if arguments else found.name


def small_references(kind: str) -> list[str]:
    """Return references to all parts of a kind that come with reprkit, see ``small_reference``."""
    return [small_reference(found) for found in Registry(installed=False).specs(kind)]
