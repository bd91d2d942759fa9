"""Sweeps of a recipe: a flag that is given several times, ``--latent A --latent B --seed 0 --seed 1``, runs every combination.

It works for each flag of a recipe that takes one text or number, without code in the recipe.  Combinations are run one after
another, each into a folder of its own below ``--out``; one table and one page compare them afterwards, with means over seeds.
With ``--launch slurm`` they become the tasks of a job, see ``reprkit.training.slurm``.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import itertools
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from reprkit.errors import PartArgumentError, ReprkitError, TrainingError
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import default_registry
from reprkit.training import slurm
from reprkit.training.recipe_folder import recipe_folder
from reprkit.training.time_limit import format_clock

PAGE = "comparison.html"
_ONE_VALUE = (
    "out",
    "to",
    "page",
    "device",
    "strategy",
    "time_limit",
    "probe_every",
)  # what names a place, and how it runs and is watched, is not compared
HELP = (
    "A flag of one value may be given several times, --latent A --latent B --seed 0 --seed 1: every combination is run, and one "
    "table and one page compare them."
)
_SIMPLE = (str, int, float)
_METAVARS = {str: "TEXT", int: "INTEGER", float: "FLOAT"}  # instead of "<list[str]>"


def sweep_flags(main: Callable[..., Any], emit: Callable[[Any], None] | None = None) -> Callable[..., Any]:
    """Return ``main`` with flags that may be repeated: all parameters of one text, integer or number but ``out``.

    A call with at most one value of each passes them on.  Otherwise it runs ``main`` for every combination and compares the runs.
    ``main`` must have a parameter ``out``, the folder of its runs; with ``resume`` it also gets the flags of a Slurm job.

    Args:
        main: function of a command line.
        emit: prints plain data as JSON, for a ``main`` with a flag ``json``.

    Raises:
        PartArgumentError: from the returned function: a value is repeated, or ``main`` has no ``out``.
        UnknownPartError: from the returned function, before anything runs: no such part.
        TrainingError: from the returned function, at the end: combinations that failed.
    """
    signature = inspect.signature(main)
    hints = typing.get_type_hints(main, include_extras=True)
    own = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    repeatable = {p.name: p for p in own if p.name not in _ONE_VALUE and _is_simple(p)}
    has_job = {"out", "resume"} <= set(signature.parameters)
    taken = [name for name in slurm.NAMES if has_job and name in signature.parameters]
    if taken:
        raise PartArgumentError(
            f"{main.__name__}() has a parameter {taken[0]!r}, which is also a flag of its Slurm job: rename it"
        )

    @functools.wraps(main)
    def call(**arguments: Any) -> Any:
        axes: dict[str, list[Any]] = {}
        job = slurm.take_job(arguments) if has_job else None
        for name, parameter in repeatable.items():
            values = arguments[name]
            if isinstance(values, list):
                arguments[name] = values[0] if values else parameter.default
                if len(values) > 1:
                    axes[name] = values
        if job is not None:
            return _write_job(main, arguments, axes, job, emit if arguments.get("json") is True else None)
        return run_sweep(main, arguments, axes, emit) if axes else main(**arguments)

    parameters = [_several(p) if p.name in repeatable else p for p in own]
    if has_job:
        parameters += slurm.job_parameters()
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    if "out" in signature.parameters:
        call.__doc__ = "\n\n".join(filter(None, (inspect.getdoc(main), HELP)))
    return call


def run_sweep(
    main: Callable[..., Any],
    arguments: Mapping[str, Any],
    axes: Mapping[str, list[Any]],
    emit: Callable[[Any], None] | None = None,
) -> None:
    """Run ``main`` for every combination of the values of ``axes``, then print and write the comparison.

    A combination that fails is reported, and the others run.

    Raises:
        PartArgumentError: a repeated value, or no ``out`` in ``arguments``.
        UnknownPartError: no such part.
        TrainingError: combinations failed; or, before anything runs, a folder holds runs, see ``recipe_folder``.
    """
    emit = emit if arguments.get("json") is True else None
    out, combinations, arguments = _plan(main, arguments, axes)
    folders, failures = [], {}
    for number, (folder, chosen) in enumerate(combinations.items(), 1):
        title = ", ".join(f"{name}={value}" for name, value in chosen.items())
        _say(f"[{number}/{len(combinations)}] {title}")
        given = chosen | {"out": type(arguments["out"])(folder)}
        try:
            with (
                _own_command_line(main, given),
                contextlib.redirect_stdout(sys.stderr if emit else sys.stdout),
            ):
                main(**{**arguments, **given})
            folders.append(folder)
        except ReprkitError as error:
            _say(f"[{number}/{len(combinations)}] failed: {error}")
            failures[title] = str(error).splitlines()[0]
    if folders and _is_first():
        _compare(folders, out, emit)
    if failures:
        listed = "\n".join(f"  {title}: {reason}" for title, reason in failures.items())
        raise TrainingError(f"{len(failures)} of {len(combinations)} combinations failed\n{listed}")


def _plan(
    main: Callable[..., Any], arguments: Mapping[str, Any], axes: Mapping[str, list[Any]]
) -> tuple[Path, dict[Path, dict[str, Any]], dict[str, Any]]:
    """Return the folder of all runs, each run's folder with the values that it is given, and the arguments of ``main``.

    Raises:
        PartArgumentError, UnknownPartError, TrainingError: as for ``run_sweep``.
    """
    if arguments.get("out") is None:
        raise PartArgumentError(
            f"{' and '.join(f'--{name}' for name in axes)}: several values make several runs, which are compared from their "
            f"folders: {'give --out FOLDER' if 'out' in arguments else 'this recipe has no --out, so run it once for each value'}"
        )
    for name, values in axes.items():
        if len(set(values)) < len(values):
            raise PartArgumentError(
                f"--{name.replace('_', '-')} has one value twice: {', '.join(map(str, values))}"
            )
        if name in KINDS:
            for value in values:
                default_registry().find(name, value)
    # Without typer's context each combination's folder counts as given, since it was chosen here.
    parameters = inspect.signature(main).parameters
    contexts = [name for name, parameter in parameters.items() if parameter.annotation is typer.Context]
    context = next((arguments[name] for name in contexts if name in arguments), None)
    arguments = {name: value for name, value in arguments.items() if name not in contexts}
    combinations = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    names = [Path(*(folder_name(name, value) for name, value in each.items())) for each in combinations]
    out = _choose_folder(arguments, context, names)
    return out, {out / name: each for name, each in zip(names, combinations, strict=True)}, arguments


def _write_job(
    main: Callable[..., Any],
    arguments: Mapping[str, Any],
    axes: Mapping[str, list[Any]],
    job: slurm.JobOptions,
    emit: Callable[[Any], None] | None,
) -> None:
    """Write the sbatch file of one run, or of an array with a task for every combination, and say how to submit it.

    Raises:
        PartArgumentError, UnknownPartError, TrainingError: as for ``run_sweep``.
    """
    if not arguments.get("out"):
        raise PartArgumentError("--launch slurm needs --out FOLDER, for the job's file, its log and its runs")
    out, combinations, _ = _plan(main, arguments, axes)
    dropped = [f"--{name.replace('_', '-')}" for name in (*slurm.NAMES, "time_limit")]
    commands = [
        [word for word in _own_words(main, {**chosen, "out": folder}, dropped) if word != "--resume"]
        + ["--resume"]  # a job that is requeued goes on; the first one starts, since the folder holds no run
        for folder, chosen in combinations.items()
    ]
    path = slurm.write_job(job, out, commands)
    if emit is not None:
        emit({"job": str(path), "tasks": len(commands), "out": str(out)})
        return
    tasks = f"an array of {len(commands)} tasks" if len(commands) > 1 else "a job"
    nodes, gpus = f"{job.nodes} node{'s' * (job.nodes > 1)}", f"{job.gpus} GPU{'s' * (job.gpus != 1)} each"
    limit = (
        "the partition's time limit"
        if job.time_limit is None
        else f"a time limit of {format_clock(job.time_limit)}"
    )
    print(f"{tasks} of {nodes}, {gpus}, {limit}\n  sbatch {path}")
    if len(commands) > 1:
        print(f"  reprkit compare {out}    (afterwards)")


def _choose_folder(arguments: Mapping[str, Any], context: Any, names: list[Path]) -> Path:
    """Return the folder of all combinations, as a recipe chooses that of one run; see ``recipe_folder``.

    Raises:
        TrainingError: it was given, and a combination's folder holds runs that are neither to be resumed nor to be overwritten.
    """
    out = Path(arguments["out"])
    if "overwrite" not in arguments:  # without a Launch the loop alone checks
        return out
    how = {"resume": bool(arguments.get("resume")), "overwrite": bool(arguments["overwrite"])}
    if context is not None and context.get_parameter_source("out").name == "DEFAULT":
        return recipe_folder(out, given=False, **how)
    for name in names:
        recipe_folder(out / name, given=True, **how)
    return out


@contextlib.contextmanager
def _own_command_line(main: Callable[..., Any], given: Mapping[str, Any]) -> Iterator[None]:
    """Context in which ``sys.argv`` is the command line of one combination, so that a run records what makes it alone."""
    before, sys.argv = sys.argv, [sys.argv[0], *_own_words(main, given)]
    try:
        yield
    finally:
        sys.argv = before


def _own_words(main: Callable[..., Any], given: Mapping[str, Any], dropped: Iterable[str] = ()) -> list[str]:
    """Return the words of the command line, with the values of ``given`` in place of its own, and without ``dropped`` flags."""
    parameters = inspect.signature(main).parameters
    replaced = {flag for name in given for flag in _flags(parameters[name])} | set(dropped)
    kept, words = list[str](), iter(sys.argv[1:])
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag not in replaced:
            kept.append(word)
        elif not equals:
            next(words, None)
    for name, value in given.items():
        kept += [_flags(parameters[name])[0], str(value)]
    return kept


def _flags(parameter: inspect.Parameter) -> list[str]:
    """Return the flags of a parameter, ``--lr``, as typer names them."""
    marks = (
        typing.get_args(parameter.annotation)[1:]
        if typing.get_origin(parameter.annotation) is Annotated
        else ()
    )
    declared = [
        flag for mark in marks for flag in getattr(mark, "param_decls", None) or () if flag.startswith("-")
    ]
    return declared or [f"--{parameter.name.replace('_', '-')}"]


def folder_name(name: str, value: Any) -> str:
    """Return a folder's name for a value of a flag: ``latent-vq-codes-64``."""
    text = re.sub(r"[^\w.+-]+", "-", f"{name}-{value}").strip("-.")
    return text[:100]


