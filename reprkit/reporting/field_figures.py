"""Figures of a field's values, chosen by the field's kind: images, maps, curves, heat maps or symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reprkit.data.signature import Field
from reprkit.reporting.drawing import is_signed
from reprkit.reporting.figures import Curves, Figure, Images, Matrix, Symbols

if TYPE_CHECKING:
    from reprkit.runs.results import Gallery

_MAX_CURVES = 3  # channels of a sequence that is drawn as curves; one with more is drawn as a heat map
_FEW = 4  # examples shown, where each takes much space
_MAX_SYMBOLS = 64  # symbols shown of a text


def exhibit(
    title: str,
    field: Field,
    rows: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
    lengths: np.ndarray | None = None,
    caption: str = "",
) -> list[Figure]:
    """Figures that compare rows of examples, such as inputs and outputs.

    Args:
        title: of the figure.
        field: description of the values.
        rows: label -> examples (m ...), channels last, as in a batch.
        names: of the examples; "example 1" and so on when None.
        lengths: number of steps of each example that are not padding (m,).
        caption: a line under the title.
    """
    names = names or [f"example {number}" for number in range(1, 1 + max(map(len, rows.values()), default=0))]
    if field.kind == "image":
        return [Images(title=title, rows=rows, span=field.range, caption=caption)]
    if field.kind == "map":
        cells = {label: row[..., None].astype(np.float64) for label, row in rows.items()}
        span = (0.0, float((field.vocab or 2) - 1))
        return [Images(title=title, rows=cells, span=span, colours="viridis", caption=caption)]
    if field.kind == "vector":
        span = field.range or _first_row_range(rows)
        return [
            Matrix(
                title=_join_title(title, label),
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
            Symbols(
                title=title,
                rows={k: _symbols(v, lengths) for k, v in rows.items()},
                caption=_join_sentences(caption, _cut_text(rows, lengths)),
            )
        ]
    if field.channels > _MAX_CURVES:
        maps = {label: _frames_to_images(row[:_FEW], lengths) for label, row in rows.items()}
        span = field.range or _first_row_range(maps)
        return [
            Images(
                title=title,
                rows=maps,
                span=span,
                colours="signed" if is_signed(*span) else "viridis",
                caption=_join_sentences(caption, _shown_text(rows, _FEW)),
                cell=11,
            )
        ]
    caption = _join_sentences(caption, _shown_text(rows, _FEW))
    return _curves(title, field, rows, names, lengths, caption)


def traversal_figures(gallery: Gallery, title: str = "") -> list[Figure]:
    """Figures of a gallery's latent traversals."""
    traversals = gallery.traversals
    if not traversals:
        return []
    if gallery.field.kind == "map":
        return exhibit(title, gallery.field, traversals)
    if gallery.field.kind == "image":
        return [Images(title=title, rows=traversals, span=gallery.field.range, cell=2.2, wide=False)]
    steps = next(iter(traversals.values())).shape[0]
    columns = {"−2 sd": 0, "as it is": steps // 2, "+2 sd": steps - 1}
    rows = {label: np.stack([row[step] for row in traversals.values()]) for label, step in columns.items()}
    return exhibit(title, gallery.field, rows, names=list(traversals))


def _curves(
    title: str,
    field: Field,
    rows: Mapping[str, np.ndarray],
    names: Sequence[str],
    lengths: np.ndarray | None,
    caption: str,
) -> list[Figure]:
    figures: list[Figure] = []
    for number, name in enumerate(names[:_FEW]):
        for channel in range(field.channels):
            lines = {}
            for label, row in rows.items():
                values = row[number][: None if lengths is None else int(lengths[number])]
                lines[label] = (list(range(len(values))), values[:, channel].tolist())
            suffix = f", channel {channel}" if field.channels > 1 else ""
            figures.append(
                Curves(
                    title=_join_title(title, f"{name}{suffix}"),
                    lines=lines,
                    xlabel="step",
                    log=False,
                    caption=caption,
                )
            )
    return figures


def _symbols(row: np.ndarray, lengths: np.ndarray | None) -> list[list[int]]:
    if row.ndim == 1:
        return [[int(symbol)] for symbol in row]
    if lengths is None:
        ends = [_MAX_SYMBOLS] * len(row)
    else:
        ends = [min(_MAX_SYMBOLS, int(length)) for length in lengths]
    return [example[:end].tolist() for example, end in zip(row, ends, strict=False)]


def _frames_to_images(row: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Frames (m t c) as images (m c t 1): time to the right, the first channel at the bottom."""
    row = row.astype(np.float64)
    for number, example in enumerate(row if lengths is not None else ()):
        example[int(lengths[number]) :] = np.nan  # type: ignore[index]
    return row.transpose(0, 2, 1)[:, ::-1, :, None]


def _join_title(title: str, part: str) -> str:
    return f"{title}: {part}" if title else part


def _first_row_range(rows: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Lowest and highest value of the first row, the targets, which set the scale of all rows."""
    first = next(iter(rows.values()))
    finite = first[np.isfinite(first)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _shown_text(rows: Mapping[str, np.ndarray], shown: int) -> str:
    """A sentence if fewer examples are drawn than there are."""
    count = max(map(len, rows.values()), default=0)
    return f"The first {shown} of {count} examples." if count > shown else ""


def _cut_text(rows: Mapping[str, np.ndarray], lengths: np.ndarray | None) -> str:
    """A sentence if texts are cut."""
    longest = max((row.shape[1] for row in rows.values() if row.ndim > 1), default=0)
    longest = longest if lengths is None or not len(lengths) else min(longest, int(lengths.max()))
    return f"The first {_MAX_SYMBOLS} of up to {longest:,} symbols." if longest > _MAX_SYMBOLS else ""


def _join_sentences(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
