"""Figures of a field's values, by its kind: pictures, curves, heat maps or text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reprkit.data.signature import Field
from reprkit.reporting.figures import Curves, Figure, Images, Matrix, Symbols

if TYPE_CHECKING:
    from reprkit.runs.results import Gallery

_CHANNELS = 3  # a sequence of more is shown as a heat map
_FEW = 4  # examples, where each takes much room
_SYMBOLS = 64  # of a text


def exhibit(
    title: str,
    field: Field,
    rows: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
    lengths: np.ndarray | None = None,
    caption: str = "",
) -> list[Figure]:
    """Figures that set rows of examples against each other, such as inputs and outputs.

    Args:
        title: of the figure.
        field: what the values are.
        rows: label -> examples (m ...), channels last, as a batch holds them.
        names: of the examples; "example 1" and so on.
        lengths: how many steps of each example are real (m,).
        caption: a line under the title.
    """
    names = names or [f"example {number}" for number in range(1, 1 + max(map(len, rows.values()), default=0))]
    if field.kind == "image":
        return [Images(title=title, rows=rows, span=field.range, caption=caption)]
    if field.kind == "vector":
        span = field.range or _common(rows)
        return [
            Matrix(
                title=_joined(title, label),
                values=row,
                xlabel="dimension",
                ylabel=names[0].rpartition(" ")[0],
                span=span,
                caption=caption,
            )
            for label, row in rows.items()
        ]
    if field.kind in ("tokens", "label"):
        return [
            Symbols(title=title, rows={k: _symbols(v, lengths) for k, v in rows.items()}, caption=caption)
        ]
    if field.channels > _CHANNELS:
        maps = {label: _upright(row[:_FEW], lengths) for label, row in rows.items()}
        return [Images(title=title, rows=maps, span=field.range, colours="viridis", caption=caption, cell=11)]
    return _lines(title, field, rows, names, lengths, caption)


def traversal(kept: Gallery, title: str = "") -> list[Figure]:
    """Figures of a gallery's latent traversals."""
    moved = kept.traversals
    if not moved:
        return []
    if kept.field.kind == "image":
        return [Images(title=title, rows=moved, span=kept.field.range, cell=2.2, wide=False)]
    steps = next(iter(moved.values())).shape[0]
    shown = {"−2 sd": 0, "as it is": steps // 2, "+2 sd": steps - 1}
    rows = {label: np.stack([each[place] for each in moved.values()]) for label, place in shown.items()}
    return exhibit(title, kept.field, rows, names=list(moved))


def _lines(
    title: str,
    field: Field,
    rows: Mapping[str, np.ndarray],
    names: Sequence[str],
    lengths: np.ndarray | None,
    caption: str,
) -> list[Figure]:
    made: list[Figure] = []
    for number, name in enumerate(names[:_FEW]):
        for channel in range(field.channels):
            lines = {}
            for label, row in rows.items():
                values = row[number][: None if lengths is None else int(lengths[number])]
                lines[label] = (list(range(len(values))), values[:, channel].tolist())
            where = f", channel {channel}" if field.channels > 1 else ""
            made.append(
                Curves(
                    title=_joined(title, f"{name}{where}"),
                    lines=lines,
                    xlabel="step",
                    log=False,
                    caption=caption,
                )
            )
    return made


def _symbols(row: np.ndarray, lengths: np.ndarray | None) -> list[list[int]]:
    if row.ndim == 1:
        return [[int(each)] for each in row]
    ends = [_SYMBOLS] * len(row) if lengths is None else [min(_SYMBOLS, int(each)) for each in lengths]
    return [each[:end].tolist() for each, end in zip(row, ends, strict=False)]


def _upright(row: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Frames (m t c) as pictures (m c t 1): time to the right, the first channel at the bottom."""
    row = row.astype(np.float64)
    for number, each in enumerate(row if lengths is not None else ()):
        each[int(lengths[number]) :] = np.nan  # type: ignore[index]
    return row.transpose(0, 2, 1)[:, ::-1, :, None]


def _joined(title: str, part: str) -> str:
    return f"{title}: {part}" if title else part


def _common(rows: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The first row's extremes: what is to be matched sets the scale."""
    first = next(iter(rows.values()))
    return float(first.min()), float(first.max())
