"""Discover plugins: import each, check it against the hooks and collect its Specs.

Faults are recorded in ``InstalledPlugin``.  Plugins are examined one at a time through pluggy, with no other plugin registered,
so that none can affect another.  Does not import torch.
"""

from __future__ import annotations

import difflib
import inspect
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, Literal

import pluggy

from reprkit.errors import PluginError, nearest
from reprkit.registry import hookspecs
from reprkit.registry.hookspecs import API, KINDS, PROJECT, Spec
from reprkit.registry.installed import (
    UNKNOWN,
    Installation,
    describe_stale,
    find_installations,
)
from reprkit.registry.isolation import undo_side_effects

SLOW = 1.0  # seconds; a longer import of a plugin is named

Status = Literal["ok", "broken", "incompatible", "disabled"]


@dataclass(frozen=True)
class InstalledPlugin:
    """A plugin and the result of loading it.

    Attributes:
        name: of its entry point (or as registered).
        distribution: that contains it, normalized (``acme-latents``).
        version: of the distribution.
        status: "ok", "broken", "incompatible" (another API number) or "disabled" (by REPRKIT_PLUGINS).
        specs: the Specs it offers, by kind; empty unless the status is "ok".
        reason: one line on why the status is not "ok"; remarks if it is.
        details: the traceback, if any.
        seconds: how long the import took.
        target: the module or object that its entry point names.
        installations: the records of the distribution that were found, the one in use first.
    """

    name: str
    distribution: str
    version: str
    status: Status
    specs: Mapping[str, tuple[Spec, ...]] = field(default_factory=dict)
    reason: str = ""
    details: str = ""
    seconds: float = 0.0
    target: str = ""
    installations: tuple[Installation, ...] = ()

    @property
    def offers(self) -> dict[str, tuple[str, ...]]:
        """The names of the parts it offers, by kind."""
        return {kind: tuple(spec.name for spec in specs) for kind, specs in self.specs.items()}

    @property
    def title(self) -> str:
        """Distribution and version, for error messages."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Candidate:
    """An installed plugin that has not been imported yet."""

    name: str
    distribution: str
    version: str
    entry_point: metadata.EntryPoint | None
    fault: str = ""
    installations: tuple[Installation, ...] = ()


def own_version() -> str:
    """Return the version of reprkit; ``0+unknown`` in a checkout that is not installed."""
    try:
        return metadata.version(PROJECT)
    except metadata.PackageNotFoundError:
        return "0+unknown"


def create_plugin_manager() -> pluggy.PluginManager:
    """Create a plugin manager with reprkit's hooks and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def find_candidates() -> list[Candidate]:
    """Find the entry points of group ``reprkit``, sorted by distribution; imports nothing and raises nothing."""
    return [candidate for records in find_installations() for candidate in _candidates_of(records)]


def _candidates_of(records: list[Installation]) -> list[Candidate]:
    used = records[0]
    if used.state != "used":
        return []  # only leftovers
    identity, found = (used.distribution, used.version), tuple(records)
    if used.fault:
        return [Candidate(used.distribution, *identity, None, used.fault, found)]
    points = sorted(used.entry_points, key=lambda point: point.name)
    return [Candidate(point.name, *identity, point, installations=found) for point in points]


def load_plugin(
    candidate: Candidate, pm: pluggy.PluginManager, taken: Collection[tuple[str, str]] = ()
) -> InstalledPlugin:
    """Import an installed plugin and examine it; everything that it raises except KeyboardInterrupt is caught.

    What its import changes in the process is put back and named in the remarks.
    """
    identity = (candidate.name, candidate.distribution, candidate.version)
    torch_before = "torch" in sys.modules
    with undo_side_effects() as effects:
        try:
            if candidate.entry_point is None:
                raise PluginError(candidate.fault)
            plugin = candidate.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of a native extension is no Exception
            result = _broken(identity, error)
        else:
            result = examine_plugin(plugin, *identity, pm=pm, taken=taken)
    remarks = [describe_stale(candidate.installations)]
    if candidate.version == UNKNOWN:
        remarks.append(f"its METADATA is missing: pip install --force-reinstall {candidate.distribution}")
    if effects.changed:
        remarks.append(f"its import changes {', '.join(effects.changed)}, which was put back")
    if effects.seconds >= SLOW:
        remarks.append(f"its import takes {effects.seconds:.1f} s, in every command")
    if not torch_before and "torch" in sys.modules:
        remarks.append("its plugin module imports torch, which slows every command down")
    reason = "; ".join(remark for remark in (result.reason, *remarks) if remark)
    point = candidate.entry_point
    return replace(
        result,
        reason=reason,
        seconds=effects.seconds,
        target="" if point is None else point.value,
        installations=candidate.installations,
    )


