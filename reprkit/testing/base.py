"""The base of the conformance classes: creation of the part, and the checks of every kind."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.errors import PartArgumentError, nearest
from reprkit.interfaces import BUILD_CONTEXT, Part
from reprkit.registry.constraints import check_arguments, resolve_annotations
from reprkit.registry.create import construct, create
from reprkit.registry.references import parse
from reprkit.registry.registry import default_registry
from reprkit.testing.assertions import expect
from reprkit.testing.sample_data import IMAGES, random_batch


class Conformance:
    """Base class of conformance tests: subclass the class of the kind, set ``part`` or override ``make``, and run pytest.

    A subclass whose checks start processes must be importable: defined at the top level of its test file.

    Attributes:
        part: a reference such as ``"acme-latents/fsq(levels=(8, 5))"``.
        data: signature of the data on which the part is checked; ``reprkit.testing.sample_data`` has one per kind.
        skips: names of checks that do not apply to the part -> reason; each becomes a skipped test with that
            reason.  A check that is overridden by an empty method would count as passed.
    """

    kind: ClassVar[str]
    part: str | None = None
    data: Signature = IMAGES
    skips: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Replace the checks in ``skips`` by skipped tests.

        Raises:
            PartArgumentError: a name in ``skips`` is not a check of the class, or its reason is empty.
        """
        super().__init_subclass__(**options)
        for name, reason in vars(cls).get("skips", {}).items():
            known = [name for name, _ in all_checks(cls)]
            if name not in known:
                raise PartArgumentError(
                    f"{cls.__name__}.skips names {name!r}, which is not a check of the class.{nearest(name, known)}\n"
                    f"  known: {', '.join(known)}"
                )
            if not reason.strip():
                raise PartArgumentError(f"{cls.__name__}.skips: give the reason why {name} does not apply")
            setattr(cls, name, _skip(getattr(cls, name), reason))

    @property
    def facts(self) -> dict[str, Any]:
        """The build context of the part apart from ``data``, as ``build`` passes it."""
        return {}

    def make(self) -> Any:
        """Create a new instance; weights are equal each time, since the global generator is seeded before."""
        if self.part is None:
            raise NotImplementedError(f"{type(self).__name__}: set part = '...' or override make()")
        return create(self.kind, self.part, data=self.data, **self.facts)

    def fresh(self, seed: int = 0) -> Any:
        """Call ``make`` after seeding the global generator."""
        torch.manual_seed(seed)
        return self.make()

    def batch(self, size: int, *, seed: int = 0, length: int = 6) -> dict[str, Tensor]:
        """Generate a random batch that fits ``data``, padded to ``length`` where lengths vary."""
        return random_batch(self.data, size, seed=seed, length=length)

    def _passed(self, part: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments that the part was created with, and its build context, none for a data set."""
        if not isinstance(part, Part):
            return dict(parse(self.part).arguments) if self.part else {}, {}
        parameters = inspect.signature(type(part)).parameters
        facts = {"data": self.data, **self.facts}
        context = {name: value for name, value in facts.items() if value is not None and name in parameters}
        return dict(part.reference.arguments), context

    def test_arguments_are_declared(self) -> None:
        """Every constructor argument is annotated, and a value outside of the annotation raises an error that names it."""
        part = self.fresh()
        cls = type(part)
        arguments, known = self._passed(part)
        context: tuple[str, ...] = BUILD_CONTEXT if isinstance(part, Part) else ()
        parameters = inspect.signature(cls).parameters
        hints = resolve_annotations(cls)
        for name, parameter in parameters.items():
            if name in context or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            expect(
                parameter.annotation is not parameter.empty,
                f"argument {name} of {cls.__name__} has no annotation: declare it, such as "
                f"{name}: Annotated[int, Ge(1)] (reprkit.registry.constraints)",
            )
            invalid = _invalid_values(name, hints[name])
            if not invalid or (self.part is None and not isinstance(part, Part)):
                continue
            prefix = f"{name}={invalid[0]!r} is outside of {parameter.annotation}, and the constructor"
            try:
                construct(cls, {**arguments, name: invalid[0]}, known, f"{self.kind} {cls.__name__}")
            except PartArgumentError as error:
                named = name in str(error) and cls.__name__ in str(error)
                expect(named, f"{prefix} refuses it without naming the part and the argument: {error}")
            except Exception as error:
                raise AssertionError(
                    f"{prefix} raised {type(error).__name__}, not PartArgumentError"
                ) from error
            else:
                raise AssertionError(
                    f"{prefix} accepted it: is the constructor added after the class was created (a dataclass)?"
                )

    def test_former_argument_names_are_accepted(self) -> None:
        """A former argument name works with one DeprecationWarning, and raises an error together with the present name."""
        part = self.fresh()
        cls = type(part)
        former: Mapping[str, str] = getattr(cls, "renamed_arguments", {})
        if not former:
            raise SkipTest("none of its arguments was renamed")
        if not isinstance(part, Part) and self.part is None:
            raise SkipTest("the part is created by make(), so its arguments are not known")
        parameters = inspect.signature(cls).parameters
        arguments, known = self._passed(part)
        arguments = {former.get(name, name): value for name, value in arguments.items()}
        what = f"{self.kind} {cls.__name__}"
        for old, new in former.items():
            expect(
                new in parameters,
                f"renamed_arguments names {new!r}, which is not an argument of {cls.__name__}",
            )
            expect(
                old not in parameters,
                f"renamed_arguments has {old!r}, which is still an argument of {cls.__name__}",
            )
            value = arguments.get(new, parameters[new].default)
            if value is inspect.Parameter.empty:
                continue
            others = {name: argument for name, argument in arguments.items() if name != new}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                construct(cls, {**others, old: value}, known, what)
            count = sum(
                issubclass(w.category, DeprecationWarning) and f"{old}=" in str(w.message) for w in caught
            )
            expect(count == 1, f"with {old}= it gave {count} DeprecationWarnings, not one")
            try:
                construct(cls, {**others, old: value, new: value}, known, what)
            except PartArgumentError:
                continue
            raise AssertionError(f"it accepted {old}= and {new}= together")

    def test_plugin_module_imports_without_torch(self) -> None:
        """Importing the plugin module with the hooks loads neither torch nor transformers."""
        if self.part is None:
            raise SkipTest("the part is created by make(), so its plugin is not known")
        plugin_part = default_registry().find(self.kind, self.part)
        for module in plugin_modules(plugin_part.distribution):
            heavy = heavy_imports(module)
            expect(
                not heavy,
                f"importing {module} loads {', '.join(heavy)}: refer to classes by Spec(build='module:Class') "
                "and do not import their modules there",
            )


def _invalid_values(name: str, hint: Any) -> list[Any]:
    """Return a list with one value that the annotation does not allow; empty where it allows everything."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {name: hint}
    values: tuple[Any, ...] = ("no such value", -1, 2**62, None, 0.5, True, {})
    for value in values:
        try:
            check_arguments(function, {name: value}, "it")
        except PartArgumentError:
            return [value]
    return []


def plugin_modules(distribution: str) -> list[str]:
    """Return the plugin modules that a distribution names in its entry points."""
    from reprkit.registry.discovery import find_candidates
    from reprkit.registry.hookspecs import PROJECT

    if distribution == PROJECT:
        return ["reprkit.registry.builtins"]
    points = [plugin.entry_point for plugin in find_candidates() if plugin.distribution == distribution]
    return [point.module for point in points if point is not None]


@functools.lru_cache
def heavy_imports(module: str) -> tuple[str, ...]:
    """Return the heavy packages that importing ``module`` in a new interpreter loads."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import importlib; importlib.import_module({module!r})\n"
        "print(*[m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    expect(
        process.returncode == 0, f"importing {module} in a new interpreter fails:\n{process.stderr[-2000:]}"
    )
    return tuple(process.stdout.split())


def _skip(check: Callable[..., None], reason: str) -> Callable[..., None]:
    @functools.wraps(check)
    def skip(self: Conformance) -> None:
        raise SkipTest(reason)

    return skip


def all_checks(cls: type[Conformance]) -> list[tuple[str, Callable[..., None]]]:
    """Return the checks of a conformance class by name, in source order, those of the base classes first."""
    names = [name for base in reversed(cls.__mro__) for name in vars(base) if name.startswith("test_")]
    return [(name, getattr(cls, name)) for name in dict.fromkeys(names)]
