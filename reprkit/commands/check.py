"""``reprkit check NAME``: the conformance kit on the parts of an installed plugin, without a test file."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import PluginError, ReferenceSyntaxError, ReprkitError, UnknownPartError, nearest
from reprkit.registry.discovery import normalize
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.lookup import FoundPart
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry

# The kinds of data that parts are tried on: reprkit.testing.sample_data.SAMPLE_DATA, which needs torch.
DATA = ("images", "colour", "vectors", "sequences", "tokens")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reprkit.testing.kit import Outcome


@dataclass
class Report:
    """What became of one part.

    Attributes:
        outcomes: kind of data -> its checks.
        refused: kind of data -> why the part does not take it.
        unchecked: why nothing could be checked.
    """

    kind: str
    part: str
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unchecked: str = ""

    def count(self, status: str) -> int:
        """How many of its checks ended so, on all kinds of data."""
        return sum(each.status == status for checks in self.outcomes.values() for each in checks)

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return not self.unchecked and not self.count("failed")


def _names() -> list[str]:
    return sorted({row.distribution for row in default_registry().plugins})


def command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="A plugin, or one part with its arguments: 'acme/fsq(levels=(8, 5))'.",
            autocompletion=_names,
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Try parts on this kind of data only; say it again for more.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the checks that start processes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the parts of an installed plugin against the conformance kit.

    Each part is tried on every kind of data that it takes: images (coloured ones if it refuses grey ones),
    vectors, sequences, tokens.  A part that needs arguments is given them beside its plugin: reprkit check
    acme "acme/clips(root='small')".  Ends with 1 when a check failed or a part could not be checked.
    """
    registry = default_registry()
    for each in data or ():
        if each not in DATA:
            raise typer.BadParameter(f"there is no data {each!r}; there are {', '.join(DATA)}")
    try:
        wanted = [each for name in names for each in _targets(registry, name)]
    except ReferenceSyntaxError as error:
        raise typer.BadParameter(str(error)) from None
    # A part that is named with its arguments replaces the bare one of its plugin.
    given = {(kind, found.qualified) for kind, found, reference in wanted if reference.arguments}
    wanted = [
        (kind, found, reference)
        for kind, found, reference in wanted
        if reference.arguments or (kind, found.qualified) not in given
    ]
    reports = []
    with _busy() as status:
        for kind, found, reference in wanted:
            if status is not None:
                status.update(f"checking {kind} {reference}")
            reports.append(_checked(registry, kind, found, reference, data or DATA, ranks=not quick))
    if json:
        emit_json([asdict(each) | {"passed": each.passed} for each in reports])
    else:
        _show(reports)
    if not all(each.passed for each in reports):
        raise typer.Exit(1)


def _targets(registry: Registry, name: str) -> list[tuple[str, FoundPart, Reference]]:
    """What a name stands for: every part of a plugin, or those parts (of any kind) that a reference names."""
    if "/" in name or "(" in name:
        reference = parse(name)
        found = []
        for kind in KINDS:
            try:
                found.append(registry.find(kind, reference))
            except UnknownPartError as error:
                if "is offered by" in str(error):
                    raise
        if not found:
            offered = {each.qualified for kind in KINDS for each in registry.specs(kind)}
            hint = nearest(reference.qualified, offered)
            raise UnknownPartError(
                f"no part of any kind is called {reference.qualified}.{hint}\n  see: reprkit list"
            )
        return [
            (each.kind, each, Reference(each.name, reference.arguments, each.distribution)) for each in found
        ]
    distribution = normalize(name)
    rows = [row for row in registry.plugins if distribution in (row.distribution, normalize(row.name))]
    if not rows:
        known = sorted({row.distribution for row in registry.plugins})
        parts = {each.name for kind in KINDS for each in registry.specs(kind)}
        if name in parts:
            return _targets(registry, f"{name}()")
        raise UnknownPartError(
            f"no plugin named {name!r} is installed.{nearest(distribution, known)}\n"
            f"  known: {', '.join(known)}"
        )
    for row in rows:
        if row.status != "ok":
            raise PluginError(
                f"plugin {row.title} is {row.status}: {row.reason}\n"
                f"  see: reprkit plugins --why {row.distribution}"
            )
    homes = {row.distribution for row in rows}
    own = [each for kind in KINDS for each in registry.specs(kind) if each.distribution in homes]
    if not own:
        raise PluginError(f"plugin {name} offers nothing that could be checked")
    return [(each.kind, each, Reference(each.name, {}, each.distribution)) for each in own]


