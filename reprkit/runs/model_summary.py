"""The model summary in ``run.json``."""

from __future__ import annotations

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
