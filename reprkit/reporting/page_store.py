"""Page store ``OUT/figures.npz``: what a page shows besides numbers, from which it can be written again without torch.

The gallery is stored as arrays.  Figures are stored as rendered HTML, so that a plugin's figure can be shown where the plugin is
not installed.  The file holds plain arrays, one of them a JSON text, and is read without pickle.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.data.signature import Signature
from reprkit.errors import ReprkitError, TrainingError
from reprkit.reporting.page import Raw, Section
from reprkit.runs.filenames import FIGURES
from reprkit.runs.metrics import to_json_value
from reprkit.runs.results import Gallery, Results
from reprkit.utils.atomic_files import write_bytes

FORMAT = 1
_ARRAYS = ("inputs", "outputs", "lengths", "samples")


@dataclass
class RenderedFigure:
    """A figure as rendered HTML."""

    text: str
    title: str = ""
    caption: str = ""
    wide: bool = False
    detail: bool = False

    def html(self) -> str:
        """The figure's HTML element."""
        return self.text


@dataclass
class PageContent:
    """The arguments of ``rk.report`` besides the folder: results by name, and the options of the page."""

    runs: dict[str, Results] = field(default_factory=dict)
    title: str | None = None
    verdict: str = ""
    columns: Mapping[str, str] | Sequence[str] | None = None
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sections: Sequence[Section] = ()


def render_figures(results: Results) -> Results:
    """The same results with rendered figures."""
    figures = {
        evaluator: {
            name: RenderedFigure(
                figure.html(), figure.title, figure.caption, figure.wide, getattr(figure, "detail", False)
            )
            for name, figure in group.items()
        }
        for evaluator, group in results.figures.items()
    }
    rendered = Results(results, figures=figures, about=results.about)
    rendered.galleries = results.galleries
    rendered.folder = results.folder
    return rendered


def render_section(section: Section) -> Section:
    """The section with its blocks as one block of rendered HTML."""
    return Section(section.title, [Raw(section.html())], section.text)


def write_page_store(out: Path, content: PageContent) -> Path:
    """Write the page store atomically.

    Raises:
        OSError: it cannot be written; an older file is unchanged.
    """
    arrays: dict[str, np.ndarray] = {}
    about = {
        "format": FORMAT,
        "title": content.title,
        "verdict": content.verdict,
        "columns": content.columns,
        "baselines": to_json_value(content.baselines),
        "sections": [
            {"title": section.title, "text": section.text, "html": section.html()}
            for section in content.sections
        ],
        "runs": {
            name: _run_to_json(results, f"{index}/", arrays, out)
            for index, (name, results) in enumerate(content.runs.items())
        },
    }
    arrays["page"] = np.array(json.dumps(about, default=str))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return write_bytes(out / FIGURES, buffer.getvalue())


def _run_to_json(results: Results, prefix: str, arrays: dict[str, np.ndarray], out: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "about": results.about,
        "folder": None if results.folder is None else os.path.relpath(results.folder, out),
        "figures": {
            evaluator: {name: vars(figure) for name, figure in group.items()}
            for evaluator, group in results.figures.items()
        },
    }
    for output, gallery in results.galleries.items():
        if output:
            stored = _gallery_to_json(gallery, f"{prefix}{output}/", arrays)
            record.setdefault("galleries", {})[output] = stored
        else:
            record["gallery"] = _gallery_to_json(gallery, prefix, arrays)
    return record


def _gallery_to_json(gallery: Gallery, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    for name in _ARRAYS:
        if getattr(gallery, name) is not None:
            arrays[prefix + name] = np.asarray(getattr(gallery, name))
    for index, values in enumerate(gallery.traversals.values()):
        arrays[f"{prefix}traversal/{index}"] = np.asarray(values)
    return {
        "field": Signature({"x": gallery.field}).to_json(),
        "traversals": list(gallery.traversals),
        "notes": gallery.notes,
    }


def read_page_store(out: Path) -> PageContent | None:
    """Read the content of an earlier page, without numbers, which are in ``results.json``; None if there is no page store.

    Raises:
        TrainingError: the file is damaged, or of a newer format.
    """
    path = out / FIGURES
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["page"]))
            if about["format"] > FORMAT:
                raise TrainingError(f"{path} was written by a newer reprkit")
            runs = {
                name: _run_from_json(record, f"{index}/", arrays, out)
                for index, (name, record) in enumerate(about["runs"].items())
            }
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, ReprkitError):
            raise
        raise TrainingError(f"{path} is damaged: {error}") from error
    sections = [
        Section(section["title"], [Raw(section["html"])], section["text"]) for section in about["sections"]
    ]
    return PageContent(runs, about["title"], about["verdict"], about["columns"], about["baselines"], sections)


def _gallery_from_json(stored: Mapping[str, Any], prefix: str, arrays: Any) -> Gallery:
    examples = {name: arrays[prefix + name] for name in _ARRAYS if prefix + name in arrays}
    traversals = {
        name: arrays[f"{prefix}traversal/{index}"] for index, name in enumerate(stored["traversals"])
    }
    field = Signature.from_json(stored["field"])["x"]
    return Gallery(field=field, traversals=traversals, notes=stored["notes"], **examples)


def _run_from_json(record: Mapping[str, Any], prefix: str, arrays: Any, out: Path) -> Results:
    figures = {
        evaluator: {name: RenderedFigure(**figure) for name, figure in group.items()}
        for evaluator, group in record["figures"].items()
    }
    results = Results(figures=figures, about=record["about"])
    if record.get("gallery") is not None:
        results.galleries[""] = _gallery_from_json(record["gallery"], prefix, arrays)
    for output, stored in record.get("galleries", {}).items():
        results.galleries[output] = _gallery_from_json(stored, f"{prefix}{output}/", arrays)
    results.folder = None if record["folder"] is None else out / record["folder"]
    return results
