"""A small table as text for a terminal, and as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_CELL = "text-align:left;padding:0.15em 1em 0.15em 0"


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return the rows below the headings, the first ``left`` columns aligned to the left and the others to the right."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))]
    texts = []
    for line in lines:
        cells = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        texts.append("  ".join(cells).rstrip())
    return "\n".join([texts[0], "─" * sum(widths, 2 * (len(widths) - 1)), *texts[1:]])


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return the table as HTML, all texts escaped; the caption is a line above it."""
    head = "".join(f'<th style="{_CELL}">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    above = f"<p>{escape(caption)}</p>" if caption else ""
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
