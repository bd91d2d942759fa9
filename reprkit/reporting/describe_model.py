"""Describe a model for its report: its parts, their parameters, and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from reprkit.interfaces import Part

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


def describe_model(model: Model, data: Dataset) -> dict[str, Any]:
    """Return plain JSON: ``parts`` (role -> reference and parameters), ``parameters`` of the whole, ``data``."""
    several = len(model.factors) > 1
    parts: dict[str, dict[str, Any]] = {}
    counted: set[nn.Parameter] = set()  # those of the parts before: tied weights count once
    for name, factor in model.factors.items():
        suffix = f" ({name})" if several else ""
        parts[f"encoder{suffix}"] = _entry(str(factor.encoder.reference), factor.encoder, counted)
        parts[f"latent{suffix}"] = _entry(str(factor.latent.reference), factor.latent, counted)
    outputs = model.outputs
    for name, output in outputs.items():
        role = f"decoder ({name})" if len(outputs) > 1 else "decoder"
        parts[role] = _entry(str(output.decoder.reference), output.decoder, counted)
    parts["objective"] = _entry(model.objective.expression, model.objective, counted)
    total = parameters(model)
    adapters = total - sum(entry["parameters"] for entry in parts.values())
    if adapters:
        parts["adapters"] = {"reference": "linear, either side of each latent", "parameters": adapters}
    return {"parts": parts, "parameters": total, "data": data.describe()}


def parameters(module: nn.Module) -> int:
    """Count the parameters of a module, trained or frozen; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _entry(reference: str, part: Part, counted: set[nn.Parameter]) -> dict[str, Any]:
    """Return an entry of ``parts``; its parameters are added to ``counted``."""
    own = set(part.parameters()) - counted
    counted |= own
    return {"reference": reference, "parameters": sum(parameter.numel() for parameter in own)}
