"""Build lines of ``metrics.jsonl`` from the losses of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reprkit.runs.metrics import to_json_value
from reprkit.types import Losses
from reprkit.utils import collectives


def average_losses(pieces: Sequence[Losses]) -> Losses:
    """Average the losses over the micro-batches or turns of a step; each name over those that have it, as turns have their own."""
    if len(pieces) == 1:
        return pieces[0]
    averaged: dict[str, dict[str, Tensor]] = {}
    for kind in ("terms", "metrics"):
        found: dict[str, list[Tensor]] = {}
        for piece in pieces:
            for name, value in getattr(piece, kind).items():
                found.setdefault(name, []).append(value.float())
        averaged[kind] = {name: torch.stack(values).mean(0) for name, values in found.items()}
    return Losses(total=torch.stack([piece.total.detach() for piece in pieces]).mean(0), **averaged)


def metrics_line(
    step: int,
    losses: Losses | None,
    results: Mapping[str, Any] | None,
    more: Mapping[str, Any],
    probes: Mapping[str, Any] | None = None,
    **fixed: Any,
) -> dict[str, Any]:
    """Build a line: losses averaged over ranks and copied from the device at once, results and other numbers unchanged."""
    line: dict[str, Any] = {"step": step, **fixed}
    if losses is not None:
        names = [("loss", "")] + [
            (kind, name) for kind in ("terms", "metrics") for name in sorted(getattr(losses, kind))
        ]
        tensors = [losses.total if kind == "loss" else getattr(losses, kind)[name] for kind, name in names]
        for (kind, name), value in zip(names, average_scalars(tensors), strict=True):
            if kind == "loss":
                line["loss"] = value
            else:
                line.setdefault(kind, {})[name] = value
    if more:
        line["metrics"] = {**line.get("metrics", {}), **to_json_value(more)}
    if results:
        line["results"] = to_json_value(results)
    if probes:
        line["probes"] = to_json_value(probes)
    return line


def average_scalars(tensors: Sequence[Tensor]) -> list[float | None]:
    """Average scalar tensors over ranks and return them as numbers; non-finite values become None."""
    values = torch.stack([tensor.detach().float().reshape(()) for tensor in tensors])
    values = collectives.sum_over_ranks(values) / collectives.world_size()
    return [to_json_value(value) for value in values.tolist()]
