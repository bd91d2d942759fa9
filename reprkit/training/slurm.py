"""Slurm jobs of recipes: ``--launch slurm`` writes an sbatch file, of one job or of an array with a task for every combination.

Two minutes before its time limit the job gets SIGUSR1: the training processes save, the job is requeued, and goes on from there.
Torch-free.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.errors import PartArgumentError
from reprkit.training.time_limit import format_clock, parse_duration

FILE = "job.sbatch"
WARNING = 120  # seconds between SIGUSR1 and the end of the job
_LEAST = 300.0  # of a time limit: starting, saving and WARNING must fit

# What the file sets itself -> how to choose it.
_OWN = {
    "nodes": "--nodes",
    "gpus-per-node": "--gpus",
    "time": "--time-limit",
    "array": "flags that are repeated, or sbatch --array",
    "signal": "nothing: training is saved on USR1",
    "requeue": "nothing: the job is requeued until the run is finished",
    "no-requeue": "nothing: the job is requeued until the run is finished",
    "ntasks": "nothing: torchrun starts one process a GPU",
    "ntasks-per-node": "nothing: torchrun starts one process a GPU",
    "chdir": "nothing: the job runs in the present folder",
    "output": "--out, the folder of its log",
    "open-mode": "nothing: a requeued job continues its log",
}
_DIRECTIVE = re.compile(r"([a-z][a-z0-9-]*)(?:=([^\n\r\"'\\]+))?")
_PANEL = "As a Slurm job"


class Launcher(StrEnum):
    """How a recipe can be launched, besides by starting it."""

    slurm = "slurm"


_FLAGS: dict[str, tuple[Any, Any, str]] = {
    "launch": (Launcher | None, None, f"Write OUT/{FILE}, to be submitted by sbatch, instead of running."),
    "nodes": (int, 1, "Nodes of the job."),
    "gpus": (int, 1, "GPUs of each node, with a process each; 0 for one process without."),
    "sbatch": (list[str] | None, None, "A line of sbatch, such as partition=gpu or mem=64G; repeatable."),
}
NAMES = tuple(_FLAGS)


def job_parameters() -> list[inspect.Parameter]:
    """Return the flags of a job as parameters of a command line."""
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[
                kind, typer.Option(help=text, rich_help_panel=_PANEL, show_default=isinstance(default, int))
            ],
        )
        for name, (kind, default, text) in _FLAGS.items()
    ]


@dataclass(frozen=True)
class JobOptions:
    """What a job asks for.

    Attributes:
        nodes: number of nodes.
        gpus: GPUs of each node; 0 for none.
        time_limit: in seconds; None leaves the partition's.
        directives: further lines of sbatch, ``partition=gpu``.

    Raises:
        PartArgumentError: a value out of its range, or a line that the file sets itself.
    """

    nodes: int = 1
    gpus: int = 1
    time_limit: float | None = None
    directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        if self.nodes < 1 or self.gpus < 0:
            raise PartArgumentError(
                f"--launch slurm takes --nodes of at least 1 and --gpus of at least 0, not {self.nodes} and {self.gpus}"
            )
        if self.time_limit is not None and self.time_limit < _LEAST:
            raise PartArgumentError(
                f"--launch slurm takes a --time-limit of at least {_LEAST / 60:.0f}m: the job is told to save {WARNING} seconds "
                "before its end"
            )
        for directive in self.directives:
            found = _DIRECTIVE.fullmatch(directive)
            if found is None:
                raise PartArgumentError(
                    f"--sbatch {directive!r}: must be a line of sbatch without dashes, such as partition=gpu or exclusive"
                )
            if found[1] in _OWN:
                raise PartArgumentError(
                    f"--sbatch {directive}: the file sets {found[1]}; choose it by {_OWN[found[1]]}"
                )


def take_job(arguments: dict[str, Any]) -> JobOptions | None:
    """Take the flags of a job, and its time limit, out of a recipe's arguments; None where it is not to be launched.

    Raises:
        PartArgumentError: flags of a job without ``--launch slurm``; a value that the job cannot have.
    """
    values = {name: arguments.pop(name, default) for name, (_, default, _) in _FLAGS.items()}
    if values["launch"] is None:
        given = [name for name, (_, default, _) in _FLAGS.items() if values[name] not in (default, [])]
        if given:
            raise PartArgumentError(
                f"{' and '.join(f'--{name}' for name in given)}: belongs to a job; add --launch slurm, which writes its file"
            )
        return None
    if arguments.get("overwrite"):
        raise PartArgumentError(
            "--launch slurm continues its own run when it is requeued, so it cannot have --overwrite: choose another --out, or "
            "remove that run"
        )
    limit = arguments.pop("time_limit", None)
    seconds = None if limit is None else parse_duration(limit)
    return JobOptions(values["nodes"], values["gpus"], seconds, tuple(values["sbatch"] or ()))


def write_job(options: JobOptions, out: Path, commands: Sequence[Sequence[str]]) -> Path:
    """Write ``OUT/job.sbatch`` and return its path.

    Args:
        options: what the job asks for.
        out: the folder of its runs, which is made.
        commands: the recipe's arguments, of each task of the job.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    path.write_text(job_text(options, out, program(), commands), encoding="utf-8")
    return path


