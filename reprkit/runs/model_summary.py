"""The model summary in ``run.json``, and a warning when a run is resumed with changed settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any


def model_summary(model: Any) -> dict[str, Any]:
    """Return a model's parts as references, for ``run.json``."""
    return {
        "factors": {
            name: {
                "encoder": str(factor.encoder.reference),
                "latent": str(factor.latent.reference),
                "input": factor.input,
                "pool": factor.pool,
            }
            for name, factor in model.factors.items()
        },
        **_decoders(model),
        "objective": model.objective.expression,
        "weights": dict(model.weights),
    }


def _decoders(model: Any) -> dict[str, Any]:
    outputs = list(model.outputs.values())
    if len(outputs) < 2:
        return {"decoder": str(outputs[0].decoder.reference) if outputs else None}
    return {
        "outputs": {
            output.name: {
                "decoder": str(output.decoder.reference),
                "field": output.field_name,
                "reads": list(output.reads),
            }
            for output in outputs
        }
    }


def warn_of_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn if a run is resumed with changed data, batch size or seed: that is allowed, but the order of examples changes."""
    changes = [
        f"{name} {before.get(name)} → {now.get(name)}"
        for name in ("batch", "seed", "buckets", "groups", "mates")
        if (before.get(name) or False) != (now.get(name) or False)
    ]
    sizes = [(settings.get("data") or {}).get("size") for settings in (before, now)]
    if sizes[0] != sizes[1]:
        changes.append(f"data of {sizes[0]} → {sizes[1]} examples")
    if changes:
        warnings.warn(
            f"resumed with another {', '.join(changes)}: from here on the order of examples differs",
            stacklevel=4,
        )
