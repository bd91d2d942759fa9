"""What a run's folder holds: whether a new run may start in it, and one line about what would be lost.  Does not import torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from reprkit.checkpoints.reader import holds_checkpoint
from reprkit.runs.filenames import BEST, METRICS, MODEL, PACKAGES, PAGE, RECORD, SOURCE, STATE
from reprkit.runs.metrics import format_significant
from reprkit.runs.reader import FILES, StoredRun, describe_steps, find_runs, is_run, read_run

_SHOWN = 3  # metrics in the line about a run


def files_of_run(out: Path) -> list[Path]:
    """Return the files and folders of a run in its folder; a folder of another content that has such a name is not one."""
    found = [out / name for name in (*FILES, PAGE) if (out / name).is_file()]
    found += [out / name for name in (MODEL, BEST) if _holds_models(out / name)]
    found += [out / SOURCE] if (out / SOURCE / PACKAGES).is_file() else []
    return found + ([out / STATE] if any(_saved_states(out)) else [])


def has_content(out: Path) -> bool:
    """Whether a folder holds what a new run would replace; a run that ended before it logged or saved anything holds nothing."""
    return any(
        path.name not in (RECORD, SOURCE) and not (path.name == METRICS and not path.stat().st_size)
        for path in files_of_run(out)
    )


def find_content(folder: Path) -> Iterator[Path]:
    """Find the runs, and the comparison of runs, in and below a folder that hold something."""
    runs = find_runs(folder)
    if is_run(folder) and not (folder / RECORD).is_file() and has_content(folder):
        yield folder
    yield from (run for run in runs if has_content(run))


def describe_content(out: Path) -> str:
    """Describe a run in one line: its latents and data, steps, status, date and results."""
    run = read_run(out)
    if not run.record and run.results:  # of a page that compares runs
        more = ", ..." if len(run.results) > _SHOWN else ""
        return f"results of {len(run.results)}: {', '.join(list(run.results)[:_SHOWN])}{more}"
    stage = run.stages.get(run.stage or "", {})
    steps = describe_steps(stage)
    parts = [
        _describe_model(run, stage),
        f"{steps} steps" if steps else "",
        run.status if run.record else "",
        str(run.record.get("ended") or run.record.get("started") or "")[:16].replace("T", " "),
        ", ".join(f"{name} {format_significant(value)}" for name, value in _shown_metrics(run)),
    ]
    known = ", ".join(part for part in parts if part)
    return known or ", ".join(path.name for path in files_of_run(out))


def describe_contents(folder: Path) -> str:
    """Describe the runs in and below a folder, one line each; of many the first ones."""
    runs = list(islice(find_content(folder), 9))
    lines = [
        f"{run.relative_to(folder).as_posix() if run != folder else folder.name}: {describe_content(run)}"
        for run in runs[:8]
    ]
    return "\n  ".join([*lines, "..."] if len(runs) > 8 else lines)


def _describe_model(run: StoredRun, stage: Mapping[str, Any]) -> str:
    model, data = stage.get("model"), run.record.get("data") or {}
    factors = model.get("factors") if isinstance(model, dict) else None
    latents = [
        str(factor.get("latent")).removeprefix("reprkit/")
        for factor in (factors.values() if isinstance(factors, dict) else ())
        if isinstance(factor, dict)
    ]
    return " on ".join(part for part in (" and ".join(latents), str(data.get("name") or "")) if part)


def _shown_metrics(run: StoredRun) -> list[tuple[str, float]]:
    """Return the first results, or the last logged loss."""
    if run.results:
        return list(run.metrics.items())[:_SHOWN]
    return [("loss", run.metrics["loss"])] if "loss" in run.metrics else []


def _holds_models(folder: Path) -> bool:
    """Whether a folder is a saved model, or holds one for each stage."""
    if not folder.is_dir():
        return False
    return holds_checkpoint(folder) or any(
        holds_checkpoint(path) for path in folder.iterdir() if path.is_dir()
    )


def _saved_states(out: Path) -> Iterator[Path]:
    """Find the saved states of a run, also those that were left half-replaced."""
    yield from (out / STATE).glob("**/step-*")
    yield from (out / STATE).glob("**/.step-*.old")
