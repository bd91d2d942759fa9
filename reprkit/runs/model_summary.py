"""What a run was made of, for ``run.json``; and whether a resumed one still is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any


def model_summary(model: Any) -> dict[str, Any]:
    """A model's parts as references, for ``run.json``."""
    return {
        "factors": {
            name: {
                "encoder": str(path.encoder.reference),
                "latent": str(path.latent.reference),
                "input": path.input,
                "pool": path.pool,
            }
            for name, path in model.factors.items()
        },
        "decoder": None if model.decoder is None else str(model.decoder.reference),
        "objective": model.objective.expression,
        "weights": dict(model.weights),
    }


def warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Going on with other data, batch or seed is possible, but it is another run than it would have been."""
    other = [
        f"{name} {before.get(name)} → {now.get(name)}"
        for name in ("batch", "seed", "buckets")
        if (before.get(name) or False) != (now.get(name) or False)
    ]
    sizes = [(each.get("data") or {}).get("size") for each in (before, now)]
    if sizes[0] != sizes[1]:
        other.append(f"data of {sizes[0]} → {sizes[1]} examples")
    if other:
        warnings.warn(
            f"resumed with another {', '.join(other)}: the order of examples is a new one from here on",
            stacklevel=5,
        )
