"""What a report says of a model: its parts, their parameters, and the data it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from reprkit.interfaces import Part

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


def describe_model(model: Model, data: Dataset) -> dict[str, Any]:
    """Plain JSON: ``parts`` (role -> reference and parameters), ``parameters`` of the whole, ``data``."""
    several = len(model.factors) > 1
    parts: dict[str, dict[str, Any]] = {}
    for name, path in model.factors.items():
        where = f" ({name})" if several else ""
        parts[f"encoder{where}"] = _entry(path.encoder)
        parts[f"latent{where}"] = _entry(path.latent)
    if model.decoder is not None:
        parts["decoder"] = _entry(model.decoder)
    parts["objective"] = {"reference": model.objective.expression, "parameters": parameters(model.objective)}
    total = parameters(model)
    adapters = total - sum(each["parameters"] for each in parts.values())
    if adapters:
        parts["adapters"] = {"reference": "linear, either side of each latent", "parameters": adapters}
    return {"parts": parts, "parameters": total, "data": data.describe()}


def parameters(module: nn.Module) -> int:
    """How many numbers are trained or frozen in it; shared ones once."""
    return sum(each.numel() for each in module.parameters())


def _entry(part: Part) -> dict[str, Any]:
    return {"reference": str(part.reference), "parameters": parameters(part)}
