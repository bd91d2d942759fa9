"""Build lines of ``metrics.jsonl`` from the losses of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reprkit.runs.metrics import to_json_value
from reprkit.types import Losses
from reprkit.utils import collectives


def join_losses(pieces: Sequence[tuple[str, Losses]]) -> Losses:
    """Join the losses of a step, given as (turn, losses) of each micro-batch and turn.

    A term or metric is the mean over the pieces that have it, and the total the mean over all pieces.  With several turns the
    totals of each are metrics, too: ``main_loss``, ``critic_loss``.
    """
    if len(pieces) == 1:
        return pieces[0][1]
    found: dict[str, dict[str, list[Tensor]]] = {"terms": {}, "metrics": {}}
    totals: dict[str, list[Tensor]] = {}
    for turn, losses in pieces:
        totals.setdefault(turn, []).append(losses.total.detach())
        for kind, named in found.items():
            for name, value in getattr(losses, kind).items():
                named.setdefault(name, []).append(value.float())
    averaged = {
        kind: {name: torch.stack(values).mean(0) for name, values in named.items()}
        for kind, named in found.items()
    }
    if len(totals) > 1:
        of_turns = {f"{turn}_loss": torch.stack(values).mean(0) for turn, values in totals.items()}
        averaged["metrics"] = of_turns | averaged["metrics"]
    return Losses(total=torch.stack([losses.total.detach() for _, losses in pieces]).mean(0), **averaged)


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