def program() -> list[str]:
    """Return the arguments by which torchrun starts this process's program: a script, or ``-m reprkit``."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.name != "__main__.py":
        return [str(script.resolve())]
    return ["-m", "reprkit"]


def job_text(
    options: JobOptions, out: Path, started: Sequence[str], commands: Sequence[Sequence[str]]
) -> str:
    """Return the text of an sbatch file; see ``write_job``.

    Args:
        options: what the job asks for.
        out: the folder of its runs.
        started: what torchrun starts, as from ``program``.
        commands: the arguments of each task.
    """
    lines = "\n".join(f"#SBATCH --{each}" for each in _directives(options, out, len(commands)))
    single = options.nodes == 1
    meeting = (
        "--standalone"
        if single
        else '--rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$host:$((20000 + SLURM_JOB_ID % 20000))"'
    )
    host = "" if single else 'host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
    return _TEXT.format(
        directives=lines,
        arguments=_arguments(commands),
        host=host,
        python=shlex.join([sys.executable, "-P"]),
        nodes=options.nodes,
        processes=max(1, options.gpus),
        meeting=meeting,
        program=shlex.join(started),
    )


def _directives(options: JobOptions, out: Path, tasks: int) -> list[str]:
    name = re.sub(r"[^\w.-]+", "-", out.resolve().name) or "reprkit"
    log = str(out.resolve()).replace("%", "%%") + ("/slurm-%A_%a.log" if tasks > 1 else "/slurm-%j.log")
    given = {each.partition("=")[0] for each in options.directives}
    values: Mapping[str, str | None] = {
        "job-name": None if "job-name" in given else name,
        "nodes": str(options.nodes),
        "ntasks-per-node": "1",
        "gpus-per-node": str(options.gpus) if options.gpus else None,
        "time": None if options.time_limit is None else format_clock(options.time_limit),
        "array": f"0-{tasks - 1}" if tasks > 1 else None,
        "signal": f"B:USR1@{WARNING}",
        "chdir": _quote(os.getcwd()),
        "output": _quote(log),
    }
    own = [f"{key}={value}" for key, value in values.items() if value is not None]
    further = [
        f"{key}={_quote(value)}" if equals else key
        for key, equals, value in (each.partition("=") for each in options.directives)
    ]
    return [*own, "open-mode=append", "requeue", *further]


def _quote(value: str) -> str:
    """Quote a value of a line of sbatch, which reads double quotes and backslashes as a shell does."""
    if re.fullmatch(r"[\w./:=,@%+*\[\]()-]*", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _arguments(commands: Sequence[Sequence[str]]) -> str:
    if len(commands) == 1:
        return f"arguments=({shlex.join(commands[0])})"
    cases = "\n".join(
        f"  {index}) arguments=({shlex.join(words)}) ;;" for index, words in enumerate(commands)
    )
    return (
        f'case "$SLURM_ARRAY_TASK_ID" in\n{cases}\n'
        f'  *) echo "this array has tasks 0 to {len(commands) - 1}" >&2; exit 2 ;;\nesac'
    )


_TEXT = """\
#!/bin/bash
# Written by reprkit --launch slurm.
{directives}

{arguments}

# On each node torchrun runs in a session of its own, and signals go to the processes that train: torchrun would end them after
# 30 seconds, whatever they still have to save.
task='
setsid "$@" &
agent=$!
pass() {{ kill -s "$1" $(cat /proc/$agent/task/*/children) 2>/dev/null; }}
trap "pass USR1" USR1
trap "pass TERM" TERM
while kill -0 $agent 2>/dev/null; do wait $agent; done
wait $agent
'

step=""
stopping=""
pass() {{ if [ -n "$step" ]; then kill -s "$1" "$step" 2>/dev/null; fi; }}
trap 'stopping=1; pass USR1' USR1  # the time limit is near
trap 'pass TERM' TERM  # preempted or canceled; Slurm requeues what it preempts

if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi
{host}srun --kill-on-bad-exit=1 bash -c "$task" task \\
  {python} -m torch.distributed.run --nnodes {nodes} --nproc-per-node {processes} {meeting} \\
  {program} "${{arguments[@]}}" &
step=$!
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"
code=$?

# A run that was stopped is not finished: the next job resumes it.
if [ -n "$stopping" ] && [ "$code" -ne 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""
