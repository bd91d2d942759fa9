"""The result of a look-up, and the error message of a failed one.  Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reprkit.errors import UnknownPartError, nearest
from reprkit.registry.discovery import InstalledPlugin
from reprkit.registry.hookspecs import KINDS, Spec
from reprkit.registry.installed import normalize
from reprkit.registry.references import Reference
from reprkit.registry.sources import locate


@dataclass(frozen=True)
class FoundPart:
    """A Spec with the distribution that provides it."""

    kind: str
    spec: Spec
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The name within its distribution."""
        return self.spec.name

    @property
    def qualified(self) -> str:
        """``distribution/name``, which is unique for each kind."""
        return f"{self.distribution}/{self.spec.name}"

    @property
    def missing(self) -> tuple[str, ...]:
        """The required import names that are not installed."""
        return tuple(module for module in self.spec.requires if locate(module) is None)

    def __str__(self) -> str:
        return f"{self.kind} {self.qualified} {self.version}"


def unknown_part_message(
    kind: str,
    reference: Reference,
    offered: Mapping[str, Sequence[FoundPart]],
    plugins: Sequence[InstalledPlugin],
) -> str:
    """Return the message of a failed look-up: the nearest name, known names, plugins that may be at fault, what to do next."""
    parts = offered[kind]
    names = [part.name for part in parts]
    spellings = sorted({part.qualified if names.count(part.name) > 1 else part.name for part in parts})
    faulty = [plugin for plugin in plugins if plugin.status != "ok"]
    lines = []
    if reference.distribution is None:
        lines.append(f"no {kind} named {reference.name!r}.{nearest(reference.name, names)}")
        lines.append(f"known: {', '.join(spellings) or 'none'}")
    else:
        wanted = normalize(reference.distribution)
        offered_names = [part.name for part in parts if part.distribution == wanted]
        distributions = {plugin.distribution for plugin in plugins}
        faulty = [plugin for plugin in faulty if plugin.distribution == wanted]
        lines.append(f"no {kind} named {reference.qualified!r}.")
        if wanted not in distributions:
            lines[0] += nearest(wanted, distributions)
            lines.append(
                f"no plugin distribution {wanted!r} is installed; there are {', '.join(sorted(distributions))}"
            )
        elif offered_names:
            lines[0] += nearest(reference.name, offered_names)
            lines.append(f"{wanted} offers: {', '.join(offered_names)}")
        elif not faulty:
            lines.append(f"{wanted} is installed and offers no {kind}")
    elsewhere = [
        other for other in KINDS if other != kind and reference.name in {part.name for part in offered[other]}
    ]
    if elsewhere:
        lines.append(f"{reference.name!r} is the name of {' and '.join(map(_with_article, elsewhere))}")
    lines += [
        f"plugin {plugin.title} {_FAULTS[plugin.status]} ({plugin.reason}) and may provide it"
        for plugin in faulty[:3]
    ]
    if len(faulty) > 3:
        lines.append(f"{len(faulty) - 3} more plugins are not available and may provide it")
    lines.append(
        f"see: reprkit plugins --why {faulty[0].distribution}" if faulty else f"see: reprkit list {kind}"
    )
    return "\n  ".join(lines)


_FAULTS = {"broken": "failed to load", "incompatible": "is incompatible", "disabled": "is disabled"}


def parse_kind(text: str) -> str:
    """Return the kind named by a word, singular or plural (``latent``, ``latents``).

    Raises:
        UnknownPartError: there is no such kind.
    """
    for kind in KINDS:
        if text in (kind, f"{kind}s"):
            return kind
    raise UnknownPartError(
        f"there is no kind of part called {text!r}.{nearest(text, KINDS)}\n  kinds: {', '.join(KINDS)}"
    )


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
