"""Conformance checks of likelihoods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import torch
from torch import Tensor
from torch.distributions import Distribution

from reprkit.interfaces import Likelihood
from reprkit.models.grid import row_grid, to_tokens
from reprkit.registry.create import create
from reprkit.testing.assertions import expect, expect_close, expect_instance
from reprkit.testing.parts import PartConformance

if TYPE_CHECKING:
    from reprkit.models.model import Model

_DRAWS = 4000


class LikelihoodConformance(PartConformance):
    """Conformance of a likelihood: ``class TestMine(LikelihoodConformance): part = "acme/mine"``.

    Override ``reference`` where torch.distributions has the distribution.
    """

    kind = "likelihood"

    def reference(self, params: Mapping[str, Tensor]) -> Distribution | None:
        """Return the distribution of these parameters as torch has it; None where it has none."""
        return None

    def target(self, size: int, *, seed: int = 0) -> Tensor:
        """Return random data as tokens (b n p)."""
        field, x = self.data["x"], self.batch(size, seed=seed)["x"]
        return to_tokens(x, row_grid(field, x), field.kind)

    def outputs(
        self, part: Likelihood, shape: torch.Size, *, scale: float = 1.0, seed: int = 0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return random outputs of a head (b n p k) and random constants, in the order of ``params``."""
        generator = torch.Generator().manual_seed(seed)

        def noise(*sizes: int) -> Tensor:
            return scale * torch.randn(sizes, generator=generator)

        outputs = {name: noise(*shape, size) for name, size in part.outputs().items()}
        constants = {
            name: start + 0.1 * noise(*start.shape) for name, start in part.constants(shape[-1]).items()
        }
        return outputs, constants

    def params(self, part: Likelihood, shape: torch.Size, *, seed: int = 0) -> dict[str, Tensor]:
        """Return random parameters for data of a shape (b n p)."""
        return part.params(*self.outputs(part, shape, seed=seed))

    def repeated(self, part: Likelihood) -> dict[str, Tensor]:
        """Return the random parameters of one token for each of many examples, of full size (b 1 p) or (b 1 p k)."""
        elements = self.target(1).shape[-1]
        params = self.params(part, torch.Size((1, 1, elements)), seed=4)
        return {
            name: value.expand(_DRAWS, 1, elements, *value.shape[3:]).contiguous()
            for name, value in params.items()
        }

    def model_with_part(self) -> Model:
        """Build a small model whose decoder has a new likelihood."""
        likelihood = self.make()
        if None in self.data["x"].shape:
            return self.host(create("decoder", "gru(width=8)", data=self.data, likelihood=likelihood))
        return self.host(
            create("decoder", "mlp(widths=(8,))", data=self.data, tokens=1, likelihood=likelihood)
        )

    def exercise(self, part: Any) -> None:
        """Compute the loss of two batches."""
        for seed in (1, 2):
            target = self.target(3, seed=seed)
            part.nll(self.params(part, target.shape, seed=seed), target)

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return loss and point estimate."""
        target = self.target(3)
        params = self.params(part, target.shape)
        return {"nll": part.nll(params, target), "point": part.point(params)}

    def test_shapes_and_types(self) -> None:
        """Parameters broadcast to the data; loss, point estimate and samples have its shape, and the loss is finite."""
        part = self.fresh()
        expect_instance(part, Likelihood)
        sizes = part.outputs()
        expect("linear" in sizes, f"its outputs are {', '.join(sizes)}; one must be called linear")
        expect(
            all(name.isidentifier() and size >= 1 for name, size in sizes.items()),
            f"its outputs {sizes} are not plain words with sizes from 1",
        )
        for size in (1, 4):
            target = self.target(size)
            shape = tuple(target.shape)
            params = self.params(part, target.shape)
            for name, value in params.items():
                fits = value.ndim in (3, 4) and all(
                    a in (1, b) for a, b in zip(value.shape[:3], shape, strict=True)
                )
                expect(fits, f"{name} is {tuple(value.shape)}, which does not broadcast to the data, {shape}")
            nll = part.nll(params, target)
            expect(tuple(nll.shape) == shape, f"nll is {tuple(nll.shape)}, and the data {shape}")
            expect(nll.dtype == torch.float32, f"nll is {nll.dtype}, not float32")
            expect(torch.isfinite(nll).all(), "the loss of data in range is not finite")
            expected = torch.int64 if part.discrete else torch.float32
            for what, value in (
                ("the point estimate", part.point(params)),
                ("a sample", part.sample(params)),
            ):
                expect(tuple(value.shape) == shape, f"{what} is {tuple(value.shape)}, and the data {shape}")
                expect(value.dtype == expected, f"{what} is {value.dtype}, not {expected}")

    def test_probabilities_sum_to_one(self) -> None:
        """The probabilities of all values of an element sum to 1, or the density integrates to 1."""
        part = self.fresh()
        shape = self.target(2).shape
        params = self.params(part, shape)
        if part.discrete:
            logits = params["logits"]
            each = [part.nll(params, torch.full(shape, value)) for value in range(logits.shape[-1])]
            expect_close(
                torch.stack(each, -1),
                -torch.log_softmax(logits, -1).expand(*shape, -1),
                "nll of each symbol, and that of its logit",
            )
        elif part.support is not None:
            each = [part.nll(params, torch.full(shape, value)) for value in part.support]
        elif part.density:
            params = {name: value.double() for name, value in params.items()}
            # Steps that grow with the distance, so that heavy tails are integrated, too.
            u = torch.linspace(-12, 12, 2401, dtype=torch.float64)
            center, width = part.point(params), 24 / 2400
            each = [
                part.nll(params, center + math.sinh(at)) - math.log(math.cosh(at) * width)
                for at in u.tolist()
            ]
        elif self.data["x"].columns:
            self._check_columns(part, params, shape)
            return
        else:
            raise SkipTest("it has neither symbols, nor a support, nor a density: test its sum yourself")
        total = torch.logsumexp(-torch.stack(each, -1).double(), -1).exp()
        expect_close(total, torch.ones_like(total), "the sum of the probabilities of an element", 2e-3)

    def _check_columns(self, part: Likelihood, params: dict[str, Tensor], shape: torch.Size) -> None:
        """Check that the probabilities of a category's classes sum to 1, and that the density of a number integrates to 1."""
        params = {name: value.double() for name, value in params.items()}
        row = self.target(shape[0]).double()
        for column, places in self.data["x"].column_slices:
            # The values of the column, one a row, and the log-width that each stands for.
            if column.kind == "category":
                values, widths = torch.eye(column.width, dtype=row.dtype), torch.zeros(column.width)
            else:
                u = torch.linspace(-12, 12, 2401, dtype=row.dtype)
                values = (column.mean + column.std * torch.sinh(u)).unsqueeze(-1)
                widths = torch.log(column.std * torch.cosh(u) * 0.01)
            each = []
            for value, width in zip(values, widths, strict=True):
                changed = row.clone()
                changed[..., places] = value
                each.append(part.nll(params, changed)[..., places].sum(-1) - width)
            total = torch.logsumexp(-torch.stack(each, -1).double(), -1).exp()
            expect_close(
                total, torch.ones_like(total), f"the sum of the probabilities of column {column.name}", 2e-3
            )

    def test_intervals_agree_with_the_density(self) -> None:
        """``log_mass`` of intervals that cover the line sums to 1, and that of a short one is its density times its length."""
        part = self.fresh()
        if not part.density:
            raise SkipTest("it is not a density")
        shape = self.target(2).shape
        params = self.params(part, shape)
        edges = [-math.inf, *torch.linspace(-3, 3, 13).tolist(), math.inf]
        masses = [
            part.log_mass(params, torch.full(shape, low), torch.full(shape, high)).double().exp()
            for low, high in itertools.pairwise(edges)
        ]
        total = torch.stack(masses).sum(0)
        expect_close(total, torch.ones_like(total), "the sum of log_mass over the line", 1e-4)
        params = {name: value.double() for name, value in params.items()}
        for offset in (-1.0, 0.2, 1.0):
            middle = part.point(params).expand(shape) + offset
            found = part.log_mass(params, middle - 5e-5, middle + 5e-5)
            expect_close(
                found.double(),
                math.log(1e-4) - part.nll(params, middle),
                "log_mass of a short interval, and the density times its length",
                2e-3,
            )

    def test_nll_equals_the_reference(self) -> None:
        """The loss equals the negative ``log_prob`` of torch's distribution, where ``reference`` gives one."""
        part = self.fresh()
        target = self.target(3)
        params = self.params(part, target.shape)
        reference = self.reference(params)
        if reference is None:
            raise SkipTest("no distribution of torch is given as its reference")
        for value in (target, part.sample(params)):
            expect_close(
                part.nll(params, value),
                -reference.log_prob(value),
                "nll, and -log_prob of the reference",
                1e-4,
            )

    def test_samples_agree_with_the_loss(self) -> None:
        """Over samples the gradient of the loss is 0 on average for every parameter, as for any distribution's own samples."""
        part = self.fresh()
        params = {name: value.detach().requires_grad_() for name, value in self.repeated(part).items()}
        torch.manual_seed(2)
        part.nll(params, part.sample(params).detach()).sum().backward()
        for name, value in params.items():
            if value.grad is None:
                continue
            gradient = value.grad.double().flatten(1)
            error = gradient.std(0) / math.sqrt(_DRAWS)
            worst = (gradient.mean(0).abs() / (error + 1e-5)).max()
            expect(
                worst < 6,
                f"over {_DRAWS} samples the gradient of {name} is {float(worst):.1f} standard errors from 0: sample and nll are "
                "different distributions",
            )

    def test_point_estimate_is_central(self) -> None:
        """The point estimate is at least as close to samples as another sample is."""
        part = self.fresh()
        params = self.repeated(part)
        torch.manual_seed(3)
        one, two = part.sample(params), part.sample(params)
        point = part.point(params)
        if part.discrete:
            own, other = (point == one).double().mean(), (two == one).double().mean()
            expect(
                own > other - 0.03, "another sample equals a sample more often than the point estimate does"
            )
        else:
            own, other = (point - one).double().square().mean(0), (two - one).double().square().mean(0)
            expect(
                (own <= 1.1 * other + 1e-6).all(),
                "another sample is closer to a sample than the point estimate",
            )

    def test_gradients_are_finite(self) -> None:
        """Loss and gradient are finite for extreme outputs, and a gradient reaches every output and constant."""
        part = self.fresh()
        for scale in (1.0, 60.0):
            target = self.target(3)
            outputs, constants = self.outputs(part, target.shape, scale=scale)
            leaves = {**outputs, **constants}
            for value in leaves.values():
                value.requires_grad_()
            nll = part.nll(part.params(outputs, constants), target)
            expect(torch.isfinite(nll).all(), f"the loss is not finite for outputs of size {scale:g}")
            nll.sum().backward()
            for name, value in leaves.items():
                expect(value.grad is not None, f"no gradient reaches {name}")
                gradient = torch.zeros(1) if value.grad is None else value.grad
                expect(
                    torch.isfinite(gradient).all(),
                    f"the gradient of {name} is not finite for outputs of size {scale:g}",
                )

    def test_temperature_narrows_samples(self) -> None:
        """Temperature 1 changes nothing, a lower one brings samples closer to each other, and at 0 they are equal."""
        part = self.fresh()
        target = self.target(2)
        params = self.params(part, target.shape)
        expect_close(
            part.nll(part.temper(params, 1.0), target), part.nll(params, target), "nll at temperature 1"
        )
        many = self.repeated(part)

        def spread(temperature: float) -> Tensor:
            cooled = part.temper(many, temperature)
            torch.manual_seed(4)
            return (part.sample(cooled).double() - part.sample(cooled).double()).square().mean()

        expect(spread(0.0) == 0, "at temperature 0 samples differ")
        expect(spread(0.3) < 0.999 * spread(1.0), "at temperature 0.3 samples differ as much as at 1")

    def test_draws_depend_on_the_generator(self) -> None:
        """Equal generators give equal samples, different ones different samples; the default is torch's global generator."""
        part = self.fresh()
        params = self.repeated(part)
        one, two, other = (part.sample(params, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        expect_close(one, two, "two samples under equal generators", 0.0)
        expect(not torch.equal(one, other), "another generator gave the same sample: is it used?")
        again = []
        for _ in range(2):
            torch.manual_seed(3)
            again.append(part.sample(params))
        expect_close(again[0], again[1], "two samples under equal states of the global generator", 0.0)

    def test_half_precision_is_computed_in_full(self) -> None:
        """The loss of bfloat16 parameters is computed in float32."""
        part = self.fresh()
        target = self.target(3)
        low = {name: value.bfloat16() for name, value in self.params(part, target.shape).items()}
        nll = part.nll(low, target)
        expect(nll.dtype == torch.float32, f"the loss of bfloat16 parameters is {nll.dtype}, not float32")
        same = part.nll({name: value.float() for name, value in low.items()}, target)
        expect_close(nll, same, "the loss of bfloat16 parameters, and of the same in float32")

    def test_tokens_are_independent(self) -> None:
        """The loss of a token depends on no other token and no other example."""
        part = self.fresh()
        target, other = self.target(4), self.target(4, seed=9)
        params = self.params(part, target.shape)
        whole = part.nll(params, target)
        changed = target.clone()
        changed[1:], changed[:, 1:] = other[1:], other[:, 1:]
        expect_close(
            part.nll(params, changed)[:1, :1], whole[:1, :1], "a token's loss, with other tokens beside it"
        )
