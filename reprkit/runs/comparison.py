"""Group stored runs that differ in the seed alone, and name the groups by what differs between them.  Does not import torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reprkit.checkpoints.reader import holds_checkpoint, read
from reprkit.errors import ReprkitError, TrainingError, nearest
from reprkit.registry.registry import default_registry
from reprkit.runs.filenames import MODEL, RECORD, RESULTS
from reprkit.runs.reader import StoredRun, find_runs, read_results, read_run
from reprkit.runs.spread import Spread, spread_metrics, spread_of

# Recorded options of a stage that make the run; the seed and where it ran do not.
_OPTIONS = (
    "steps",
    "batch",
    "lr",
    "optimizer",
    "optimizers",
    "weight_decay",
    "schedule",
    "warmup",
    "clip",
    "accumulate",
    "precision",
    "freeze",
    "ema",
    "buckets",
    "groups",
    "mates",
)
_PLAIN = ("latent", "encoder", "decoder", "objective", "data")  # named by their value alone


@dataclass(frozen=True)
class ComparedRun:
    """A run, or a row of measurements without a run, such as a baseline.

    Attributes:
        folder: of the run, or of the comparison that holds the row.
        settings: all that makes the run but its seed, as text by name.
        seed: None where none is recorded.
        results: nested metrics, as in ``results.json``.
        run: as it was read; None for a row without a run.
        row: the name of the results, where a folder holds those of several models.
    """

    folder: Path
    settings: Mapping[str, str]
    seed: int | None
    results: Mapping[str, Any]
    run: StoredRun | None = None
    row: str = ""


@dataclass
class RunGroup:
    """Runs that differ in the seed alone.

    Attributes:
        name: what differs from the other groups, the latent first.
        runs: sorted by seed.
    """

    name: str
    runs: list[ComparedRun] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """The seeds that are recorded."""
        return [run.seed for run in self.runs if run.seed is not None]

    @property
    def metrics(self) -> dict[str, Spread]:
        """Metrics by flat name over the runs; the deviation of an only run is NaN."""
        return spread_metrics(run.results for run in self.runs)

    @property
    def seconds(self) -> float | None:
        """Mean time of training; None where none is recorded."""
        times = [run.run.seconds for run in self.runs if run.run is not None and run.run.seconds]
        return spread_of(times).mean if times else None

    @property
    def parameters(self) -> int | None:
        """Number of weights and statistics in the saved model; None where none is saved."""
        for each in self.runs:
            if each.run is not None and holds_checkpoint(each.folder / MODEL):
                try:
                    return read(each.folder).elements()
                except ReprkitError:
                    return None  # the page and the card of this run say what is damaged
        return None

    @property
    def states(self) -> list[str]:
        """States of the runs that are not finished, such as "seed 1 running"."""
        found = []
        for each in self.runs:
            if each.run is not None and each.run.status != "finished":
                found.append(f"{'' if each.seed is None else f'seed {each.seed} '}{each.run.status}")
        return found


def read_groups(folders: Iterable[str | Path]) -> list[RunGroup]:
    """Read the runs in and below folders, and group them.

    Raises:
        TrainingError: a folder that does not exist, or no run anywhere.
    """
    rows: dict[tuple[Path, str], ComparedRun] = {}
    for given in folders:
        folder = Path(given)
        if not folder.is_dir():
            siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise TrainingError(f"there is no folder {folder}.{nearest(folder.name, siblings)}")
        found = {path: _read(path) for path in find_runs(folder)}
        if not found and not (folder / RESULTS).is_file():
            raise TrainingError(
                f"no runs in or below {folder}: a run is a folder with a {RECORD}, which rk.fit(..., out=...) writes"
            )
        for row in [row for own in found.values() for row in own] + _rows_without_runs(folder, found):
            rows.setdefault((row.folder.resolve(), row.row), row)
    return group_runs(list(rows.values()))


def group_runs(runs: Sequence[ComparedRun]) -> list[RunGroup]:
    """Group runs by their settings; runs of equal settings and equal seed become groups of their own.

    Rows of one name with equal results, such as the same baseline of several comparisons, become one.
    """
    grouped: dict[tuple[str, tuple[tuple[str, str], ...]], list[ComparedRun]] = {}
    for run in runs:
        same = grouped.setdefault((run.row, tuple(sorted(run.settings.items()))), [])
        if not (run.row and any(run.results == other.results for other in same)):
            same.append(run)
    separated: list[list[ComparedRun]] = []
    for same in grouped.values():
        seeds = [run.seed for run in same]
        distinct = len(set(seeds)) == len(seeds) and (None not in seeds or len(seeds) == 1)
        separated += [sorted(same, key=lambda run: run.seed or 0)] if distinct else [[run] for run in same]
    separated = sorted(
        _join_equal_rows(separated), key=lambda group: group[0].run is not None
    )  # baselines first
    names = _names([group[0] for group in separated])
    return [RunGroup(name, group) for name, group in zip(names, separated, strict=True)]


def sort_groups(groups: Sequence[RunGroup], by: str) -> list[RunGroup]:
    """Sort by the name of a metric, by "seconds" or "parameters"; ``-NAME`` descends.  Groups without a value stand last.

    Raises:
        TrainingError: no group has it.
    """
    name = by.removeprefix("-")
    values = [_sort_value(group, name) for group in groups]
    if not any(map(math.isfinite, values)):
        known = [*dict.fromkeys(path for group in groups for path in group.metrics), "seconds", "parameters"]
        raise TrainingError(f"no run has {name!r}.{nearest(name, known)}\n  known: {', '.join(known)}")
    sign = 1 if name == by else -1
    order = sorted(
        range(len(groups)), key=lambda i: (0, sign * values[i]) if math.isfinite(values[i]) else (1, 0.0)
    )
    return [groups[index] for index in order]


def _sort_value(group: RunGroup, name: str) -> float:
    """Return a metric's mean, "seconds" or "parameters" of a group; NaN without one."""
    if name in group.metrics:
        return group.metrics[name].mean
    value = {"seconds": group.seconds, "parameters": group.parameters}.get(name)
    return math.nan if value is None else float(value)


