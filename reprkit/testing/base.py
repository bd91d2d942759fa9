"""The base of the conformance classes: creation of the part, the checks of every kind, and assertions."""

from __future__ import annotations

import functools
import inspect
import json
import math
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from reprkit.data.signature import Signature
from reprkit.errors import BuildError, PartArgumentError, nearest
from reprkit.interfaces import BUILD_CONTEXT, Part
from reprkit.registry.annotations import INTERFACES, accepts_part
from reprkit.registry.constraints import check_arguments, resolve_annotations
from reprkit.registry.create import construct, create, restoring_checkpoint
from reprkit.registry.references import parse
from reprkit.registry.registry import default_registry
from reprkit.registry.sources import read_class
from reprkit.testing.sample_data import IMAGES, random_batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


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


class PartConformance(Conformance):
    """The checks of every kind that is an ``nn.Module``.

    Attributes:
        hosts: encoders of the model in which a part with a ``bind`` of its own is checked; the first that goes with it is taken.
    """

    hosts: ClassVar[tuple[str, ...]] = (
        "flat",
        "mlp(widths=(16,))",
        "vit(patch=4, width=16, depth=1, heads=2)",
        "gru(width=16)",
    )

    def condition_for(self, part: Any, rows: slice = slice(None)) -> dict[str, Tensor]:
        """Return the option ``condition`` (b c) of a part that has a ``condition_dim``, with fixed random values."""
        width = getattr(part, "condition_dim", None)
        if width is None:
            return {}
        return {"condition": torch.randn(16, width, generator=torch.Generator().manual_seed(3))[rows]}

    def check_condition(self, outs: Callable[[dict[str, Tensor]], Tensor], part: Any, size: int) -> None:
        """Check that a part with a ``condition_dim`` depends on the condition, and works without one."""
        if getattr(part, "condition_dim", None) is None:
            raise SkipTest("it has no condition_dim")
        one, two = self.condition_for(part, slice(0, size)), self.condition_for(part, slice(1, size + 1))
        expect(torch.isfinite(outs({})).all(), "without a condition its output is not finite")
        torch.manual_seed(1)
        first = outs(one)
        torch.manual_seed(1)
        expect(not torch.equal(first, outs(two)), "its output does not depend on the condition")

    def host(self, part: Part, latent: str = "continuous(dim=3)") -> Model:
        """Build a small model with the part in it, which binds the part."""
        from reprkit.models.build import build

        parts: dict[str, Any] = {"latent": latent, "decoder": "mlp(widths=(8,))"}
        if None in self.data["x"].shape:
            parts["decoder"] = "gru(width=8)"
        parts[part.kind] = part
        causal = "causal" in getattr(parts["decoder"], "provides", ()) or parts["decoder"] == "gru(width=8)"
        parts.setdefault("objective", "autoregressive" if causal else "reconstruction")
        last: BuildError | None = None
        for encoder in self.hosts:
            try:
                return build(
                    **{"data": self.data, "encoder": encoder, **parts},
                    seed=torch.initial_seed() % 2**31,
                )
            except BuildError as error:
                last = error
        assert last is not None
        raise last

    def fresh(self, seed: int = 0) -> Any:
        """Call ``make`` after seeding the global generator; a part with a ``bind`` of its own is bound to a small model."""
        return self.bound(super().fresh(seed))

    def bound(self, part: Any) -> Any:
        """Bind a part that has a ``bind`` of its own to a small model, see ``host``; return the part."""
        if binds(part):
            self.host(part)
        return part

    def test_ties_survive_a_checkpoint(self) -> None:
        """Created again for a checkpoint, its ``bind`` ties the same weights, and with these the model is equal."""
        part = self.fresh()
        if not binds(part):
            raise SkipTest("it has no bind of its own")
        model = self.host(part).eval()
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.1 * torch.randn_like(value))
        arguments, known = self._passed(part)
        with restoring_checkpoint():
            again = construct(type(part), arguments, known, f"{self.kind} {type(part).__name__}")
            loaded = self.host(again).eval()
        loaded.load_state_dict(model.state_dict())
        ties, found = _tied_names(model), _tied_names(loaded)
        expect(ties == found, f"tied in the model: {ties or 'nothing'}; after loading: {found or 'nothing'}")
        batch = self.batch(3)
        torch.manual_seed(1)
        first = model.score(batch).nats
        torch.manual_seed(1)
        expect_close(loaded.score(batch).nats, first, "the likelihood of a batch, after loading")

    def test_repeated_evaluation_is_equal(self) -> None:
        """Evaluated again from the state of the first time, as by a closure, a training forward has equal outputs."""
        from reprkit.training.forward_state import ForwardState, random_states, set_random_states

        part = self.fresh()
        outputs: list[Tensor] = []

        def collect(_: nn.Module, __: Any, output: Any) -> None:
            outputs.extend(leaf.detach().clone() for leaf in tree_leaves(output) if isinstance(leaf, Tensor))

        handle, device = part.register_forward_hook(collect), torch.device("cpu")
        before, random = ForwardState(part), random_states(part, device)
        weights = [(value, value.detach().clone()) for value in part.parameters()]
        self.exercise(part)
        first, outputs = outputs, []
        before.restore()
        set_random_states(part, random, device)
        with torch.no_grad():
            for value, copied in weights:
                value.copy_(copied)
        self.exercise(part)
        handle.remove()
        if not first:
            raise SkipTest("its forward is not called in training")
        expect(len(first) == len(outputs), f"it returned {len(first)} tensors, and then {len(outputs)}")
        for one, again in zip(first, outputs, strict=True):
            expect_close(
                again,
                one,
                "an output, evaluated again after buffers, attributes and random states were restored "
                "(is there state in other objects, or randomness from other generators?)",
            )

    def model_with_part(self) -> Model:
        """Build a small model with a new part in it."""
        return self.host(self.make())

    def test_follows_the_model_to_a_gpu(self) -> None:
        """Moved to a GPU after use on the CPU, a training forward has all its tensors there (no GPU is needed)."""
        from reprkit.testing.fake_device import forward_on_gpu

        torch.manual_seed(0)
        batch = self.batch(4)
        try:
            model = self.model_with_part()
            total = model.train()(batch).total
        except Exception as error:  # which other checks report
            raise SkipTest(f"a model with it fails on the CPU: {error}") from None
        if total.requires_grad:
            total.backward()
        model.update()
        model.zero_grad()
        with torch.no_grad():
            model.eval()(batch)
        forward_on_gpu(model.train(), batch)

    def exercise(self, part: Any) -> None:
        """Use the part as training does, so that its buffers change; defined by each kind."""

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return the outputs of the part in evaluation, by name; defined by each kind."""
        return {}

    def test_arguments_round_trip_through_json(self) -> None:
        """The recorded constructor arguments are JSON and create an equal part."""
        part = self.fresh()
        name = type(part).__name__
        try:
            arguments = json.loads(json.dumps(part.reference.arguments, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"an argument of {name} is not JSON: {error}") from None
        known = self._passed(part)[1]
        torch.manual_seed(0)
        try:
            again = self.bound(construct(type(part), arguments, known, f"{self.kind} {name}"))
        except Exception as error:
            raise AssertionError(
                f"it cannot be created from its recorded arguments {arguments}: {error}"
            ) from error
        expected, recorded = dict(part.reference.arguments), dict(again.reference.arguments)
        expect(expected == recorded, f"created from its recorded arguments {expected}, it records {recorded}")
        expect_same_state(part, again, "created from its recorded arguments")

    def test_parts_in_arguments_are_annotated(self) -> None:
        """An argument that is a part is annotated with its interface; otherwise a model with it cannot be saved."""
        part = self.fresh()
        nested = [item for key, value in part.arguments.items() for item in _iter_parts(value, key)]
        if not nested:
            raise SkipTest("none of its arguments is a part")
        cls = type(part)
        source = read_class(f"{cls.__module__}:{cls.__qualname__}")
        annotations = {item.name: item.annotation for item in source.arguments} if source else {}
        for key, path, inner in nested:
            expect(
                accepts_part(annotations.get(key), inner.kind, path),
                f"its argument {key} is a {inner.kind}, and the source annotates it {annotations.get(key)!r}: write "
                f"{key}: str | {INTERFACES.get(inner.kind, 'the interface')}, since a checkpoint cannot be loaded otherwise",
            )

    def test_weights_round_trip_through_disk(self) -> None:
        """Loaded into a new part, state and outputs are equal: no state is stored outside of the state dict."""
        from safetensors.torch import load_model, save_model

        part, other = self.fresh(0), self.fresh(1)
        self.exercise(part)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "part.safetensors")
            save_model(part, path)
            load_model(other, path)
        expect_same_state(part, other, "loaded from disk")
        before, after = self._observe_seeded(part), self._observe_seeded(other)
        for name, value in before.items():
            expect_close(
                after[name], value, f"loaded from disk, {name} (is there state outside of the buffers?)"
            )

    def _observe_seeded(self, part: Any) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return self.observe(part)

    def test_buffers_keep_their_shape(self) -> None:
        """Parameters and buffers have their final shapes from the constructor on."""
        part = self.fresh()
        before = {name: tuple(value.shape) for name, value in part.state_dict().items()}
        self.exercise(part)
        after = {name: tuple(value.shape) for name, value in part.state_dict().items()}
        changed = sorted({name for name, _ in set(before.items()) ^ set(after.items())})
        expect(not changed, f"during use these appear, vanish or change their shape: {', '.join(changed)}")


def _iter_parts(
    value: Any, key: str, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...], Part]]:
    """Iterate over the parts in an argument, each with its path of containers, as in ``annotations.accepts_part``."""
    if isinstance(value, Part):
        yield key, path, value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _iter_parts(item, key, (*path, "list"))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _iter_parts(item, key, (*path, "dict"))


def binds(part: Any) -> bool:
    """Whether it is a part of the encoder → latent → decoder pipeline with a ``bind`` of its own."""
    return (
        isinstance(part, Part)
        and part.kind in ("encoder", "latent", "decoder")
        and type(part).bind is not Part.bind
    )


def _tied_names(model: nn.Module) -> list[list[str]]:
    """Return the names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(name)
    return [each for each in names.values() if len(each) > 1]


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


