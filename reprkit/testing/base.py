"""What all conformance classes share: how the part is made, and the checks that hold for every kind."""

from __future__ import annotations

import functools
import inspect
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.errors import PartArgumentError, nearest
from reprkit.interfaces import BUILD_CONTEXT, Part
from reprkit.registry.annotations import INTERFACES, takes
from reprkit.registry.constraints import checked, declared
from reprkit.registry.create import construct, create
from reprkit.registry.references import parse
from reprkit.registry.registry import default_registry
from reprkit.registry.sources import read_class
from reprkit.testing.sample_data import IMAGES, random_batch


class Conformance:
    """Subclass the class of your kind, set ``part`` (a reference) or override ``make``, and run pytest.

    A subclass whose checks start processes must be importable: defined at the top level of its test file.

    Attributes:
        part: a reference such as ``"acme-latents/fsq(levels=(8, 5))"``.
        data: the signature of the data that the part is tried on; ``reprkit.testing.sample_data`` has one a kind.
        skips: checks that do not apply to the part -> why; each is then a skipped test with that reason.
            Overriding a check by an empty one would count as passed.
    """

    kind: ClassVar[str]
    part: str | None = None
    data: Signature = IMAGES
    skips: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Replace the checks in ``skips``.

        Raises:
            PartArgumentError: a name in ``skips`` is no check of the class, or its reason is empty.
        """
        super().__init_subclass__(**options)
        for name, reason in vars(cls).get("skips", {}).items():
            known = [name for name, _ in all_checks(cls)]
            if name not in known:
                raise PartArgumentError(
                    f"{cls.__name__}.skips names {name!r}, which is no check.{nearest(name, known)}\n"
                    f"  known: {', '.join(known)}"
                )
            if not reason.strip():
                raise PartArgumentError(f"{cls.__name__}.skips: say why {name} does not apply")
            setattr(cls, name, _skipped(getattr(cls, name), reason))

    @property
    def facts(self) -> dict[str, Any]:
        """What ``build`` would hand over beside ``data``."""
        return {}

    def make(self) -> Any:
        """A fresh instance; weights are equal each time, since the global generator is seeded before."""
        if self.part is None:
            raise NotImplementedError(f"{type(self).__name__}: set part = '...' or override make()")
        return create(self.kind, self.part, data=self.data, **self.facts)

    def fresh(self, seed: int = 0) -> Any:
        """``make`` under a seed."""
        torch.manual_seed(seed)
        return self.make()

    def batch(self, size: int, *, seed: int = 0, length: int = 6) -> dict[str, Tensor]:
        """A random batch that fits ``data``; ``length`` where lengths vary."""
        return random_batch(self.data, size, seed=seed, length=length)

    def test_arguments_are_declared(self) -> None:
        """Every constructor argument has an annotation, and a value that it does not allow is refused by name."""
        part = self.fresh()
        cls = type(part)
        facts = {k: v for k, v in {"data": self.data, **self.facts}.items() if v is not None}
        if isinstance(part, Part):
            handed: tuple[str, ...] = BUILD_CONTEXT
            given = dict(part.reference.arguments)
        else:
            handed, facts = (), {}
            given = dict(parse(self.part).arguments) if self.part else {}
        parameters = inspect.signature(cls).parameters
        hints = declared(cls)
        for name, parameter in parameters.items():
            if name in handed or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            expect(
                parameter.annotation is not parameter.empty,
                f"argument {name} of {cls.__name__} has no annotation: declare it, such as "
                f"{name}: Annotated[int, Ge(1)] (reprkit.registry.constraints)",
            )
            wrong = _outside(name, hints[name])
            if not wrong or (not given and not isinstance(part, Part)):
                continue
            known = {k: v for k, v in facts.items() if k in parameters}
            says = f"{name}={wrong[0]!r} is outside of {parameter.annotation}, and the constructor"
            try:
                construct(cls, {**given, name: wrong[0]}, known, f"{self.kind} {cls.__name__}")
            except PartArgumentError as error:
                named = name in str(error) and cls.__name__ in str(error)
                expect(named, f"{says} refuses it without naming the part and the argument: {error}")
            except Exception as error:
                raise AssertionError(
                    f"{says} raised {type(error).__name__}, not PartArgumentError"
                ) from error
            else:
                raise AssertionError(
                    f"{says} took it: is the constructor made after the class (a dataclass)?"
                )

    def test_plugin_module_imports_without_torch(self) -> None:
        """Importing the module that holds the hooks loads neither torch nor transformers."""
        if self.part is None:
            raise SkipTest("it was made by hand, so no plugin is known")
        found = default_registry().find(self.kind, self.part)
        for module in plugin_modules(found.distribution):
            heavy = heavy_imports(module)
            expect(
                not heavy,
                f"importing {module} loads {', '.join(heavy)}: name classes in Spec(build='module:Class') "
                "and import nothing of theirs there",
            )


class PartConformance(Conformance):
    """The checks of every kind that is an ``nn.Module``."""

    def told(self, part: Any, rows: slice = slice(None)) -> dict[str, Tensor]:
        """What the core would tell a part that has a ``condition_dim``: ``condition`` (b c), fixed numbers."""
        width = getattr(part, "condition_dim", None)
        if width is None:
            return {}
        return {"condition": torch.randn(16, width, generator=torch.Generator().manual_seed(3))[rows]}

    def check_condition(self, outs: Callable[[dict[str, Tensor]], Tensor], part: Any, size: int) -> None:
        """A part with a condition_dim heeds the condition, and does without one."""
        if getattr(part, "condition_dim", None) is None:
            raise SkipTest("it has no condition_dim")
        one, two = self.told(part, slice(0, size)), self.told(part, slice(1, size + 1))
        expect(torch.isfinite(outs({})).all(), "without a condition its output is not finite")
        torch.manual_seed(1)
        first = outs(one)
        torch.manual_seed(1)
        expect(not torch.equal(first, outs(two)), "its output does not depend on the condition")

    def exercise(self, part: Any) -> None:
        """Use the part as training does, so that its buffers change; each kind says how."""

    def observe(self, part: Any) -> dict[str, Tensor]:
        """What the part does in evaluation; each kind says what matters."""
        return {}

    def test_arguments_round_trip_through_json(self) -> None:
        """The recorded constructor arguments are JSON, and make an equal part again."""
        part = self.fresh()
        name = type(part).__name__
        try:
            arguments = json.loads(json.dumps(part.reference.arguments, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"an argument of {name} is not JSON: {error}") from None
        facts = {k: v for k, v in {"data": self.data, **self.facts}.items() if v is not None}
        known = {k: v for k, v in facts.items() if k in inspect.signature(type(part)).parameters}
        torch.manual_seed(0)
        try:
            again = construct(type(part), arguments, known, f"{self.kind} {name}")
        except Exception as error:
            raise AssertionError(
                f"it cannot be made again from its recorded arguments {arguments}: {error}"
            ) from error
        given, found = dict(part.reference.arguments), dict(again.reference.arguments)
        expect(given == found, f"made again, its arguments {given} are {found}")
        expect_same_state(part, again, "made again from its recorded arguments")

    def test_parts_in_arguments_are_annotated(self) -> None:
        """An argument that holds a part is annotated with its interface: else a model with it cannot be saved."""
        part = self.fresh()
        nested = [each for key, value in part.arguments.items() for each in _parts_in(value, key)]
        if not nested:
            raise SkipTest("no argument of it is a part")
        cls = type(part)
        source = read_class(f"{cls.__module__}:{cls.__qualname__}")
        annotations = {each.name: each.annotation for each in source.arguments} if source else {}
        for key, path, inner in nested:
            expect(
                takes(annotations.get(key), inner.kind, path),
                f"its argument {key} holds a {inner.kind}, and the source annotates it {annotations.get(key)!r}: write "
                f"{key}: str | {INTERFACES.get(inner.kind, 'the interface')}, as a checkpoint is refused otherwise",
            )

    def test_weights_round_trip_through_disk(self) -> None:
        """Loaded into a fresh part, its state is equal and it does the same: nothing is kept elsewhere."""
        from safetensors.torch import load_model, save_model

        part, other = self.fresh(0), self.fresh(1)
        self.exercise(part)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "part.safetensors")
            save_model(part, path)
            load_model(other, path)
        expect_same_state(part, other, "loaded from disk")
        before, after = self._seeded(part), self._seeded(other)
        for name, value in before.items():
            expect_close(
                after[name], value, f"loaded from disk, {name} (is there state outside of the buffers?)"
            )

    def _seeded(self, part: Any) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return self.observe(part)

    def test_buffers_keep_their_shape(self) -> None:
        """Parameters and buffers have their final shapes from construction on."""
        part = self.fresh()
        before = {name: tuple(value.shape) for name, value in part.state_dict().items()}
        self.exercise(part)
        after = {name: tuple(value.shape) for name, value in part.state_dict().items()}
        changed = sorted({name for name, _ in set(before.items()) ^ set(after.items())})
        expect(not changed, f"in use these appear, vanish or change their shape: {', '.join(changed)}")


def _parts_in(
    value: Any, key: str, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...], Part]]:
    """The parts in an argument, each with the steps that lead to it, as in ``annotations.takes``."""
    if isinstance(value, Part):
        yield key, path, value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _parts_in(each, key, (*path, "list"))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _parts_in(each, key, (*path, "dict"))


def _outside(name: str, hint: Any) -> list[Any]:
    """A value that the annotation does not allow; empty where it allows everything."""

    def asked(value: Any) -> None: ...

    asked.__annotations__ = {name: hint}
    values: tuple[Any, ...] = ("no such value", -1, 2**62, None, 0.5, True, {})
    for value in values:
        try:
            checked(asked, {name: value}, "it")
        except PartArgumentError:
            return [value]
    return []


def expect(condition: bool | Tensor, message: str) -> None:
    """Fail with ``message`` unless the condition holds; unlike ``assert`` also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def expect_close(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Equal within ``tolerance``, relative and absolute; says what differs and by how much."""
    expect(a.shape == b.shape, f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not a.is_floating_point() or a.numel() == 0:
        expect(torch.equal(a, b), f"{what}: differs")
        return
    gap = (a.detach().double() - b.detach().double()).abs()
    limit = tolerance + tolerance * b.detach().double().abs()
    within = (gap <= limit) | (a == b)  # equal infinities have no difference
    expect(within.all(), f"{what}: differs by up to {float(gap.nan_to_num(math.inf).max()):.3g}")


def expect_same_state(one: nn.Module, other: nn.Module, what: str) -> None:
    """Both hold equal tensors."""
    a, b = one.state_dict(), other.state_dict()
    expect(a.keys() == b.keys(), f"{what}, other tensors: {', '.join(sorted(a.keys() ^ b.keys()))}")
    for name, value in a.items():
        expect_close(b[name], value, f"{what}, {name}", 0.0)


def parameters_without_gradient(part: nn.Module) -> list[str]:
    """Names of trainable parameters that the backward did not reach."""
    return [name for name, value in part.named_parameters() if value.requires_grad and value.grad is None]


def expect_gradients(part: nn.Module) -> None:
    """Every trainable parameter got a gradient: DDP raises on those that never take part."""
    idle = parameters_without_gradient(part)
    expect(not idle, f"no gradient reaches {', '.join(idle)}")


def expect_instance(part: Any, base: type[Part]) -> None:
    """The part is of its kind."""
    expect(isinstance(part, base), f"{type(part).__name__} is not a subclass of reprkit.{base.__name__}")


def plugin_modules(distribution: str) -> list[str]:
    """The modules with hooks that a distribution names in its entry points."""
    from reprkit.registry.discovery import candidates
    from reprkit.registry.hookspecs import PROJECT

    if distribution == PROJECT:
        return ["reprkit.registry.builtins"]
    found = [each.entry_point for each in candidates() if each.distribution == distribution]
    return [each.module for each in found if each is not None]


@functools.lru_cache
def heavy_imports(module: str) -> tuple[str, ...]:
    """The heavy packages that importing ``module`` in a fresh interpreter loads."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import importlib; importlib.import_module({module!r})\n"
        "print(*[m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, f"importing {module} in a fresh interpreter fails:\n{done.stderr[-2000:]}")
    return tuple(done.stdout.split())


def _skipped(check: Callable[..., None], reason: str) -> Callable[..., None]:
    @functools.wraps(check)
    def skip(self: Conformance) -> None:
        raise SkipTest(reason)

    return skip


def all_checks(cls: type[Conformance]) -> list[tuple[str, Callable[..., None]]]:
    """A conformance class's checks by name, in the order they are written, those of every kind first."""
    names = [name for base in reversed(cls.__mro__) for name in vars(base) if name.startswith("test_")]
    return [(name, getattr(cls, name)) for name in dict.fromkeys(names)]
