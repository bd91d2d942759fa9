"""Runs the conformance kit without pytest: what ``reprkit check`` shows."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from unittest import SkipTest

from reprkit.errors import ReprkitError
from reprkit.testing.base import Conformance, all_checks
from reprkit.testing.corruptions import CorruptionConformance
from reprkit.testing.datasets import DatasetConformance
from reprkit.testing.decoders import DecoderConformance
from reprkit.testing.encoders import EncoderConformance
from reprkit.testing.evaluators import EvaluatorConformance
from reprkit.testing.latents import LatentConformance
from reprkit.testing.objectives import ObjectiveConformance
from reprkit.testing.processes import RanksError
from reprkit.testing.sample_data import SAMPLE_DATA

KITS: dict[str, type[Conformance]] = {
    kit.kind: kit
    for kit in (
        EncoderConformance,
        LatentConformance,
        DecoderConformance,
        ObjectiveConformance,
        CorruptionConformance,
        DatasetConformance,
        EvaluatorConformance,
    )
}

# Kinds that are not told of the data, or that bring their own: one try is enough.
_ONCE = {"latent": "images", "dataset": "images"}
# Tried only where the other one is refused: what reads grey images reads coloured ones.
_INSTEAD = {"colour": "images"}


@dataclass(frozen=True)
class Outcome:
    """One check of one part.

    Attributes:
        check: its name, in words.
        about: what it asks, in a sentence.
        status: "passed", "failed", or "skipped" (it does not apply).
        reason: why not passed, in a line.
        details: all of it, where that is longer: the tracebacks of processes.
        seconds: that it took.
    """

    check: str
    about: str
    status: str
    reason: str = ""
    details: str = ""
    seconds: float = 0.0


def make_case(kind: str, part: str, world: str) -> Conformance:
    """The conformance of one part on one kind of data, without a class of its own."""
    case = KITS[kind]()
    case.part, case.data = part, SAMPLE_DATA[world]
    return case


def find_refusals(kind: str, part: str, among: Iterable[str] = tuple(SAMPLE_DATA)) -> dict[str, str]:
    """Each kind of data -> why the part refuses it; empty where it does not.

    Raises:
        ReprkitError: it refuses all of them: then the fault is not the data's.
    """
    refused: dict[str, str] = {}
    last: ReprkitError | None = None
    for world in [_ONCE[kind]] if kind in _ONCE else list(among):
        if refused.get(_INSTEAD.get(world, "")) == "":
            continue
        case = make_case(kind, part, world)
        try:
            if isinstance(case, ObjectiveConformance):
                case.model()
            elif isinstance(case, EvaluatorConformance):
                next(case.measured(), None)
            else:
                case.fresh()
            refused[world] = ""
        except ReprkitError as error:
            last = error
            if _INSTEAD.get(world) not in refused:
                refused[world] = _line(error)
        except Exception:
            refused[world] = ""  # not a refusal but a fault: the checks will say what it is
    if last is not None and all(refused.values()):
        raise last
    return refused


def run_checks(case: Conformance, *, ranks: bool = True) -> Iterator[Outcome]:
    """Every check of the case's class; ``ranks``: also those that start processes."""
    for name, check in all_checks(type(case)):
        if not ranks and "two_ranks" in name:
            continue
        title = name.removeprefix("test_").replace("_", " ")
        about = (check.__doc__ or "").partition("\n")[0]
        start = time.perf_counter()
        status, reason, details = "passed", "", ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # such as of a codebook that collapses on four random examples
                check(case)
        except SkipTest as error:
            status, reason = "skipped", str(error)
        except AssertionError as error:
            status, reason = "failed", str(error) or _place(error)
        except RanksError as error:
            # The first traceback is of the rank that failed first; its last line is the error.
            first = str(error).split("\nrank ")[0].strip().splitlines()
            status, reason, details = "failed", f"a rank failed: {first[-1]}", str(error)
        except Exception as error:
            status, reason = "failed", f"{_line(error)} ({_place(error)})"
        reason = " ".join(reason.split())
        yield Outcome(title, about, status, reason, details, time.perf_counter() - start)


def _line(error: BaseException) -> str:
    message = " ".join([str(error), *getattr(error, "__notes__", ())]).strip()
    return message if isinstance(error, ReprkitError) else f"{type(error).__name__}: {message}"


def _place(error: BaseException) -> str:
    """The innermost line of code outside of torch, where the fault most likely is."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/torch/" not in frame.filename.replace("\\", "/")]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
