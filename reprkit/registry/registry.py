"""The registry: the parts offered by all plugins, looked up by kind and name.

Built-in parts are registered by a plugin like all others (``reprkit/registry/builtins.py``, distribution ``reprkit``).  A bare
name can be used while only one distribution offers it; a qualified name, ``acme-latents/vq``, can always be used.  Classes are
imported when they are loaded; this module does not import torch.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reprkit.errors import PartImportError, PluginError, UnknownPartError, nearest
from reprkit.registry.discovery import (
    InstalledPlugin,
    create_plugin_manager,
    examine_plugin,
    explain_error,
    find_candidates,
    load_plugin,
    own_version,
)
from reprkit.registry.hookspecs import KINDS, PROJECT, Spec
from reprkit.registry.installed import normalize
from reprkit.registry.isolation import undo_side_effects
from reprkit.registry.lookup import FoundPart, parse_kind, unknown_part_message
from reprkit.registry.references import Reference, parse


class Registry:
    """Registry of the parts of all plugins.  Plugins are discovered at the first look-up; discovery does not raise.

    Args:
        builtin: include reprkit's own parts.
        installed: include installed plugins, as far as ``REPRKIT_PLUGINS`` allows.
    """

    def __init__(self, *, builtin: bool = True, installed: bool = True) -> None:
        self._builtin, self._installed = builtin, installed
        self._plugins: list[InstalledPlugin] | None = None
        self._registered: dict[str, InstalledPlugin] = {}
        self._lock = threading.RLock()
        self._manager = create_plugin_manager()

    @property
    def plugins(self) -> tuple[InstalledPlugin, ...]:
        """All plugins and their status: built-in, installed (sorted by distribution), then registered by hand.

        Raises:
            PluginError: only when ``REPRKIT_PLUGIN_ERRORS=raise`` is set and a plugin is at fault.
        """
        with self._lock:
            if self._plugins is None:
                self._plugins = []  # set first: a plugin that uses the registry during its import sees the plugins found so far
                try:
                    self._discover(self._plugins)
                except BaseException:
                    self._plugins = None
                    raise
            return (*self._plugins, *self._registered.values())

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Names in ``REPRKIT_PLUGINS`` that match no installed plugin."""
        known = {normalize(name) for plugin in self.plugins for name in (plugin.name, plugin.distribution)}
        return tuple(sorted((_allowed() or set()) - known)) if self._installed else ()

    def specs(self, kind: str) -> list[FoundPart]:
        """Return all parts of a kind, sorted by name and distribution.

        Raises:
            UnknownPartError: there is no such kind.
        """
        kind = parse_kind(kind)
        parts = [
            FoundPart(kind, spec, plugin.distribution, plugin.version)
            for plugin in self.plugins
            for spec in plugin.specs.get(kind, ())
        ]
        return sorted(parts, key=lambda part: (part.name, part.distribution))

    def find(self, kind: str, reference: str | Reference) -> FoundPart:
        """Find the part that a reference names.

        Raises:
            ReferenceSyntaxError: the text is not a reference.
            UnknownPartError: no plugin offers it, or several do and the name is not qualified.
        """
        kind = parse_kind(kind)
        parsed = parse(reference) if isinstance(reference, str) else reference
        matching = [part for part in self.specs(kind) if part.name == parsed.name]
        if parsed.distribution is not None:
            wanted = normalize(parsed.distribution)
            matching = [part for part in matching if part.distribution == wanted]
        if len(matching) == 1:
            return matching[0]
        if matching:
            providers = ", ".join(f"{part.distribution} {part.version}" for part in matching)
            raise UnknownPartError(
                f"{kind} {parsed.name!r} is offered by {providers}\n"
                f"  write the qualified name: {' or '.join(part.qualified for part in matching)}"
            )
        raise UnknownPartError(
            unknown_part_message(
                kind, parsed, {kind_name: self.specs(kind_name) for kind_name in KINDS}, self.plugins
            )
        )

    def load(self, kind: str, name: str | Reference) -> Any:
        """Import and return the class of a part (for a command, the object that its Spec names).

        Raises:
            UnknownPartError: see ``find``.
            PartImportError: its module cannot be imported, or does not contain the class that the Spec names.
        """
        found = self.find(kind, name)
        module_name, _, target = found.spec.build.partition(":")
        try:
            target_object = _import_quietly(module_name, found)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of a native extension is no Exception
            lines = [f"{found} cannot be imported from {module_name}", f"{explain_error(error)}"]
            if found.missing:
                lines.append(
                    f"it requires {', '.join(found.missing)}, not installed here; install it, then try again"
                )
            lines.append(f"see: reprkit show {found.kind} {found.qualified}")
            raise PartImportError("\n  ".join(lines)) from error
        for piece in target.split("."):
            if not hasattr(target_object, piece):
                public = [name for name in vars(target_object) if not name.startswith("_")]
                raise PartImportError(
                    f"{found} is registered as {found.spec.build}, and {module_name} has no {target!r}."
                    f"{nearest(piece, public)}\n"
                    f"  the fault is in {found.distribution} {found.version}: tell its authors"
                )
            target_object = getattr(target_object, piece)
        if found.kind != "command" and not inspect.isclass(target_object):
            raise PartImportError(
                f"{found} is registered as {found.spec.build}, a {type(target_object).__name__} and not a class\n"
                f"  the fault is in {found.distribution} {found.version}: tell its authors"
            )
        return target_object

    def qualified_name_of(self, cls: type, kind: str | None = None) -> str | None:
        """Return ``distribution/name`` of the Spec that names this class, or None.  Imports nothing."""
        offered = [part for kind_name in ([kind] if kind else KINDS) for part in self.specs(kind_name)]
        location = f"{cls.__module__}:{cls.__qualname__}"
        matching = [each for each in offered if each.spec.build == location] or [
            each for each in offered if _is_target(each.spec, cls)
        ]
        return matching[0].qualified if matching else None

    def register(self, plugin: Any, *, name: str, version: str = "0") -> InstalledPlugin:
        """Register a plugin (a module or an object with hooks) by hand, for tests and recipes; the same name replaces it.

        Raises:
            PluginError: the plugin is invalid, or an installed distribution has that name.
        """
        distribution = normalize(name)
        with self._lock:
            for existing in self.plugins:
                if existing.distribution == distribution and distribution not in self._registered:
                    raise PluginError(
                        f"{existing.title} is installed under the name {name!r}: choose another name"
                    )
            installed = examine_plugin(plugin, name, distribution, version, pm=self._manager)
            if installed.status != "ok":
                raise PluginError(f"plugin {installed.title}: {installed.reason}")
            self._registered[distribution] = installed
            return installed

    def _discover(self, plugins: list[InstalledPlugin]) -> None:
        if self._builtin:
            builtin = importlib.import_module("reprkit.registry.builtins")
            plugins.append(
                _raise_if_requested(
                    examine_plugin(builtin, "builtin", PROJECT, own_version(), pm=self._manager)
                )
            )
        allowed = _allowed()
        for candidate in find_candidates() if self._installed else ():
            if allowed is not None and allowed.isdisjoint(
                {normalize(candidate.name), candidate.distribution}
            ):
                reason = "REPRKIT_PLUGINS does not name it"
                plugins.append(
                    InstalledPlugin(
                        candidate.name,
                        candidate.distribution,
                        candidate.version,
                        "disabled",
                        reason=reason,
                        target="" if candidate.entry_point is None else candidate.entry_point.value,
                        installations=candidate.installations,
                    )
                )
                continue
            siblings = [plugin for plugin in plugins if plugin.distribution == candidate.distribution]
            taken = {
                (kind, name) for plugin in siblings for kind, names in plugin.offers.items() for name in names
            }
            plugins.append(_raise_if_requested(load_plugin(candidate, self._manager, taken)))