def _join_equal_rows(groups: Sequence[list[ComparedRun]]) -> list[list[ComparedRun]]:
    """Keep one of several groups of rows that have the same name and results, with the settings that they share."""
    joined: list[list[ComparedRun]] = []
    for group in groups:
        results = [run.results for run in group]
        for index, other in enumerate(joined):
            if group[0].row and group[0].row == other[0].row and results == [run.results for run in other]:
                joined[index] = [
                    replace(run, run=None, settings=dict(run.settings.items() & again.settings.items()))
                    for run, again in zip(other, group, strict=True)
                ]
                break
        else:
            joined.append(group)
    return joined


def _names(firsts: Sequence[ComparedRun]) -> list[str]:
    """Return a name for each group: its row or latent, and the settings that are not the same in all groups."""
    trained = [run for run in firsts if run.run is not None]
    keys = list(dict.fromkeys(key for run in trained for key in run.settings))
    differing = [key for key in keys if len({run.settings.get(key) for run in trained}) > 1]
    names = []
    for run in firsts:
        head = [run.row] if run.row else [run.settings.get("latent") or run.folder.name]
        more = [key for key in differing if key in run.settings and (run.row or key != "latent")]
        pieces = [run.settings[key] if key in _PLAIN else f"{key}={run.settings[key]}" for key in more]
        names.append(", ".join([*head, *pieces]))
    return [
        f"{name} ({run.folder.as_posix()})" if names.count(name) > 1 else name
        for name, run in zip(names, firsts, strict=True)
    ]


def _read(folder: Path) -> list[ComparedRun]:
    """Return the run in a folder: one row, or one for each of the named results that it holds."""
    run = read_run(folder)
    seed = run.record.get("seed")
    seed, settings = seed if isinstance(seed, int) else None, _settings(run)
    if named := _named_results(run.results):
        return [ComparedRun(folder, settings, seed, results, run, name) for name, results in named.items()]
    return [ComparedRun(folder, settings, seed, run.results or _last_results(run), run)]


