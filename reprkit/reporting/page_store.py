"""Page store ``OUT/figures.npz``: what a page shows besides numbers, from which it can be written again without torch.

The gallery is stored as arrays.  Figures are stored as rendered HTML, so that a plugin's figure can be shown where the plugin is
not installed.  The file holds plain arrays, one of them a JSON text, and is read without pickle.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprkit.data.signature import Field, Signature
from reprkit.errors import TrainingError
from reprkit.reporting.page import Raw, Section
from reprkit.reporting.sanitize import sanitize_html
from reprkit.runs.filenames import FIGURES
from reprkit.runs.metrics import to_json_value
from reprkit.runs.record_check import FIELD
from reprkit.runs.results import Gallery, Results
from reprkit.utils.array_archive import read_arrays
from reprkit.utils.atomic_files import write_bytes
from reprkit.utils.json_shape import Each, Items, Needed, check_shape
from reprkit.utils.untrusted_json import parse_json

FORMAT = 1
_GALLERY = {
    "field": Needed({"x": Needed(FIELD)}),
    "traversals": Needed(Items(Needed(str))),
    "notes": Needed(Items(Needed(str))),
}
_FIGURE = {"text": Needed(str), "title": str, "caption": str, "wide": bool, "detail": bool}
_ABOUT = {
    "parts": Each(Needed({"reference": Needed(str), "width": str, "parameters": Needed(int)})),
    "parameters": int,
    "data": {"name": str, "signature": Each(Needed(FIELD))},
}
_PAGE = {
    "title": str,
    "verdict": str,
    "baselines": Each(Needed(Each(Needed(dict)))),
    "groups": Each(Needed(Items(Needed(str)))),
    "sections": Items(Needed({"title": Needed(str), "text": str, "html": Needed(str)})),
    "runs": Needed(
        Each(
            Needed(
                {
                    "about": Needed(_ABOUT),
                    "folder": str,
                    "figures": Needed(Each(Needed(Each(Needed(_FIGURE))))),
                    "gallery": _GALLERY,
                    "galleries": Each(Needed(_GALLERY)),
                }
            )
        )
    ),
}
_MAX_EXAMPLES, _MAX_VALUES = 4096, 2**25
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
    groups: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # runs that differ in their seed: name -> runs


def render_figures(results: Results) -> Results:
    """The same results with rendered figures."""
    figures = {
        evaluator: {
            name: RenderedFigure(
                sanitize_html(figure.html()),
                figure.title,
                figure.caption,
                figure.wide,
                getattr(figure, "detail", False),
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
    return Section(section.title, [Raw(sanitize_html(section.html()))], section.text)


def write_page_store(out: Path, content: PageContent, name: str = FIGURES) -> Path:
    """Write the page store atomically, to ``OUT/NAME``.

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
        "groups": {name: list(members) for name, members in content.groups.items()},
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
    return write_bytes(out / name, buffer.getvalue())


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


def read_page_store(out: Path, name: str = FIGURES) -> PageContent | None:
    """Read the content of an earlier page, without numbers, which are in ``results.json``; None if there is no ``OUT/NAME``.

    HTML in the file is reduced to what figures consist of, and arrays must be what the gallery says that they are.

    Raises:
        TrainingError: the file is damaged, or of a newer format.
    """
    path = out / name
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path)
        about = parse_json(str(arrays["page"]))
        check_shape(about, {"format": Needed(int)})
        if about["format"] > FORMAT:
            raise TrainingError(f"{path} was written by a newer reprkit")
        check_shape(about, _PAGE)
        _check_columns(about.get("columns"))
        runs = {
            name: _run_from_json(record, f"{index}/", arrays, out)
            for index, (name, record) in enumerate(about["runs"].items())
        }
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path} is damaged: {error}") from error
    sections = [
        Section(section["title"], [Raw(sanitize_html(section["html"]))], section.get("text") or "")
        for section in about.get("sections") or ()
    ]
    return PageContent(
        runs,
        about.get("title"),
        about.get("verdict") or "",
        about.get("columns"),
        about.get("baselines") or {},
        sections,
        about.get("groups") or {},
    )


def _check_columns(columns: Any) -> None:
    check_shape(columns, Each(Needed(str)) if isinstance(columns, dict) else Items(Needed(str)), "columns")


def _gallery_from_json(stored: Mapping[str, Any], prefix: str, arrays: Mapping[str, np.ndarray]) -> Gallery:
    field = Signature.from_json(stored["field"])["x"]
    examples = {name: arrays[prefix + name] for name in _ARRAYS if prefix + name in arrays}
    if not {"inputs", "outputs"} <= examples.keys():
        raise ValueError("a gallery has no inputs and outputs")
    traversals = {
        name: arrays[f"{prefix}traversal/{index}"] for index, name in enumerate(stored["traversals"])
    }
    for name, values in (*examples.items(), *traversals.items()):
        _check_array(name, values, field)
    counts = [len(examples[name]) for name in ("inputs", "outputs", "lengths") if name in examples]
    if len(set(counts)) > 1 or len({len(values) for values in traversals.values()}) > 1:
        raise ValueError("its galleries have rows of different lengths")
    return Gallery(field=field, traversals=traversals, notes=stored["notes"], **examples)


def _check_array(name: str, values: np.ndarray, field: Field) -> None:
    """Require that a gallery's array holds examples of the field: (m ...), or their lengths (m,)."""
    shape: tuple[int | None, ...] = () if name == "lengths" else field.shape
    kinds = "iu" if name == "lengths" or field.discrete else "biuf"
    if values.dtype.kind not in kinds or values.ndim != 1 + len(shape) or not values.size:
        raise ValueError(f"{name} is no array of examples")
    if len(values) > _MAX_EXAMPLES or values.size > _MAX_VALUES:
        raise ValueError(f"{name} has {len(values):,} examples, too many for a page")
    if any(size not in (None, own) for size, own in zip(shape, values.shape[1:], strict=True)):
        raise ValueError(f"{name} has examples of {values.shape[1:]}, and the field is {shape}")
    if name == "lengths" and values.min() < 0:
        raise ValueError("a length is negative")


def _run_from_json(
    record: Mapping[str, Any], prefix: str, arrays: Mapping[str, np.ndarray], out: Path
) -> Results:
    figures = {
        evaluator: {
            name: RenderedFigure(
                sanitize_html(figure["text"]),
                figure.get("title") or "",
                figure.get("caption") or "",
                bool(figure.get("wide")),
                bool(figure.get("detail")),
            )
            for name, figure in group.items()
        }
        for evaluator, group in record["figures"].items()
    }
    results = Results(figures=figures, about=record["about"])
    if record.get("gallery") is not None:
        results.galleries[""] = _gallery_from_json(record["gallery"], prefix, arrays)
    for output, stored in (record.get("galleries") or {}).items():
        results.galleries[output] = _gallery_from_json(stored, f"{prefix}{output}/", arrays)
    results.folder = None if record.get("folder") is None else _folder_of_run(out, record["folder"])
    return results


def _folder_of_run(out: Path, folder: str) -> Path | None:
    """Return the folder of a compared run, which is below the page's folder or beside it; None for any other."""
    path = (out / folder).resolve()
    return path if path.is_relative_to(out.resolve().parent) else None