def _compare(folders: list[Path], out: Path, emit: Callable[[Any], None] | None) -> None:
    from reprkit.reporting.comparison import comparison_table, to_json, write_comparison
    from reprkit.runs.comparison import read_groups

    groups = read_groups(folders)
    page = write_comparison(groups, out / PAGE, title=out.resolve().name.replace("_", " "), overwrite=True)
    if emit:
        emit({"page": str(page), "groups": to_json(groups)})
        return
    print(f"\n{comparison_table(groups)}\n\nthe comparison: {page}")


def _is_simple(parameter: inspect.Parameter) -> bool:
    """Whether a parameter takes one text or number, or None."""
    kind = parameter.annotation
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    members = [each for each in (typing.get_args(kind) or (kind,)) if each is not type(None)]
    return len(members) == 1 and members[0] in _SIMPLE and typing.get_origin(kind) is not list


def _several(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter as one that collects all values of its flag."""
    kind, *marks = [parameter.annotation]
    if typing.get_origin(kind) is Annotated:
        kind, *marks = typing.get_args(kind)
    inner = next((each for each in typing.get_args(kind) if each is not type(None)), kind)
    default = parameter.default
    several = list[inner] | None
    option = next((copy.copy(mark) for mark in marks if isinstance(mark, OptionInfo)), typer.Option())
    option.metavar = option.metavar or _METAVARS[inner]
    others = [mark for mark in marks if not isinstance(mark, OptionInfo)]
    return parameter.replace(
        annotation=Annotated[several, *others, option],
        default=default if default in (None, inspect.Parameter.empty) else [default],
    )


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _say(text: str) -> None:
    if _is_first():
        print(text, file=sys.stderr, flush=True)
