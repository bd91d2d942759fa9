"""``reprkit check NAME``: run the conformance kit on the parts of an installed plugin, without a test file."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, emit_table
from reprkit.errors import PluginError, ReferenceSyntaxError, ReprkitError, UnknownPartError, nearest
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.installed import normalize
from reprkit.registry.lookup import FoundPart
from reprkit.registry.references import Reference, parse
from reprkit.registry.registry import Registry, default_registry

# The kinds of data that parts are checked on; a copy of reprkit.testing.sample_data.SAMPLE_DATA, whose module imports torch.
DATA = ("images", "colour", "vectors", "sequences", "tokens", "maps", "tables")

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reprkit.testing.kit import Outcome


@dataclass
class Report:
    """The checks of one part.

    Attributes:
        outcomes: kind of data -> outcomes of its checks.
        refused: kind of data -> why the part does not take it.
        unchecked: why nothing could be checked; empty otherwise.
    """

    kind: str
    part: str
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unchecked: str = ""

    def count(self, status: str) -> int:
        """Number of checks with this status, over all kinds of data."""
        return sum(check.status == status for checks in self.outcomes.values() for check in checks)

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
        typer.Option(help="Check parts on this kind of data only; repeatable.", show_default=False),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the checks that start processes.")] = False,
    json: JsonOption = False,
) -> None:
    """Check the parts of an installed plugin against the conformance kit.

    Each part is checked on every kind of data that it takes: images (color images if it refuses gray ones),
    vectors (tables if it refuses plain ones), sequences, tokens. To check a part that needs arguments, give
    it beside its plugin: reprkit check acme "acme/clips(root='small')". Exits with 1 if a check failed or a
    part could not be checked.
    """
    registry = default_registry()
    for kind_of_data in data or ():
        if kind_of_data not in DATA:
            raise typer.BadParameter(f"no kind of data {kind_of_data!r}; known: {', '.join(DATA)}")
    try:
        targets = [target for name in names for target in _find_targets(registry, name)]
    except ReferenceSyntaxError as error:
        raise typer.BadParameter(str(error)) from None
    # A part that is given with arguments replaces the same part without arguments of its plugin.
    with_arguments = {(kind, found.qualified) for kind, found, reference in targets if reference.arguments}
    targets = [
        (kind, found, reference)
        for kind, found, reference in targets
        if reference.arguments or (kind, found.qualified) not in with_arguments
    ]
    reports = []
    with _progress_status() as status:
        for kind, found, reference in targets:
            if status is not None:
                status.update(f"checking {kind} {reference}")
            reports.append(_check_part(registry, kind, found, reference, data or DATA, ranks=not quick))
    if json:
        emit_json([asdict(report) | {"passed": report.passed} for report in reports])
    else:
        _print_reports(reports)
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


def _find_targets(registry: Registry, name: str) -> list[tuple[str, FoundPart, Reference]]:
    """Find the parts that a name stands for: all of a plugin, or those (of any kind) that a reference names."""
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
            known = {part.qualified for kind in KINDS for part in registry.specs(kind)}
            hint = nearest(reference.qualified, known)
            raise UnknownPartError(
                f"no part of any kind is called {reference.qualified}.{hint}\n  see: reprkit list"
            )
        return [
            (part.kind, part, Reference(part.name, reference.arguments, part.distribution)) for part in found
        ]
    distribution = normalize(name)
    rows = [row for row in registry.plugins if distribution in (row.distribution, normalize(row.name))]
    if not rows:
        plugins = sorted({row.distribution for row in registry.plugins})
        parts = {part.name for kind in KINDS for part in registry.specs(kind)}
        if name in parts:
            return _find_targets(registry, f"{name}()")
        raise UnknownPartError(
            f"no plugin named {name!r} is installed.{nearest(distribution, plugins)}\n"
            f"  known: {', '.join(plugins)}"
        )
    for row in rows:
        if row.status != "ok":
            raise PluginError(
                f"plugin {row.title} is {row.status}: {row.reason}\n"
                f"  see: reprkit plugins --why {row.distribution}"
            )
    distributions = {row.distribution for row in rows}
    own = [part for kind in KINDS for part in registry.specs(kind) if part.distribution in distributions]
    if not own:
        raise PluginError(f"plugin {name} offers no parts to check")
    return [(part.kind, part, Reference(part.name, {}, part.distribution)) for part in own]


def _check_part(
    registry: Registry, kind: str, found: FoundPart, reference: Reference, data: Sequence[str], *, ranks: bool
) -> Report:
    report = Report(kind, str(reference))
    if found.missing:
        report.unchecked = f"requires {', '.join(found.missing)}, which is not installed"
        return report
    from reprkit.testing.kit import Outcome, find_refusals, make_case, run_checks

    if kind == "command":
        fault = _command_fault(registry, found)
        about = "The command can be loaded and is a function or a typer.Typer."
        report.outcomes["any"] = [Outcome("it loads", about, "failed" if fault else "passed", fault)]
        return report
    try:
        refusals = find_refusals(kind, report.part, data)
    except ReprkitError as error:
        report.unchecked = " ".join(str(error).split())
        if report.unchecked.startswith(f"{kind} {reference.qualified} needs"):
            report.unchecked += f'; give it: reprkit check "{reference.qualified}(...)"'
        return report
    report.refused = {name: why for name, why in refusals.items() if why}
    for name, why in refusals.items():
        if not why:
            report.outcomes[name] = list(run_checks(make_case(kind, report.part, name), ranks=ranks))
    return report


def _command_fault(registry: Registry, found: FoundPart) -> str:
    try:
        target = registry.load("command", found.qualified)
    except ReprkitError as error:
        return str(error)
    if isinstance(target, typer.Typer) or inspect.isroutine(target):
        return ""
    return f"{found.spec.build} is a {type(target).__name__}"


def _print_reports(reports: list[Report]) -> None:
    for report in reports:
        print(f"{report.kind} {report.part}")
        if report.unchecked:
            print(f"  not checked: {report.unchecked}\n")
            continue
        rows = []
        by_check: dict[str, dict[str, Outcome]] = {}
        for name, checks in report.outcomes.items():
            for outcome in checks:
                by_check.setdefault(outcome.check, {})[name] = outcome
        for check, by_data in by_check.items():
            rows += _rows(check, by_data)
        emit_table(("check", "result", "why"), rows)
        checked = [name for name in report.outcomes if name != "any"]
        if len(checked) > 1 or report.refused:
            refused = f"; it does not take {', '.join(report.refused)}" if report.refused else ""
            print(f"checked on {', '.join(checked)}{refused}")
        _print_hint(report)
        print()
    failed = sum(report.count("failed") for report in reports)
    passed = sum(report.count("passed") for report in reports)
    unchecked = sum(bool(report.unchecked) for report in reports)
    print(
        f"{len(reports)} part{'s' if len(reports) != 1 else ''}: {passed} checks passed, {failed} failed"
        + (f", {unchecked} part{'s' if unchecked != 1 else ''} not checked" if unchecked else "")
    )


def _print_hint(report: Report) -> None:
    """Print what the failures have in common, and the tracebacks of processes."""
    for name, checks in report.outcomes.items():
        failed = sum(check.status == "failed" for check in checks)
        done = sum(check.status != "skipped" for check in checks)
        if len(report.outcomes) > 1 and failed > done / 2:
            print(
                f"most checks fail on {name}: a part that does not take such data should raise\n"
                "  reprkit.errors.BuildError in its constructor; to check it on other data only, give --data"
            )
    details = [check.details for checks in report.outcomes.values() for check in checks if check.details]
    for text in dict.fromkeys(details):
        print(f"\n{text.rstrip()}")


def _rows(check: str, by_data: dict[str, Outcome]) -> list[tuple[str, str, str]]:
    """The row of a check; if it failed, one row for each reason."""
    failed: dict[str, list[str]] = {}
    for name, outcome in by_data.items():
        if outcome.status == "failed":
            failed.setdefault(outcome.reason, []).append(name)
    if failed:
        return [
            (check, "failed", reason if len(by_data) == 1 else f"{', '.join(names)}: {reason}")
            for reason, names in failed.items()
        ]
    if all(outcome.status == "skipped" for outcome in by_data.values()):
        return [(check, "skipped", next(iter(by_data.values())).reason)]
    return [(check, "passed", "")]


def _progress_status() -> Any:
    """A status line on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("checking")
