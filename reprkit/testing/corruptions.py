"""Conformance checks of corruptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data.padding import broadcast_mask
from reprkit.interfaces import Corruption
from reprkit.testing.assertions import expect, expect_close, expect_instance
from reprkit.testing.parts import PartConformance
from reprkit.testing.pool import together
from reprkit.utils.collectives import gather, world_size

if TYPE_CHECKING:
    from reprkit.models.model import Model


class CorruptionConformance(PartConformance):
    """Conformance of a corruption: ``class TestMine(CorruptionConformance): part = "acme/mine(ratio=0.2)"``."""

    kind = "corruption"

    def model_with_part(self) -> Model:
        """Build a small model that denoises what a new corruption changes."""
        from reprkit.objectives.denoising import Denoising

        return self.host(Denoising(self.make()))

    def exercise(self, part: Any) -> None:
        """Corrupt two batches."""
        for seed in (1, 2):
            part(self.batch(3, seed=seed))

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return the corrupted ``x`` of a batch for a fixed seed."""
        return {"x": part(self.batch(3), torch.Generator().manual_seed(0))[0]["x"]}

    def test_shapes_and_types(self) -> None:
        """Field ``x`` keeps its shape and type, ``hit`` is Bool of the same shape, and all fields are returned."""
        corruption = self.fresh()
        expect_instance(corruption, Corruption)
        for size in (1, 4):
            batch = self.batch(size)
            corrupted, hit = corruption(batch)
            shape, expected = tuple(corrupted["x"].shape), tuple(batch["x"].shape)
            expect(shape == expected, f"x of shape {expected} became {shape}")
            expect(corrupted["x"].dtype == batch["x"].dtype, f"x became {corrupted['x'].dtype}")
            expect(hit.dtype == torch.bool, f"hit is {hit.dtype}, not Bool")
            expect(tuple(hit.shape) == expected, f"hit is {tuple(hit.shape)}, not of x's shape {expected}")
            expect(
                corrupted.keys() == batch.keys(),
                f"it returned fields {', '.join(corrupted)}; the batch has {', '.join(batch)}",
            )

    def test_only_hit_elements_change(self) -> None:
        """Elements outside of ``hit`` are equal, padding is never hit, and the input batch is not modified."""
        batch = self.batch(6)
        before = {name: value.clone() for name, value in batch.items()}
        corrupted, hit = self.fresh()(batch)
        for name, value in before.items():
            expect_close(batch[name], value, f"the input batch's {name}", 0.0)
        expect_close(corrupted["x"][~hit], before["x"][~hit], "x outside of hit", 0.0)
        if "x_mask" in batch:
            padding = ~broadcast_mask(batch["x_mask"], batch["x"])
            expect(not (hit & padding).any(), "padding was hit")

    def test_it_changes_the_data(self) -> None:
        """It changes some element of sixteen examples."""
        batch = self.batch(16)
        before = batch["x"].clone()
        corrupted, hit = self.fresh()(batch)
        expect(hit.any(), "it hit nothing in sixteen examples")
        expect(not torch.equal(corrupted["x"], before), "it changed nothing in sixteen examples")

    def test_draws_depend_on_the_generator(self) -> None:
        """Equal generators give equal draws, different ones different draws; the default is torch's global generator."""
        corruption = self.fresh()
        draws = []
        for seed in (1, 1, 2):
            corrupted, hit = corruption(self.batch(16), torch.Generator().manual_seed(seed))
            draws.append((corrupted["x"], hit))
        for one, two in zip(draws[0], draws[1], strict=True):
            expect_close(one, two, "two draws under equal generators", 0.0)
        same = all(torch.equal(one, two) for one, two in zip(draws[0], draws[2], strict=True))
        expect(not same, "another generator gave the same draw: is it used?")
        again = []
        for _ in range(2):
            torch.manual_seed(3)
            again.append(corruption(self.batch(16))[0]["x"])
        expect_close(again[0], again[1], "two draws under equal states of the global generator", 0.0)

    def test_two_ranks_equal_one_process(self) -> None:
        """Two processes corrupt the rows of a joined batch as one process corrupts the whole batch."""
        pair, whole = together(2, _draw, self)[0], _draw(0, self)
        for name, value in whole.items():
            expect_close(pair[name], value, f"two ranks and one process: {name}")


def _draw(rank: int, case: CorruptionConformance) -> dict[str, Tensor]:
    size = world_size()
    corruption = case.fresh()
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    batch = {name: value[rows] for name, value in case.batch(8).items()}
    torch.manual_seed(5)
    corrupted, hit = corruption(batch)
    return {"x": gather(corrupted["x"]), "hit": gather(hit.long())}