def _checked(
    registry: Registry, kind: str, found: FoundPart, reference: Reference, data: Sequence[str], *, ranks: bool
) -> Report:
    report = Report(kind, str(reference))
    if found.missing:
        report.unchecked = f"it requires {', '.join(found.missing)}, which is not installed"
        return report
    from reprkit.testing.kit import Outcome, find_refusals, make_case, run_checks

    if kind == "command":
        fault = _command_fault(registry, found)
        about = "The command can be loaded, and is a function or a typer.Typer."
        report.outcomes["any"] = [Outcome("it loads", about, "failed" if fault else "passed", fault)]
        return report
    try:
        worlds = find_refusals(kind, report.part, data)
    except ReprkitError as error:
        report.unchecked = " ".join(str(error).split())
        if report.unchecked.startswith(f"{kind} {reference.qualified} needs"):
            report.unchecked += f'; give it: reprkit check "{reference.qualified}(...)"'
        return report
    report.refused = {world: why for world, why in worlds.items() if why}
    for world, why in worlds.items():
        if not why:
            report.outcomes[world] = list(run_checks(make_case(kind, report.part, world), ranks=ranks))
    return report


def _command_fault(registry: Registry, found: FoundPart) -> str:
    try:
        target = registry.load("command", found.qualified)
    except ReprkitError as error:
        return str(error)
    if isinstance(target, typer.Typer) or inspect.isroutine(target):
        return ""
    return f"{found.spec.build} is a {type(target).__name__}"


def _show(reports: list[Report]) -> None:
    for report in reports:
        print(f"{report.kind} {report.part}")
        if report.unchecked:
            print(f"  not checked: {report.unchecked}\n")
            continue
        rows = []
        by_check: dict[str, dict[str, Outcome]] = {}
        for world, checks in report.outcomes.items():
            for each in checks:
                by_check.setdefault(each.check, {})[world] = each
        for check, by_world in by_check.items():
            rows += _rows(check, by_world)
        emit_table(("check", "result", "why"), rows)
        tried = [world for world in report.outcomes if world != "any"]
        if len(tried) > 1 or report.refused:
            refused = f"; it does not take {', '.join(report.refused)}" if report.refused else ""
            print(f"tried on {', '.join(tried)}{refused}")
        _hint(report)
        print()
    failed = sum(each.count("failed") for each in reports)
    passed = sum(each.count("passed") for each in reports)
    unchecked = sum(bool(each.unchecked) for each in reports)
    print(
        f"{len(reports)} part{'s' if len(reports) != 1 else ''}: {passed} checks passed, {failed} failed"
        + (f", {unchecked} part{'s' if unchecked != 1 else ''} not checked" if unchecked else "")
    )


def _hint(report: Report) -> None:
    """What the failures have in common, and the tracebacks of processes."""
    for world, checks in report.outcomes.items():
        failed = sum(each.status == "failed" for each in checks)
        if len(report.outcomes) > 1 and failed > len(checks) / 2:
            print(
                f"most checks fail on {world}: a part that does not take such data says so in its\n"
                "  constructor, with reprkit.errors.BuildError; to leave it out here, give --data"
            )
    told = [each.details for checks in report.outcomes.values() for each in checks if each.details]
    for details in dict.fromkeys(told):
        print(f"\n{details.rstrip()}")


def _rows(check: str, by_world: dict[str, Outcome]) -> list[tuple[str, str, str]]:
    """A check's line; where it failed, a line for each reason."""
    failed: dict[str, list[str]] = {}
    for world, each in by_world.items():
        if each.status == "failed":
            failed.setdefault(each.reason, []).append(world)
    if failed:
        return [
            (check, "failed", reason if len(by_world) == 1 else f"{', '.join(worlds)}: {reason}")
            for reason, worlds in failed.items()
        ]
    if all(each.status == "skipped" for each in by_world.values()):
        return [(check, "skipped", next(iter(by_world.values())).reason)]
    return [(check, "passed", "")]


def _busy() -> Any:
    """A line that says what is going on, on a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("checking")
