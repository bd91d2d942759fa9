"""The registry: what every plugin offers, looked up by kind and name.

Torch-free: a class is imported when it is loaded.  Built-ins come through the same door as everybody
(``reprkit/registry/builtins.py``, distribution ``reprkit``).  A name works alone while one distribution offers it, and
qualified always: ``acme-latents/vq``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
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
    normalize,
    own_version,
)
from reprkit.registry.hookspecs import KINDS, PROJECT, Spec
from reprkit.registry.lookup import FoundPart, parse_kind, unknown_part_message
from reprkit.registry.references import Reference, parse


class Registry:
    """What the plugins offer.  Discovery happens at the first question and never raises.

    Args:
        builtin: whether reprkit's own parts are in it.
        installed: whether installed plugins are in it, as far as ``REPRKIT_PLUGINS`` allows.
    """

    def __init__(self, *, builtin: bool = True, installed: bool = True) -> None:
        self._builtin, self._installed = builtin, installed
        self._rows: list[InstalledPlugin] | None = None
        self._by_hand: dict[str, InstalledPlugin] = {}
        self._lock = threading.RLock()
        self._manager = create_plugin_manager()

    @property
    def plugins(self) -> tuple[InstalledPlugin, ...]:
        """What became of every plugin: built-ins, installed ones by distribution, those registered by hand.

        Raises:
            PluginError: only when ``REPRKIT_PLUGIN_ERRORS=raise`` is set and a plugin is at fault.
        """
        with self._lock:
            if self._rows is None:
                self._rows = []  # first: a plugin that asks while it is imported sees what is known so far
                try:
                    self._discover(self._rows)
                except BaseException:
                    self._rows = None
                    raise
            return (*self._rows, *self._by_hand.values())

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Names in ``REPRKIT_PLUGINS`` that no installed plugin answers to."""
        known = {normalize(name) for row in self.plugins for name in (row.name, row.distribution)}
        return tuple(sorted((_allowed() or set()) - known)) if self._installed else ()

    def specs(self, kind: str) -> list[FoundPart]:
        """Everything of a kind that can be looked up, by name and then distribution.

        Raises:
            UnknownPartError: there is no such kind.
        """
        kind = parse_kind(kind)
        found = [
            FoundPart(kind, spec, row.distribution, row.version)
            for row in self.plugins
            for spec in row.specs.get(kind, ())
        ]
        return sorted(found, key=lambda each: (each.name, each.distribution))

    def find(self, kind: str, reference: str | Reference) -> FoundPart:
        """The one part that a reference names.

        Raises:
            ReferenceSyntaxError: the text is not a reference.
            UnknownPartError: nobody offers it, or several do and the name is not qualified.
        """
        kind = parse_kind(kind)
        asked = parse(reference) if isinstance(reference, str) else reference
        matching = [each for each in self.specs(kind) if each.name == asked.name]
        if asked.distribution is not None:
            wanted = normalize(asked.distribution)
            matching = [each for each in matching if each.distribution == wanted]
        if len(matching) == 1:
            return matching[0]
        if matching:
            providers = ", ".join(f"{each.distribution} {each.version}" for each in matching)
            raise UnknownPartError(
                f"{kind} {asked.name!r} is offered by {providers}\n"
                f"  write which one is meant: {' or '.join(each.qualified for each in matching)}"
            )
        raise UnknownPartError(
            unknown_part_message(kind, asked, {each: self.specs(each) for each in KINDS}, self.plugins)
        )

    def load_plugin(self, kind: str, name: str | Reference) -> Any:
        """The class of a part (for a command, whatever its Spec names); its module is imported now.

        Raises:
            UnknownPartError: as ``find``.
            PartImportError: its module cannot be imported, or does not hold what the Spec promises.
        """
        found = self.find(kind, name)
        module_name, _, target = found.spec.build.partition(":")
        try:
            made: Any = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:
            lines = [f"{found} cannot be imported from {module_name}", f"{explain_error(error)}"]
            if found.missing:
                lines.append(
                    f"it requires {', '.join(found.missing)}, not installed here; install, then try again"
                )
            lines.append(f"see: reprkit show {found.kind} {found.qualified}")
            raise PartImportError("\n  ".join(lines)) from error
        for part in target.split("."):
            if not hasattr(made, part):
                public = [each for each in vars(made) if not each.startswith("_")]
                raise PartImportError(
                    f"{found} is announced as {found.spec.build}, and {module_name} has no {target!r}."
                    f"{nearest(part, public)}\n"
                    f"  the fault is in {found.distribution} {found.version}: tell its authors"
                )
            made = getattr(made, part)
        if found.kind != "command" and not inspect.isclass(made):
            raise PartImportError(
                f"{found} is announced as {found.spec.build}, a {type(made).__name__} and not a class\n"
                f"  the fault is in {found.distribution} {found.version}: tell its authors"
            )
        return made

    def qualified_name_of(self, cls: type, kind: str | None = None) -> str | None:
        """``distribution/name`` of the Spec that builds this class, or None.  Imports nothing."""
        offered = [each for every in ([kind] if kind else KINDS) for each in self.specs(every)]
        home = f"{cls.__module__}:{cls.__qualname__}"
        matching = [each for each in offered if each.spec.build == home] or [
            each for each in offered if _is_target(each.spec, cls)
        ]
        return matching[0].qualified if matching else None

    def register(self, plugin: Any, *, name: str, version: str = "0") -> InstalledPlugin:
        """Add a plugin by hand, a module or an object with hooks: for tests and recipes.  Again replaces it.

        Raises:
            PluginError: the plugin is at fault, or an installed distribution has that name.
        """
        distribution = normalize(name)
        with self._lock:
            for row in self.plugins:
                if row.distribution == distribution and distribution not in self._by_hand:
                    raise PluginError(
                        f"{row.title} is installed under the name {name!r}: register yours under another"
                    )
            row = examine_plugin(plugin, name, distribution, version, pm=self._manager)
            if row.status != "ok":
                raise PluginError(f"plugin {row.title}: {row.reason}")
            self._by_hand[distribution] = row
            return row

    def _discover(self, rows: list[InstalledPlugin]) -> None:
        if self._builtin:
            builtin = importlib.import_module("reprkit.registry.builtins")
            rows.append(
                _checked(examine_plugin(builtin, "builtin", PROJECT, own_version(), pm=self._manager))
            )
        allowed = _allowed()
        for each in find_candidates() if self._installed else ():
            if allowed is not None and allowed.isdisjoint({normalize(each.name), each.distribution}):
                reason = "REPRKIT_PLUGINS does not name it"
                rows.append(
                    InstalledPlugin(each.name, each.distribution, each.version, "disabled", reason=reason)
                )
                continue
            siblings = [row for row in rows if row.distribution == each.distribution]
            taken = {(kind, name) for row in siblings for kind, names in row.offers.items() for name in names}
            rows.append(_checked(load_plugin(each, self._manager, taken)))