def examine_plugin(
    plugin: Any,
    name: str,
    distribution: str,
    version: str,
    *,
    pm: pluggy.PluginManager,
    taken: Collection[tuple[str, str]] = (),
) -> InstalledPlugin:
    """Check an imported plugin; ``taken`` are the (kind, name) pairs already used by its distribution."""
    identity = (name, distribution, version)
    try:
        api = getattr(plugin, "reprkit_api", API)
        if api != API:
            newer = isinstance(api, int) and api > API
            return InstalledPlugin(
                *identity,
                "incompatible",
                reason=f"it is written for plugin API {api!r} and this reprkit supports {API}: "
                f"upgrade {'reprkit' if newer else distribution}",
            )
        return InstalledPlugin(*identity, "ok", _collect_specs(plugin, pm, taken))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return _broken(identity, error)


def _broken(identity: tuple[str, str, str], error: BaseException) -> InstalledPlugin:
    return InstalledPlugin(*identity, "broken", reason=explain_error(error), details=_format_traceback(error))


def explain_error(error: BaseException) -> str:
    """Format an error in one line; the type is omitted for reprkit's own errors."""
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "its message cannot be printed"
    if isinstance(error, PluginError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _format_traceback(error: BaseException) -> str:
    return (
        ""
        if isinstance(error, PluginError) and not error.__cause__
        else "".join(traceback.format_exception(error))
    )


def _collect_specs(
    plugin: Any, pm: pluggy.PluginManager, taken: Collection[tuple[str, str]]
) -> dict[str, tuple[Spec, ...]]:
    if inspect.isclass(plugin):
        raise PluginError(
            f"the entry point names a class, {plugin.__qualname__}: name the module, or an instance"
        )
    _check_marks(plugin)
    pm.register(plugin)
    try:
        hooks = {caller.name: caller for caller in pm.get_hookcallers(plugin) or ()}
        for hook, caller in hooks.items():
            optional = all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is plugin)
            if not caller.has_spec() and not optional:
                raise PluginError(f"there is no hook {hook!r}.{nearest(hook, KINDS.values())}")
        if not hooks:
            raise PluginError(f"it has no hook; a plugin has at least one of {', '.join(KINDS.values())}")
        return {
            kind: _check_specs(
                hook, hooks[hook](), {name for taken_kind, name in taken if taken_kind == kind}
            )
            for kind, hook in KINDS.items()
            if hook in hooks
        }
    finally:
        pm.unregister(plugin)


def _check_marks(plugin: Any) -> None:
    """Reject hooks without ``@hookimpl``, which pluggy would ignore silently."""
    for name in dir(plugin):
        if name.startswith("reprkit_") and difflib.get_close_matches(name, KINDS.values(), n=1, cutoff=0.8):
            function = inspect.getattr_static(plugin, name)
            if inspect.isroutine(function) and not hasattr(function, f"{PROJECT}_impl"):
                raise PluginError(f"{name} is not marked as a hook: put @hookimpl (from reprkit) above it")


def _check_specs(hook: str, results: list[Any], taken: set[str]) -> tuple[Spec, ...]:
    if not results:
        raise PluginError(f"{hook} returned None: yield each Spec, or return a list of them")
    collected: list[Spec] = []
    for result in results:
        if isinstance(result, str | Spec) or not isinstance(result, Iterable):
            raise PluginError(
                f"{hook} returned {_short_repr(result)}: yield each Spec, or return a list of them"
            )
        for spec in result:
            if not isinstance(spec, Spec):
                raise PluginError(f"{hook} yielded {_short_repr(spec)}, which is not a Spec")
            if spec.name in taken:
                raise PluginError(f"{hook} offers {spec.name!r} twice in one distribution")
            taken.add(spec.name)
            collected.append(spec)
    return tuple(collected)


def _short_repr(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"
