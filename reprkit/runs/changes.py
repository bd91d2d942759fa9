"""What differs between a run and its resumption: what may change, and what makes it another run.  Does not import torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from reprkit.errors import ReprkitError, TrainingError
from reprkit.registry.references import parse

# What may change; the new value holds from the step of the resumption.
_ORDER = ("batch", "buckets", "groups", "mates")  # the order of examples depends on these
_FREE = (
    "steps",
    "lr",
    "weight_decay",
    "schedule",
    "warmup",
    "clip",
    "accumulate",
    "precision",
    "freeze",
    "ema",
    "ranks",
    "strategy",
    "device",
)
_QUIET = (
    "steps",
    "ranks",
    "strategy",
    "device",
)  # recorded without a warning: nobody changes them by accident
# What decides the order of a stream besides its records, and what it was before it was recorded.
_STREAM = ("reading", "shards", "readers", "buffer")
_FORMER_READING = "every process reads all records and decodes its own"
_LENGTH = 60  # of a value in a message


def compare_runs(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    renamed: Mapping[str, str],
    same_data: bool | None,
    former: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Compare the facts of a run, as its state has them, with those of its resumption.

    A fact that the state lacks, since an earlier version wrote it, is not compared.

    Args:
        before: of the saved state.
        now: of the resumption.
        renamed: former -> present name of arguments of the model's parts.
        same_data: whether the fingerprints of the data agree; None where one of them is missing.
        former: part -> its arguments whose default was another one in earlier versions, with that default.

    Returns:
        The changes, ``{"setting", "from", "to"}``.

    Raises:
        TrainingError: it is another run: another seed, model, objective, data set or kind of optimizer.
    """
    refused = [
        *_compare("seed", before.get("seed"), now.get("seed")),
        *_compare_models(_present_model(before, renamed, former or {}), now.get("model")),
        *_compare_optimizers(before, now),
        *_compare_data(before.get("data"), now.get("data"), same_data),
    ]
    for name, extra in (now.get("extra") or {}).items():
        refused += _compare_data((before.get("extra") or {}).get(name), extra, None, f"extra data {name!r}")
    if refused:
        raise TrainingError(
            "this is not the run that was saved:\n  "
            + "\n  ".join(
                f"{name} was {_show(old, new)} and is {_show(new, old)}" for name, old, new in refused
            )
            + "\n  resume with what it was made of, or start another run: another out="
        )
    changes = [
        {"setting": name, "from": before.get(name), "to": now.get(name)}
        for name in (*_FREE, *_ORDER)
        if (name in before or name in (*_ORDER, "freeze"))
        and (before.get(name) or None) != (now.get(name) or None)
    ]
    changes += _stream_changes(before.get("data"), now.get("data"))
    changes += [
        {"setting": f"optimizer, turn {turn}: {name}", "from": old[name], "to": new[name]}
        for turn, old, new in _pairs(before.get("settings"), now.get("settings"))
        for name in new
        if name in old and old[name] != new[name] and name != "weight_decay"
    ]
    if before.get("recipe") and now.get("recipe") and before["recipe"] != now["recipe"]:
        changes.append({"setting": "source of the recipe", "from": before["recipe"], "to": now["recipe"]})
    return changes


def warning_about(changes: list[dict[str, Any]]) -> str:
    """Return the warning about changed settings of a resumed run; empty if there is nothing to say."""
    shown = [
        "source of the recipe"
        if change["setting"].startswith("source")
        else f"{change['setting']} {change['from']} → {change['to']}"
        for change in changes
        if change["setting"] not in _QUIET
    ]
    if not shown:
        return ""
    order = any(
        change["setting"] in _ORDER or change["setting"].endswith(" of the stream") for change in changes
    )
    return f"resumed with another {', '.join(shown)}" + (
        ": from here on the order of examples differs" if order else ""
    )