def _allowed() -> set[str] | None:
    """What ``REPRKIT_PLUGINS`` allows, normalised; None (not set) allows everybody, empty nobody."""
    value = os.environ.get("REPRKIT_PLUGINS")
    return None if value is None else {normalize(each.strip()) for each in value.split(",") if each.strip()}


def _checked(row: InstalledPlugin) -> InstalledPlugin:
    """The row itself; for authors who set ``REPRKIT_PLUGIN_ERRORS=raise``, its fault as an error."""
    if row.status != "ok" and os.environ.get("REPRKIT_PLUGIN_ERRORS") == "raise":
        raise PluginError(
            f"plugin {row.title} (entry point {row.name}): {row.reason}\n{row.details}".rstrip()
        )
    return row


def _is_target(spec: Spec, cls: type) -> bool:
    """Whether a Spec names the class by another path (a re-export), judged from modules imported already."""
    module, _, target = spec.build.partition(":")
    made: Any = sys.modules.get(module)
    for part in target.split("."):
        made = getattr(made, part, None)
    return made is cls


_default: Registry | None = None
_default_lock = threading.Lock()


def default_registry() -> Registry:
    """The process-wide registry, made on first use."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Registry()
        return _default


@contextmanager
def using_registry(registry: Registry | None = None) -> Iterator[Registry]:
    """Make ``registry`` (a fresh one of built-ins only, when not given) the process-wide one for a while.

    Not for threads that share the process: they see it too.
    """
    global _default
    before, _default = _default, registry or Registry(installed=False)
    try:
        yield _default
    finally:
        _default = before
