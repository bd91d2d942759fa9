"""Run the conformance checks without pytest, for ``reprkit check``."""

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
from reprkit.testing.likelihoods import LikelihoodConformance
from reprkit.testing.objectives import ObjectiveConformance
from reprkit.testing.processes import RanksError
from reprkit.testing.sample_data import SAMPLE_DATA

KITS: dict[str, type[Conformance]] = {
    kit.kind: kit
    for kit in (
        EncoderConformance,
        LatentConformance,
        DecoderConformance,
        LikelihoodConformance,
        ObjectiveConformance,
        CorruptionConformance,
        DatasetConformance,
        EvaluatorConformance,
    )
}

# Kinds that do not depend on the data, or that are data: they are checked on one kind of data only.
_SINGLE_DATA = {"latent": "images", "dataset": "images"}
# Sample data used only if the part refuses the other one: what reads gray images also reads color images.
_FALLBACK_FOR = {"colour": "images", "maps": "tokens", "tables": "vectors"}


@dataclass(frozen=True)
class Outcome:
    """The result of one check of one part.

    Attributes:
        check: name of the check, in words.
        about: what the check requires, in a sentence.
        status: "passed", "failed", or "skipped" (it does not apply).
        reason: why it did not pass, in one line.
        details: the full message where it is longer, such as the tracebacks of processes.
        seconds: duration of the check.
    """

    check: str
    about: str
    status: str
    reason: str = ""
    details: str = ""
    seconds: float = 0.0


def make_case(kind: str, part: str, name: str) -> Conformance:
    """Create the conformance case of one part on one kind of sample data, without a test class."""
    case = KITS[kind]()
    case.part, case.data = part, SAMPLE_DATA[name]
    return case


def find_refusals(kind: str, part: str, among: Iterable[str] = tuple(SAMPLE_DATA)) -> dict[str, str]:
    """Return for each kind of sample data why the part refuses it, an empty string where it accepts it.

    Raises:
        ReprkitError: the part refuses all of them, so the data is not the reason.
    """
    refused: dict[str, str] = {}
    last: ReprkitError | None = None
    for name in [_SINGLE_DATA[kind]] if kind in _SINGLE_DATA else list(among):
        if refused.get(_FALLBACK_FOR.get(name, "")) == "":
            continue
        case = make_case(kind, part, name)
        try:
            if isinstance(case, ObjectiveConformance):
                case.model()
            elif isinstance(case, EvaluatorConformance):
                next(case.accepted_models(), None)
            else:
                case.fresh()
            refused[name] = ""
        except ReprkitError as error:
            last = error
            if _FALLBACK_FOR.get(name) not in refused:
                refused[name] = _one_line(error)
        except Exception:
            refused[name] = ""  # not a refusal but a bug, which the checks will report
    if last is not None and all(refused.values()):
        raise last
    return refused


def run_checks(case: Conformance, *, ranks: bool = True) -> Iterator[Outcome]:
    """Run every check of the case's class; with ``ranks`` also those that start processes."""
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
            status, reason = "failed", str(error) or _locate(error)
        except RanksError as error:
            # The first traceback is that of the rank that failed first; its last line is the error.
            first = str(error).split("\nrank ")[0].strip().splitlines()
            status, reason, details = "failed", f"a rank failed: {first[-1]}", str(error)
        except Exception as error:
            status, reason = "failed", f"{_one_line(error)} ({_locate(error)})"
        reason = " ".join(reason.split())
        yield Outcome(title, about, status, reason, details, time.perf_counter() - start)


def failed_checks(case: Conformance, *, ranks: bool = True) -> dict[str, str]:
    """Run every check and return those that fail -> reason; unlike a loop over the methods, a skip ends only its check."""
    return {each.check: each.reason for each in run_checks(case, ranks=ranks) if each.status == "failed"}


def _one_line(error: BaseException) -> str:
    message = " ".join([str(error), *getattr(error, "__notes__", ())]).strip()
    return message if isinstance(error, ReprkitError) else f"{type(error).__name__}: {message}"


def _locate(error: BaseException) -> str:
    """Return the innermost line of code outside of torch, where the bug most likely is."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/torch/" not in frame.filename.replace("\\", "/")]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
