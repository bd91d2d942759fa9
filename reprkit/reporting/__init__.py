"""Reports: one self-contained HTML page per run (``report``), and the building blocks for sections of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reprkit.reporting.field_figures import exhibit
    from reprkit.reporting.figures import Bars, Curves, Figure, Images, Matrix, Scatter, Symbols
    from reprkit.reporting.page import Listing, Note, Page, Section, Table, Tiles
    from reprkit.reporting.sections import compare
    from reprkit.reporting.sounds import Sounds
    from reprkit.reporting.writer import report

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
    "Sounds",
    "Symbols",
    "Table",
    "Tiles",
    "compare",
    "exhibit",
    "report",
]

# Lazily: evaluators import the figures from this package, and should not load the page with them.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "figures": ["Bars", "Curves", "Figure", "Images", "Matrix", "Scatter", "Symbols"],
        "page": ["Listing", "Note", "Page", "Section", "Table", "Tiles"],
        "sounds": ["Sounds"],
        "sections": ["compare"],
        "field_figures": ["exhibit"],
        "writer": ["report"],
    },
)