def _named_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results by name, where they are of several models; {} where they are by evaluator."""
    known = {spec.name for spec in default_registry().specs("evaluator")}
    if not results or any(name.partition("(")[0].rpartition("/")[2] in known for name in results):
        return {}
    nested = all(
        isinstance(value, dict) and value and all(isinstance(each, dict) for each in value.values())
        for value in results.values()
    )
    return dict(results) if nested else {}


def _last_results(run: StoredRun) -> Mapping[str, Any]:
    """Return the results that were logged last, of a run that is not evaluated yet."""
    logged = run.last_line.get("results")
    return logged if isinstance(logged, dict) else {}


def _settings(run: StoredRun) -> dict[str, str]:
    """Return what makes a run, as text by name."""
    settings: dict[str, str] = {}
    for stage, record in run.stages.items():
        model = record.get("model")
        own = {**_parts(model if isinstance(model, dict) else {})}
        own |= {
            name: str(record[name]) for name in _OPTIONS if record.get(name) not in (None, False, "", [], {})
        }
        prefix = "" if len(run.stages) == 1 else f"{stage}."
        settings |= {
            key if key in settings or not prefix else prefix + key: value for key, value in own.items()
        }
        if prefix and "latent" in own:
            settings.setdefault("latent", own["latent"])
    if data := describe_data(run.record):
        settings["data"] = data
    return settings


def _parts(model: Mapping[str, Any]) -> dict[str, str]:
    factors = model.get("factors")
    found: dict[str, str] = {}
    for kind in ("latent", "encoder"):
        named = {
            name: _short(factor[kind])
            for name, factor in (factors if isinstance(factors, dict) else {}).items()
            if isinstance(factor, dict) and isinstance(factor.get(kind), str)
        }
        if named:
            only = len(named) == 1
            found[kind] = ", ".join(value if only else f"{name}: {value}" for name, value in named.items())
    for kind in ("decoder", "objective"):
        if isinstance(model.get(kind), str):
            found[kind] = _short(model[kind])
    for kind in ("outputs", "weights"):
        if model.get(kind):
            found[kind] = str(model[kind])
    return found


def describe_latents(record: Mapping[str, Any]) -> str:
    """Return the latents of a run's record, ``vq(codes=64)``, by factor where there are several; "" where none is recorded."""
    stages = record.get("stages")
    for stage in (stages if isinstance(stages, dict) else {}).values():
        model = stage.get("model") if isinstance(stage, dict) else None
        if latents := _parts(model if isinstance(model, dict) else {}).get("latent"):
            return latents
    return ""


def describe_data(record: Mapping[str, Any]) -> str:
    """Return the data set of a run's record as a reference, else its name; "" where none is recorded."""
    data = record.get("data")
    value = (data.get("reference") or data.get("name")) if isinstance(data, dict) else None
    return _short(value) if isinstance(value, str) else ""


def _short(reference: str) -> str:
    return reference.removeprefix("reprkit/")


def _rows_without_runs(top: Path, found: Mapping[Path, Sequence[ComparedRun]]) -> list[ComparedRun]:
    """Return the rows of comparisons, in and below a folder, that have no run of their own: baselines, untrained models.

    Such a row has the settings that all runs of its comparison share.
    """
    rows = []
    folders = {top, *(parent for path in found for parent in path.parents if parent.is_relative_to(top))}
    for folder in sorted(folders):
        if (folder / RECORD).is_file() or not (folder / RESULTS).is_file():
            continue
        try:
            named = _named_results(read_results(folder))
        except ReprkitError as error:
            warnings.warn(f"its baselines are left out of the comparison: {error}", stacklevel=4)
            continue
        own = [row for path, run in found.items() if path.is_relative_to(folder) for row in run]
        first = own[0].settings.items() if own else ()
        shared = dict(item for item in first if all(item in run.settings.items() for run in own))
        seeds = {run.seed for run in own}
        seed = seeds.pop() if len(seeds) == 1 else None
        rows += [
            ComparedRun(folder, shared, seed, results, row=name)
            for name, results in named.items()
            if all(results != run.results for run in own)
        ]
    return rows
