"""Discover plugins: import each, check it against the hooks and collect its Specs.

Faults are recorded in ``InstalledPlugin``.  Plugins are examined one at a time through pluggy, with no other plugin registered,
so that none can affect another.  Does not import torch.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

import pluggy

from reprkit.errors import PluginError, nearest
from reprkit.registry import hookspecs
from reprkit.registry.hookspecs import API, KINDS, PROJECT, Spec

GROUP = "reprkit"

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
        reason: one line on why the status is not "ok"; a remark if it is.
        details: the traceback, if any.
    """

    name: str
    distribution: str
    version: str
    status: Status
    specs: Mapping[str, tuple[Spec, ...]] = field(default_factory=dict)
    reason: str = ""
    details: str = ""

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


def normalize(name: str) -> str:
    """Normalize a distribution's name for comparison: lower case, dashes only."""
    return re.sub(r"[-_.]+", "-", name).lower()


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
    by_distribution: dict[str, list[Candidate]] = {}
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except (OSError, UnicodeError):
            continue  # unreadable, so it is unknown whether it is a plugin
        if f"[{GROUP}]" not in text:
            continue
        name, version = _identity(distribution)
        by_distribution.setdefault(
            name, list(_candidates_of(distribution, name, version))
        )  # as for imports, the first on sys.path wins
    return sorted(
        (candidate for group in by_distribution.values() for candidate in group),
        key=lambda candidate: (candidate.distribution, candidate.name),
    )


def _candidates_of(distribution: metadata.Distribution, name: str, version: str) -> Iterator[Candidate]:
    try:
        points = list(distribution.entry_points.select(group=GROUP))
    except Exception as error:
        yield Candidate(name, name, version, None, f"its entry_points.txt cannot be read ({error})")
        return
    for point in points:
        yield Candidate(point.name, name, version, point)


def _identity(distribution: metadata.Distribution) -> tuple[str, str]:
    """Read name and version from the head of METADATA; the e-mail parser behind ``.version`` is slow."""
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    except (OSError, UnicodeError):
        text = ""
    head = dict(re.findall(r"^(Name|Version): *(.+?) *$", text.partition("\n\n")[0], flags=re.MULTILINE))
    return normalize(head.get("Name", "unnamed")), head.get("Version", "unknown")


def load_plugin(
    candidate: Candidate, pm: pluggy.PluginManager, taken: Collection[tuple[str, str]] = ()
) -> InstalledPlugin:
    """Import an installed plugin and examine it; all errors except KeyboardInterrupt are caught."""
    identity = (candidate.name, candidate.distribution, candidate.version)
    torch_before = "torch" in sys.modules
    try:
        if candidate.entry_point is None:
            raise PluginError(candidate.fault)
        plugin = candidate.entry_point.load()
    except (Exception, SystemExit) as error:
        return InstalledPlugin(
            *identity, "broken", reason=explain_error(error), details=_format_traceback(error)
        )
    result = examine_plugin(plugin, *identity, pm=pm, taken=taken)
    if result.status == "ok" and not torch_before and "torch" in sys.modules:
        return InstalledPlugin(
            *identity, "ok", result.specs, "its plugin module imports torch, which slows every command down"
        )
    return result


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
    except (Exception, SystemExit) as error:
        return InstalledPlugin(
            *identity, "broken", reason=explain_error(error), details=_format_traceback(error)
        )


def explain_error(error: BaseException) -> str:
    """Format an error in one line; the type is omitted for reprkit's own errors."""
    message = " ".join(str(error).split())
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