def expect(condition: bool | Tensor, message: str) -> None:
    """Raise AssertionError with ``message`` unless the condition holds; unlike ``assert`` also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def expect_close(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Require equality within ``tolerance``, relative and absolute; the error says what differs and by how much."""
    expect(a.shape == b.shape, f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not a.is_floating_point() or a.numel() == 0:
        expect(torch.equal(a, b), f"{what}: differs")
        return
    gap = (a.detach().double() - b.detach().double()).abs()
    limit = tolerance + tolerance * b.detach().double().abs()
    within = (gap <= limit) | (a == b)  # equal infinities have no difference
    expect(within.all(), f"{what}: differs by up to {float(gap.nan_to_num(math.inf).max()):.3g}")


def expect_same_state(one: nn.Module, other: nn.Module, what: str) -> None:
    """Require that both modules have equal state dicts."""
    a, b = one.state_dict(), other.state_dict()
    expect(a.keys() == b.keys(), f"{what}, different tensors: {', '.join(sorted(a.keys() ^ b.keys()))}")
    for name, value in a.items():
        expect_close(b[name], value, f"{what}, {name}", 0.0)


def has_trainable_parameters(part: nn.Module) -> bool:
    """Whether the part has a parameter that training changes; others, such as a flattening encoder, have no gradient."""
    return any(value.requires_grad for value in part.parameters())


def parameters_without_gradient(part: nn.Module) -> list[str]:
    """Return the names of trainable parameters without a gradient after the backward pass."""
    return [name for name, value in part.named_parameters() if value.requires_grad and value.grad is None]


def expect_gradients(part: nn.Module) -> None:
    """Require a gradient of every trainable parameter, since DDP raises on unused ones."""
    unused = parameters_without_gradient(part)
    expect(not unused, f"no gradient reaches {', '.join(unused)}")


def expect_instance(part: Any, base: type[Part]) -> None:
    """Require that the part is a subclass of its interface."""
    expect(isinstance(part, base), f"{type(part).__name__} is not a subclass of reprkit.{base.__name__}")


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
