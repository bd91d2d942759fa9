"""Describe a model for its report: its parts, their parameters, and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprkit.models.part_table import count_parameters, part_rows

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


def describe_model(model: Model, data: Dataset) -> dict[str, Any]:
    """Return plain JSON: ``parts`` (role -> reference, width and parameters), ``parameters`` of the whole, ``data``."""
    parts = {
        row.role: {"reference": row.reference, "width": row.width, "parameters": row.parameters}
        for row in part_rows(model)
    }
    return {"parts": parts, "parameters": count_parameters(model), "data": data.describe()}
