"""What a page shows besides numbers, kept in ``OUT/figures.npz``: with it the page can be made again, by anybody, without torch.

Arrays of the gallery stay arrays; figures are kept as drawn, so that a plugin's own figure comes back where the plugin is not
installed.  One file of plain arrays, one of them a JSON text; it is read without pickle.
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
class Drawn:
    """A figure or a block as the element that it became."""

    text: str
    title: str = ""
    caption: str = ""
    wide: bool = False
    detail: bool = False

    def html(self) -> str:
        """The element."""
        return self.text


@dataclass
class Made:
    """How a page was asked for: what ``rk.report`` was given besides the folder."""

    runs: dict[str, Results] = field(default_factory=dict)
    title: str | None = None
    verdict: str = ""
    columns: Mapping[str, str] | Sequence[str] | None = None
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sections: Sequence[Section] = ()


def drawn(results: Results) -> Results:
    """The same results with their figures drawn."""
    figures = {
        evaluator: {
            name: Drawn(each.html(), each.title, each.caption, each.wide, getattr(each, "detail", False))
            for name, each in found.items()
        }
        for evaluator, found in results.figures.items()
    }
    made = Results(results, figures=figures, gallery=results.gallery, about=results.about)
    made.folder = results.folder
    return made


def frozen(section: Section) -> Section:
    """The section as one drawn block."""
    return Section(section.title, [Raw(section.html())], section.text)


def keep(out: Path, made: Made) -> Path:
    """Write the file, whole or not at all.

    Raises:
        OSError: it cannot be written; an older one is as it was.
    """
    arrays: dict[str, np.ndarray] = {}
    about = {
        "format": FORMAT,
        "title": made.title,
        "verdict": made.verdict,
        "columns": made.columns,
        "baselines": to_json_value(made.baselines),
        "sections": [{"title": each.title, "text": each.text, "html": each.html()} for each in made.sections],
        "runs": {
            name: _run(results, f"{place}/", arrays, out)
            for place, (name, results) in enumerate(made.runs.items())
        },
    }
    arrays["page"] = np.array(json.dumps(about, default=str))
    written = io.BytesIO()
    np.savez_compressed(written, **arrays)  # type: ignore[arg-type]
    return write_bytes(out / FIGURES, written.getvalue())


def _run(results: Results, prefix: str, arrays: dict[str, np.ndarray], out: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "about": results.about,
        "folder": None if results.folder is None else os.path.relpath(results.folder, out),
        "figures": {
            evaluator: {name: vars(each) for name, each in found.items()}
            for evaluator, found in results.figures.items()
        },
    }
    gallery = results.gallery
    if gallery is not None:
        for name in _ARRAYS:
            if getattr(gallery, name) is not None:
                arrays[prefix + name] = np.asarray(getattr(gallery, name))
        for place, values in enumerate(gallery.traversals.values()):
            arrays[f"{prefix}traversal/{place}"] = np.asarray(values)
        record["gallery"] = {
            "field": Signature({"x": gallery.field}).to_json(),
            "traversals": list(gallery.traversals),
            "notes": gallery.notes,
        }
    return record


def kept(out: Path) -> Made | None:
    """What an earlier page was made of; its runs carry no numbers, which stand in ``results.json``.  None where nothing is kept.

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
                name: _results(record, f"{place}/", arrays, out)
                for place, (name, record) in enumerate(about["runs"].items())
            }
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, ReprkitError):
            raise
        raise TrainingError(f"{path} is damaged: {error}") from error
    sections = [Section(each["title"], [Raw(each["html"])], each["text"]) for each in about["sections"]]
    return Made(runs, about["title"], about["verdict"], about["columns"], about["baselines"], sections)


def _results(record: Mapping[str, Any], prefix: str, arrays: Any, out: Path) -> Results:
    figures = {
        evaluator: {name: Drawn(**each) for name, each in found.items()}
        for evaluator, found in record["figures"].items()
    }
    gallery = None
    told = record.get("gallery")
    if told is not None:
        held = {name: arrays[prefix + name] for name in _ARRAYS if prefix + name in arrays}
        moved = {name: arrays[f"{prefix}traversal/{place}"] for place, name in enumerate(told["traversals"])}
        gallery = Gallery(
            field=Signature.from_json(told["field"])["x"], traversals=moved, notes=told["notes"], **held
        )
    results = Results(figures=figures, gallery=gallery, about=record["about"])
    results.folder = None if record["folder"] is None else out / record["folder"]
    return results
