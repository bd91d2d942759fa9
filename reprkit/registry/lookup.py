"""What a look-up finds, and what to say when it finds nothing.  Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reprkit.errors import UnknownPartError, nearest
from reprkit.registry.discovery import InstalledPlugin, normalize
from reprkit.registry.hookspecs import KINDS, Spec
from reprkit.registry.references import Reference
from reprkit.registry.sources import locate


@dataclass(frozen=True)
class FoundPart:
    """A Spec and who provides it."""

    kind: str
    spec: Spec
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The name inside its distribution."""
        return self.spec.name

    @property
    def qualified(self) -> str:
        """``distribution/name``, which nobody else can take."""
        return f"{self.distribution}/{self.spec.name}"

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of the import names that it requires are not installed."""
        return tuple(each for each in self.spec.requires if locate(each) is None)

    def __str__(self) -> str:
        return f"{self.kind} {self.qualified} {self.version}"


def unknown_part_message(
    kind: str,
    asked: Reference,
    offered: Mapping[str, Sequence[FoundPart]],
    plugins: Sequence[InstalledPlugin],
) -> str:
    """Why a look-up failed: the nearest name, the known ones, who may be at fault, what to type next."""
    everything = offered[kind]
    names = [each.name for each in everything]
    spellings = sorted({each.qualified if names.count(each.name) > 1 else each.name for each in everything})
    rows = [row for row in plugins if row.status != "ok"]
    lines = []
    if asked.distribution is None:
        lines.append(f"no {kind} named {asked.name!r}.{nearest(asked.name, names)}")
        lines.append(f"known: {', '.join(spellings) or 'none'}")
    else:
        wanted = normalize(asked.distribution)
        own = [each.name for each in everything if each.distribution == wanted]
        present = {row.distribution for row in plugins}
        rows = [row for row in rows if row.distribution == wanted]
        lines.append(f"no {kind} named {asked.qualified!r}.")
        if wanted not in present:
            lines[0] += nearest(wanted, present)
            lines.append(
                f"no plugin distribution {wanted!r} is installed; there are {', '.join(sorted(present))}"
            )
        elif own:
            lines[0] += nearest(asked.name, own)
            lines.append(f"{wanted} offers: {', '.join(own)}")
        elif not rows:
            lines.append(f"{wanted} is installed and offers no {kind}")
    elsewhere = [
        other for other in KINDS if other != kind and asked.name in {each.name for each in offered[other]}
    ]
    if elsewhere:
        lines.append(f"{asked.name!r} is the name of {' and '.join(map(_with_article, elsewhere))}")
    lines += [
        f"plugin {row.title} {_FAULTS[row.status]} ({row.reason}) and may provide it" for row in rows[:3]
    ]
    if len(rows) > 3:
        lines.append(f"{len(rows) - 3} more plugins are not available and may provide it")
    lines.append(
        f"see: reprkit plugins --why {rows[0].distribution}" if rows else f"see: reprkit list {kind}"
    )
    return "\n  ".join(lines)


_FAULTS = {"broken": "failed to load", "incompatible": "is incompatible", "disabled": "is disabled"}


def parse_kind(text: str) -> str:
    """The kind that a word names, singular or plural (``latent``, ``latents``).

    Raises:
        UnknownPartError: no kind is called that.
    """
    for kind in KINDS:
        if text in (kind, f"{kind}s"):
            return kind
    raise UnknownPartError(
        f"there is no kind of part called {text!r}.{nearest(text, KINDS)}\n  kinds: {', '.join(KINDS)}"
    )


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
