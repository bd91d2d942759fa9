"""Conformance checks of encoders."""

from __future__ import annotations

import math
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from reprkit.evaluation.activations import recorded_outputs
from reprkit.interfaces import Encoder
from reprkit.models.grid import from_tokens, to_tokens
from reprkit.testing.assertions import (
    expect,
    expect_close,
    expect_gradients,
    expect_instance,
    has_trainable_parameters,
)
from reprkit.testing.parts import PartConformance
from reprkit.testing.pool import together
from reprkit.testing.sample_data import refill_padding
from reprkit.types import Features
from reprkit.utils.collectives import gather, sum_over_ranks, world_size


class EncoderConformance(PartConformance):
    """Conformance of an encoder: ``class TestMine(EncoderConformance): part = "acme/mine(width=16)"``."""

    kind = "encoder"

    def encode(
        self, encoder: Encoder, batch: dict[str, Tensor], rows: slice | None = None, **options: Any
    ) -> Any:
        """Encode a batch; an encoder with a ``condition_dim`` gets the condition of ``rows``."""
        rows = slice(0, len(batch["x"])) if rows is None else rows
        return encoder(batch, **self.condition_for(encoder, rows), **options)

    def exercise(self, part: Any) -> None:
        """Run two forward passes in training mode."""
        part.train()
        for seed in (1, 2):
            torch.manual_seed(seed)
            self.encode(part, self.batch(3, seed=seed))

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return its features."""
        return {"features": self.encode(part.eval(), self.batch(3)).x}

    def test_shapes_and_types(self) -> None:
        """Features are (b n out_dim) with n as predicted by ``count`` and ``grid``, also for one example."""
        encoder = self.fresh()
        expect_instance(encoder, Encoder)
        for training in (True, False):
            encoder.train(training)
            for size in (1, 2, 5):
                batch = self.batch(size)
                features = self.encode(encoder, batch)
                expect(isinstance(features, Features), f"it returned {type(features).__name__}, not Features")
                expected = (size, encoder.count(batch), encoder.out_dim)
                shape = tuple(features.x.shape)
                expect(shape == expected, f"features are {shape}, not (b, count, out_dim) = {expected}")
                expect(features.x.is_floating_point(), f"features are {features.x.dtype}")
                expect(torch.isfinite(features.x).all(), "features are not finite")
                for where, grid in (("grid(batch)", encoder.grid(batch)), ("grid", features.grid)):
                    cells = math.prod(grid or (expected[1],))
                    expect(
                        cells == expected[1],
                        f"{where} is {grid}, which has {cells} cells for {expected[1]} tokens",
                    )

    def test_examples_are_independent(self) -> None:
        """In evaluation an example's features do not depend on the other examples of the batch."""
        encoder = self.fresh().eval()
        batch = self.batch(4)
        torch.manual_seed(1)
        alone = self.encode(encoder, {name: value[:1] for name, value in batch.items()})
        torch.manual_seed(1)
        expect_close(alone.x, self.encode(encoder, batch).x[:1], "an example alone and in a batch", 1e-4)

    def test_padding_has_no_effect(self) -> None:
        """Where lengths vary, the values of padding do not change the features of valid tokens."""
        if None not in self.data["x"].shape:
            raise SkipTest("every example of the data has the same length")
        batch = self.batch(4)
        for training in (True, False):
            encoder = self.fresh().train(training)
            torch.manual_seed(1)
            one = self.encode(encoder, batch)
            torch.manual_seed(1)
            two = self.encode(encoder, refill_padding(batch, self.data))
            if one.mask is None:
                expect(
                    one.x.shape[1] == 1, "lengths vary, so Features need a mask (or must be a single token)"
                )
                expect_close(one.x, two.x, "features")
            else:
                expect_close(one.mask, two.mask, "the mask of the features")
                expect_close(one.x[one.mask], two.x[one.mask], "features of valid tokens")

    def test_keep_reads_only_visible_tokens(self) -> None:
        """With ``keep`` features are (b k d) with positions and length, and do not depend on hidden tokens."""
        encoder = self.fresh().eval()
        if "keep" not in encoder.provides:
            raise SkipTest("it does not provide keep")
        batch = self.batch(2)
        batch.pop("x_mask", None)
        count = encoder.count(batch)
        keep = torch.stack([torch.arange(0, count, 2), torch.arange(0, count, 2)])
        torch.manual_seed(1)
        features = self.encode(encoder, batch, keep=keep)
        shape = tuple(features.x.shape[:2])
        expect(shape == tuple(keep.shape), f"features are {shape} tokens for a keep of {tuple(keep.shape)}")
        expect(features.positions is not None, "visible tokens need positions")
        expect_close(features.positions, keep, "positions")
        expect(features.length == count, f"length is {features.length}, not {count}")
        field, grid = self.data["x"], encoder.grid(batch)
        old, new = (to_tokens(x, grid, field.kind) for x in (batch["x"], self.batch(2, seed=1)["x"]))
        visible = torch.zeros(old.shape[:2], dtype=torch.bool).scatter(1, keep, True).unsqueeze(-1)
        changed = from_tokens(torch.where(visible, old, new), grid, field)
        torch.manual_seed(1)
        other = self.encode(encoder, {**batch, "x": changed}, keep=keep).x
        expect_close(features.x, other, "features, with other hidden tokens")

    def test_images_of_any_size(self) -> None:
        """An encoder that provides "any_size" gives one token for each cell of a larger image, and a grid in proportion."""
        encoder = self.fresh().eval()
        if "any_size" not in encoder.provides:
            raise SkipTest('it does not provide "any_size"')
        batch = self.batch(2)
        rows, columns = encoder.grid(batch)
        large = {**batch, "x": batch["x"].repeat(1, 2, 3, *[1] * (batch["x"].ndim - 3))}
        features, expected = self.encode(encoder, large), (2 * rows, 3 * columns)
        found = f"grid is {features.grid} and grid(batch) {encoder.grid(large)}"
        expect(
            features.grid == encoder.grid(large) == expected,
            f"{found}, not {expected}, for an image of 2 x 3 times the size",
        )
        expect(
            features.x.shape[1] == encoder.count(large) == math.prod(expected),
            f"an image of 2 x 3 times the size has {features.x.shape[1]} tokens and count(batch) is {encoder.count(large)}, not "
            f"{math.prod(expected)}",
        )

    def test_output_depends_on_the_condition(self) -> None:
        """The condition changes the features, and is optional."""
        encoder, batch = self.fresh().eval(), self.batch(3)
        self.check_condition(lambda condition: encoder(batch, **condition).x, encoder, 3)

    def test_gradients_reach_every_parameter(self) -> None:
        """A gradient of the features reaches every trainable parameter."""
        encoder = self.fresh().train()
        if not has_trainable_parameters(encoder):
            raise SkipTest("it has no trainable parameter")
        self.encode(encoder, self.batch(3)).x.square().sum().backward()
        expect_gradients(encoder)

    def test_named_layers_are_called(self) -> None:
        """Every one of ``named_layers()`` is called by ``forward`` and gives (b d), (b n d) or (b d h w), of each example."""
        encoder = self.fresh().eval()
        layers = encoder.named_layers()
        if not layers:
            raise SkipTest("it names no layers")
        with recorded_outputs(layers) as seen:
            self.encode(encoder, self.batch(3))
        missing = [name for name in layers if name not in seen]
        expect(not missing, f"forward did not call its layers {', '.join(missing)}: override named_layers()")
        for name, output in seen.items():
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            right = isinstance(output, Tensor) and output.ndim in (2, 3, 4) and len(output) == 3
            expect(
                right, f"layer {name} gives {found}, not (b d), (b n d) or (b d h w): override named_layers()"
            )

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation the features depend neither on the random state nor on earlier calls."""
        encoder = self.fresh().eval()
        torch.manual_seed(1)
        first = self.encode(encoder, self.batch(3)).x
        self.encode(encoder, self.batch(2, seed=9))
        torch.manual_seed(2)
        expect_close(first, self.encode(encoder, self.batch(3)).x, "features in evaluation", 0.0)

    def test_trains_with_odd_widths(self) -> None:
        """It trains with latents of unusual widths."""
        from reprkit.models.build import build

        batch = self.batch(4)
        for dim in (1, 3):
            decoder = "gru(width=8)" if None in self.data["x"].shape else "mlp(widths=(8,))"
            objective = "autoregressive" if None in self.data["x"].shape else "reconstruction"
            latent = f"continuous(dim={dim})"
            model = build(
                data=self.data, encoder=self.fresh(), latent=latent, decoder=decoder, objective=objective
            )
            total = model(batch).total
            total.backward()
            expect(torch.isfinite(total), f"the loss is {total.item()} before {latent}")

    def test_bf16_autocast(self) -> None:
        """Under bf16 autocast the features are finite."""
        encoder = self.fresh().eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.encode(encoder, self.batch(3)).x
        expect(torch.isfinite(x).all(), "features are not finite under bf16 autocast")

    def test_two_ranks_equal_one_process(self) -> None:
        """Features and averaged gradients of two processes equal those of one process on the joined batch."""
        pair, whole = together(2, _train_step, self)[0], _train_step(0, self)
        for name, value in whole.items():
            expect_close(pair[name], value, f"two ranks and one process: {name}", 1e-4)


def _train_step(rank: int, case: EncoderConformance) -> dict[str, Tensor]:
    size = world_size()
    encoder = case.fresh().train()
    rows = slice(rank * 4 // size, (rank + 1) * 4 // size)
    batch = {name: value[rows] for name, value in case.batch(4).items()}
    torch.manual_seed(5)
    x = case.encode(encoder, batch, rows).x
    if has_trainable_parameters(encoder):
        (x.square().sum() / len(x)).backward()
    results = {"features": gather(x.detach())}
    for name, value in encoder.named_parameters():
        if value.grad is not None:
            results[f"gradient of {name}"] = sum_over_ranks(value.grad) / size
    return results
