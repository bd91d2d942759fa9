"""One self-contained HTML page a run: ``report``, and the building blocks for sections of one's own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.reporting.exhibits import exhibit
    from reprkit.reporting.figures import Bars, Curves, Figure, Images, Matrix, Scatter, Symbols
    from reprkit.reporting.page import Listing, Note, Page, Section, Table, Tiles
    from reprkit.reporting.sections import compare
    from reprkit.reporting.writer import report

# Lazily: evaluators import the figures through this package, and should not bring the page along.
_HOMES = {
    "Bars": "figures",
    "Curves": "figures",
    "Figure": "figures",
    "Images": "figures",
    "Listing": "page",
    "Matrix": "figures",
    "Note": "page",
    "Page": "page",
    "Scatter": "figures",
    "Section": "page",
    "Symbols": "figures",
    "Table": "page",
    "Tiles": "page",
    "compare": "sections",
    "exhibit": "exhibits",
    "report": "writer",
}

__all__ = [
    "Bars",
    "Curves",
    "Figure",
    "Images",
    "Listing",
    "Matrix",
    "Note",
    "Page",
    "Scatter",
    "Section",
    "Symbols",
    "Table",
    "Tiles",
    "compare",
    "exhibit",
    "report",
]


def __getattr__(name: str) -> Any:
    """The public names, from their modules."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