def _compare(name: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if before is not None and before != now:
        yield name, before, now


def _present_model(
    before: Mapping[str, Any], renamed: Mapping[str, str], former: Mapping[str, Mapping[str, Any]]
) -> Any:
    """Return the model's facts of a state in terms of this version: names of arguments, and defaults that have changed since."""
    model = before.get("model")
    if not isinstance(model, Mapping):
        return model
    earlier = "settings" not in before  # a state of version 0.1

    def present(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: present(each) for name, each in value.items()}
        value = _with_present_names(value, renamed)
        return _with_former_defaults(value, former) if earlier else value

    found = {name: present(value) for name, value in model.items()}
    if earlier:  # the weights of a sum held for all turns; which weights say that now cannot be read from it
        found.pop("weights", None)
    return found


def _with_former_defaults(value: Any, former: Mapping[str, Mapping[str, Any]]) -> Any:
    """Add the arguments to a reference that it leaves to a default of its version."""
    if not isinstance(value, str):
        return value
    try:
        reference = parse(value)
    except ReprkitError:
        return value
    added = {name: v for name, v in former.get(reference.name, {}).items() if name not in reference.arguments}
    return str(replace(reference, arguments={**reference.arguments, **added})) if added else value


def _compare_models(before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return
    for name in ("decoder", "objective", "weights"):
        old = before.get(name)
        if name in before and (old or None) != (now.get(name) or None):
            yield name, old, now.get(name)
    for kind in ("factors", "outputs"):
        ours, theirs = now.get(kind) or {}, before.get(kind) or {}
        for name in dict.fromkeys((*theirs, *ours)):
            old, new = theirs.get(name), ours.get(name)
            if not isinstance(old, Mapping) or not isinstance(new, Mapping):
                yield f"{kind[:-1]} {name}", old, new
                continue
            for key in new:
                value = old.get(key)
                if key in old and value != new[key]:
                    yield f"{key} of {kind[:-1]} {name}", value, new[key]


def _with_present_names(value: Any, renamed: Mapping[str, str]) -> Any:
    """Replace former names of arguments in the references of a state."""
    if not isinstance(value, str):
        return value
    for former, present in renamed.items():
        value = re.sub(rf"\b{re.escape(former)}=", f"{present}=", value)
    return value


def _pairs(before: Any, now: Any) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for turn, new in (now or {}).items():
        old = before.get(turn) if isinstance(before, Mapping) else None
        if isinstance(old, Mapping):
            yield turn, old, new


def _compare_optimizers(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    if "settings" not in before:  # of an earlier version, which recorded the option alone
        was, is_now = (str(facts.get("optimizer")).partition("(")[0].lower() for facts in (before, now))
        yield from _compare("the optimizer", was if "optimizer" in before else None, is_now)
    for turn, old, new in _pairs(before.get("settings"), now.get("settings")):
        if old.get("name") != new["name"]:
            yield f"the optimizer of turn {turn}", old.get("name"), new["name"]
            continue
        for name, value in new.items():
            fixed = isinstance(value, bool | str) or isinstance(old.get(name), bool | str)
            if name in old and old[name] != value and fixed:
                yield f"{name} of the optimizer of turn {turn}", old[name], value


def _compare_data(
    before: Any, now: Any, same: bool | None, what: str = "the data"
) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return
    for name in ("signature", "size", "records"):
        if name in before and name in now and _differ(before[name], now[name]):
            yield f"{name} of {what}", before[name], now[name]
            return
    if same is False:
        yield f"fingerprint of {what}", before.get("fingerprint"), now.get("fingerprint")


def _stream_changes(before: Any, now: Any) -> list[dict[str, Any]]:
    """Return what gives a stream another order."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping) or not now.get("stream"):
        return []
    before = {"reading": _FORMER_READING, **before}
    return [
        {"setting": f"{name} of the stream", "from": before[name], "to": now[name]}
        for name in _STREAM
        if name in before and name in now and before[name] != now[name]
    ]


def _differ(before: Any, now: Any) -> bool:
    """Whether two values differ; keys of a field that an earlier version did not write are not compared."""
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return bool(before != now)
    if before.keys() != now.keys():
        return True
    return any(
        any(now[name].get(key) != value for key, value in old.items())
        if isinstance(old, Mapping) and isinstance(now[name], Mapping)
        else old != now[name]
        for name, old in before.items()
    )


def _show(value: Any, other: Any) -> str:
    """Show a value, of a long one the piece where it differs from the other one."""
    text = str(value)
    if len(text) <= _LENGTH:
        return text
    same = sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, str(other), strict=False))
    )
    start = max(0, same - 10)
    piece = text[start : start + _LENGTH]
    return f"{'...' if start else ''}{piece}{'...' if start + _LENGTH < len(text) else ''}"
