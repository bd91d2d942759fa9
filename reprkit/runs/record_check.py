"""Check the structure of ``run.json`` and ``results.json``, which may be damaged or hostile."""

from __future__ import annotations

from typing import Any

from reprkit.utils.json_shape import Each, Items, Needed, check_shape

BEST = {"metric": Needed(str), "end": str, "value": Needed(float), "step": Needed(int)}
FIELD = {
    "kind": Needed(str),
    "shape": Needed(Items(int)),
    "range": Items(Needed(float), length=2),
    "vocab": int,
}
_STAGE = {
    "status": str,
    "step": int,
    "steps": int,
    "saved": int,
    "seconds": float,
    "started": str,
    "ranks": int,
    "waiting": Each(Needed(float)),
    "best": BEST,
    "changes": Items(Needed({"step": Needed(int), "at": str, "setting": Needed(str)})),
}
_RECORD = {
    "command": str,
    "folder": str,
    "status": str,
    "error": str,
    "started": str,
    "ended": str,
    "host": str,
    "session": str,
    "pid": int,
    "seed": int,
    "failure": dict,
    "versions": Each(str),
    "data": {"name": str, "reference": str, "signature": Each(Needed(FIELD))},
    "warnings": Items(Needed({"step": int, "stage": str, "about": str, "text": str})),
    "resumed": list,
    "source": {
        "recipe": {
            "name": str,
            "command": str,
            "path": str,
            "sha256": str,
            "arguments": Items(Needed(str)),
            "out": str,
            "has_flags": bool,
            "resumable": bool,
            "file": str,
        },
        "git": {"commit": Needed(str), "changed": bool},
        "packages": str,
    },
    "stages": Each(Needed(_STAGE)),
}


def check_record(record: Any) -> None:
    """Check ``run.json``; entries that are not listed here may hold anything.

    Raises:
        ValueError: an entry has another type; the message names it.
    """
    check_shape(record, _RECORD)


def check_results(results: Any) -> None:
    """Check ``results.json``: evaluator -> metrics, or run -> evaluator -> metrics.

    Raises:
        ValueError: an entry has another type; the message names it.
    """
    check_shape(results, Each(Needed(dict)))