def _import_quietly(module: str, found: FoundPart) -> Any:
    """Import the module of a part; what a plugin's module changes of the program's results is put back, with a warning."""
    if module in sys.modules or found.distribution == PROJECT:
        return importlib.import_module(module)
    with undo_side_effects(everything=False) as effects:
        imported = importlib.import_module(module)
    if effects.changed:
        warnings.warn(
            f"the import of {module} ({found.distribution} {found.version}) changes {', '.join(effects.changed)}, which was put "
            "back: tell its authors",
            stacklevel=4,
        )
    return imported


def _allowed() -> set[str] | None:
    """Return the normalized names in ``REPRKIT_PLUGINS``; None (not set) allows all plugins, an empty set none."""
    value = os.environ.get("REPRKIT_PLUGINS")
    return None if value is None else {normalize(name.strip()) for name in value.split(",") if name.strip()}


def _raise_if_requested(plugin: InstalledPlugin) -> InstalledPlugin:
    """Return the plugin; raise its fault as an error if ``REPRKIT_PLUGIN_ERRORS=raise`` is set, which helps authors."""
    if plugin.status != "ok" and os.environ.get("REPRKIT_PLUGIN_ERRORS") == "raise":
        raise PluginError(
            f"plugin {plugin.title} (entry point {plugin.name}): {plugin.reason}\n{plugin.details}".rstrip()
        )
    return plugin


def _is_target(spec: Spec, cls: type) -> bool:
    """Whether a Spec names the class by another path (a re-export), judged only from modules already imported."""
    module, _, target = spec.build.partition(":")
    target_object: Any = sys.modules.get(module)
    for piece in target.split("."):
        target_object = getattr(target_object, piece, None)
    return target_object is cls


_default: Registry | None = None
_default_lock = threading.Lock()


def default_registry() -> Registry:
    """Return the process-wide registry, created on first use."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Registry()
        return _default


@contextmanager
def using_registry(registry: Registry | None = None) -> Iterator[Registry]:
    """Context in which ``registry`` is the process-wide one; by default a new registry of the built-in parts only.

    All threads of the process see it.
    """
    global _default
    before, _default = _default, registry or Registry(installed=False)
    try:
        yield _default
    finally:
        _default = before
