"""The checks of every part that is a module, and small models to check it in."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from reprkit.errors import BuildError
from reprkit.interfaces import Part
from reprkit.registry.annotations import INTERFACES, accepts_part
from reprkit.registry.create import construct, restoring_checkpoint
from reprkit.registry.sources import read_class
from reprkit.testing.assertions import expect, expect_close, expect_same_state
from reprkit.testing.base import Conformance

if TYPE_CHECKING:
    from reprkit.models.model import Model


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
