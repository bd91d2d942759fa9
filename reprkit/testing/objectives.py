"""Conformance checks of objectives."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from reprkit.data.checks import check_batch
from reprkit.data.signature import Signature
from reprkit.errors import DataError
from reprkit.interfaces import Objective
from reprkit.models.factor import FactorSpec
from reprkit.models.weighted_sum import with_reconstruction
from reprkit.testing.assertions import expect, expect_close, expect_gradients, expect_instance
from reprkit.testing.parts import PartConformance
from reprkit.testing.pool import together
from reprkit.testing.sample_data import random_batch
from reprkit.training.coupled_step import CoupledStep
from reprkit.utils.collectives import no_coupling, sum_over_ranks, world_size

# Parts for each kind of data: an encoder that supports keep, a decoder, a causal decoder.
_DEFAULT_PARTS = {
    "image": (
        "vit(patch=4, width=16, depth=1, heads=2)",
        "vit(patch=4, width=16, depth=1, heads=2)",
        "gru(width=16)",
    ),
    "map": (
        "vit(patch=4, width=16, depth=1, heads=2)",
        "vit(patch=4, width=16, depth=1, heads=2)",
        "transformer(width=16, depth=1, heads=2, causal=True)",
    ),
    "vector": ("mlp(widths=(16,))", "mlp(widths=(16,))", "gru(width=16)"),
    "sequence": ("gru(width=16)", "transformer(width=16, depth=1, heads=2)", "gru(width=16)"),
}


class ObjectiveConformance(PartConformance):
    """Conformance of an objective: ``class TestMine(ObjectiveConformance): part = "acme/mine(weight=2)"``.

    The model is built from what the objective's ``example`` names, then these attributes, then defaults for the kind of data.

    Attributes:
        encoder, latent, decoder: the parts of the model; None means those of ``example``, or the defaults.
        factors: name -> ``rk.factor(...)``, instead of encoder and latent; ``data`` must have the fields that they read.
        output: the output field of the decoder.
        steps: number of steps on one batch that must lower the loss.
    """

    kind = "objective"
    encoder: str | None = None
    latent: str | None = None
    decoder: str | None = None
    factors: Mapping[str, FactorSpec] | None = None
    output: str | None = None
    steps: int = 40

    def model(self, outputs: Sequence[str] = ()) -> Any:
        """Build a small model with the objective; ``outputs`` are names of several outputs that return the same field."""
        from reprkit.models.build import build
        from reprkit.models.factor import factor
        from reprkit.models.output import output

        objective = self.fresh()
        expect_instance(objective, Objective)
        example = dict(objective.example(self.data))
        data = example.pop("data", self.data)
        objective = with_reconstruction(objective)  # as `build` does, for penalties
        encoder, decoder, causal = _DEFAULT_PARTS.get(data["x"].kind, _DEFAULT_PARTS["sequence"])
        decoder = (
            self.decoder or example.get("decoder") or (causal if "causal" in objective.needs else decoder)
        )
        decoders: Any = decoder if "decoder" in objective.needs else None
        field = self.output or example.get("output", "x")
        if outputs and not isinstance(decoder, Mapping):  # an objective may prescribe its outputs
            decoders = {name: output(decoder, field=field) for name in outputs}
        factors = self.factors or (None if self.encoder or self.latent else example.get("factors"))
        if factors is None:
            encoder = self.encoder or example.get("encoder", encoder)
            latent = "binary(bits=4)" if "log_prob" in objective.needs else "continuous(dim=4)"
            latent = "gaussian(dim=4)" if "deviation" in objective.needs else latent
            factors = {"code": factor(encoder, self.latent or example.get("latent", latent))}
        return build(
            data=data,
            factors=factors,
            decoder=decoders,
            objective=objective,
            output="x" if outputs else field,
        )

    def model_with_part(self) -> Any:
        """Build a small model with a new objective."""
        return self.model()

    def batch(self, size: int, *, seed: int = 0, length: int = 6) -> dict[str, Tensor]:
        """Generate a random batch that fits the data of the objective's ``example``, by default ``data``."""
        with torch.random.fork_rng(devices=[]):
            data = self.make().example(self.data).get("data", self.data)
        return random_batch(data, size, seed=seed, length=length)

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return nothing: an objective works inside a model, see ``test_weights_round_trip_through_disk``."""
        return {}

    def test_weights_round_trip_through_disk(self) -> None:
        """Loaded into a new model, the objective's losses in evaluation are equal."""
        one, two = self.model(), self.model()
        for turn in one.objective.turns:
            one(self.batch(8), turn)
            one.update()
        with torch.no_grad():
            for value in one.parameters():
                value.add_(0.1 * torch.randn_like(value))
        two.load_state_dict(one.state_dict())
        totals = []
        for model in (one, two):
            torch.manual_seed(1)
            totals.append(model.eval()(self.batch(8)).total)
        expect_close(totals[1], totals[0], "the loss, loaded into a new model")

    def test_buffers_keep_their_shape(self) -> None:
        """Parameters and buffers have their final shapes once the objective is bound to a model."""
        model = self.model()
        before = {name: tuple(value.shape) for name, value in model.objective.state_dict().items()}
        for turn in model.objective.turns:
            model(self.batch(8), turn).total.backward()
            model.update()
        after = {name: tuple(value.shape) for name, value in model.objective.state_dict().items()}
        changed = sorted({name for name, _ in set(before.items()) ^ set(after.items())})
        expect(not changed, f"during use these appear, vanish or change their shape: {', '.join(changed)}")

    def test_losses_are_finite_scalars(self) -> None:
        """Losses are named finite scalars."""
        model = self.model()
        for turn in model.objective.turns:
            for size in (2, 8):
                losses = model(self.batch(size), turn)
                expect(len(losses.terms) > 0, f"turn {turn!r} has no loss")
                for name, value in losses.terms.items():
                    expect(value.ndim == 0, f"loss {name!r} is {tuple(value.shape)}, not a scalar")
                    expect(torch.isfinite(value), f"loss {name!r} is {value.item()} for {size} examples")

    def test_gradients_reach_every_parameter(self) -> None:
        """The gradients of all turns reach every parameter of the model; ``needs`` must not name unused parts."""
        model = self.model()
        for turn in model.objective.turns:
            model(self.batch(8), turn).total.backward()
        expect_gradients(model)

    def test_every_output_is_trained(self) -> None:
        """With several outputs a gradient reaches every parameter of each, if it declares ``several_outputs``."""
        objective = self.fresh()
        if not objective.several_outputs or "decoder" not in objective.needs:
            raise SkipTest("it trains one output, or none")
        model = self.model(outputs=("one", "two"))
        for turn in model.objective.turns:
            model(self.batch(8), turn).total.backward()
        expect_gradients(model)

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation the loss does not depend on the random state."""
        model = self.model().eval()
        totals = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            with torch.no_grad():
                totals.append(model(self.batch(8)).total)
        expect_close(totals[0], totals[1], "the loss in evaluation, under another random state", 0.0)

    def test_batch_is_not_modified(self) -> None:
        """The input batch is not modified."""
        model, batch = self.model(), self.batch(8)
        before = {name: value.clone() for name, value in batch.items()}
        model(batch)
        for name, value in before.items():
            expect_close(batch[name], value, f"the input batch's {name}", 0.0)

    def test_state_changes_in_update_only(self) -> None:
        """In training, a second forward of a step returns the same loss: only ``update`` changes statistics and annealing."""
        model = self.model()
        for turn in model.objective.turns:  # the first forward may initialize a codebook
            model(self.batch(8), turn)
        model.update()
        for turn in model.objective.turns:
            totals = []
            for _ in range(2):
                torch.manual_seed(1)
                totals.append(model(self.batch(8), turn).total.detach())
            expect_close(
                totals[1],
                totals[0],
                f"the loss of turn {turn}, computed again before update (does a forward change the state? use update)",
            )
            model.update()

    def test_its_own_fields_are_filled(self) -> None:
        """``fill`` adds the fields that ``fields`` declares, as declared, deterministic, and replaces none."""
        model = self.model()
        if not model.computed_fields:
            raise SkipTest("it computes no fields")
        assert model.signature is not None
        own = Signature({name: model.signature[name] for name in model.computed_fields})
        batch = self.batch(3)
        filled = model.objective.fill(batch)
        for name in own:
            expect(name in filled, f"fill does not add {name!r}, which fields() declares")
            expect(len(filled[name]) == 3, f"fill made {len(filled[name])} examples of {name!r} for 3")
            expect_close(model.objective.fill(batch)[name], filled[name], f"{name}, filled again", 0.0)
        try:
            check_batch({name: filled[name] for name in own}, own)
        except DataError as error:
            raise AssertionError(f"fill makes values that fields() does not declare: {error}") from error
        given = {**filled, **{name: torch.zeros_like(filled[name]) for name in own}}
        for name in own:
            expect_close(
                model.objective.fill(given)[name], given[name], f"fill replaces the batch's {name}", 0.0
            )

    def test_labels_are_declared(self) -> None:
        """Losses and metrics do not depend on label fields that ``labels`` does not name, and factors and outputs do not read."""
        model = self.model()
        assert model.signature is not None
        known = {*model.objective.labels, *model.data_fields}
        batch = self.batch(8)
        free = [name for name in model.signature.label_fields() if name in batch and name not in known]
        if not free:
            raise SkipTest("labels names all label fields of the data")
        others: list[dict[str, Tensor]] = [{name: torch.zeros_like(batch[name]) for name in free}]
        others.append({name: torch.arange(8) % (model.signature[name].vocab or 2) for name in free})
        views = [{**batch, **each} for each in others]
        views.append({name: value for name, value in batch.items() if name not in free})
        for turn in model.objective.turns:  # the first forward may initialize a codebook
            model(batch, turn)
        for training in (True, False):
            model.train(training)
            for turn in model.objective.turns:
                # Copies, since a forward may change state, which another check reports.
                expected = _losses(copy.deepcopy(model), batch, turn, metrics=not training)
                for view in views:
                    try:
                        found = _losses(copy.deepcopy(model), view, turn, metrics=not training)
                    except (DataError, KeyError) as error:
                        raise AssertionError(
                            f"turn {turn} fails without the label field {', '.join(free)}, which labels does not name: {error}"
                        ) from error
                    for name, value in expected.items():
                        what = f"{name} of turn {turn}, with other values of {', '.join(free)} (name the label in labels)"
                        expect_close(found[name], value, what, 0.0)

    def test_scores_are_in_units_of_the_data(self) -> None:
        """Outside of training ``Model.score`` keeps the data as its target, and nats and point estimate are finite."""
        model = self.model().eval()
        names = [name for name in model.outputs if model.objective.decodes == "the data"]
        if not names:
            raise SkipTest("its decoder does not return the data, or there is none")
        batch = self.batch(4)
        for name in names:
            scored = model.score(batch, output=name)
            target = model.target(batch, scored.decoded, name)
            expect_close(scored.target, target, "in_data_units must not change the target")
            expect(
                bool(scored.nats.isfinite().all()), "nats of an output in units of the data must be finite"
            )
            if scored.decoded.has_point:
                x = scored.decoded.x
                expect(
                    x.shape == target.shape,
                    f"the output {tuple(x.shape)} must have the shape of the data {tuple(target.shape)}",
                )

    def test_samples_fit_the_data(self) -> None:
        """If it ``generates``, samples have the layout of the data, are finite, and depend on the generator alone."""
        model = self.model().eval()
        if not any(member.generates for member in model.objective.members):
            raise SkipTest("it defines no sampler")
        like, draws = self.batch(3), []
        for seed in (1, 2):
            torch.manual_seed(seed)
            draws.append(model.sample(3, torch.Generator().manual_seed(0), like=like))
        values, expected = model.to_batch(draws[0])[model.output], like[model.output]
        expect(
            values.shape == expected.shape,
            f"three samples are {tuple(values.shape)}, and three examples {tuple(expected.shape)}",
        )
        expect(torch.isfinite(values).all(), "a sample is not finite")
        expect_close(draws[1].x, draws[0].x, "two draws under one generator", 0.0)

    def test_loss_can_be_minimized(self) -> None:
        """A few steps on one batch lower the loss of the main turn."""
        model = self.model()
        batch = self.batch(8)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        history = []
        torch.manual_seed(0)
        for _ in range(self.steps):
            optimizer.zero_grad()
            total = model(batch).total
            total.backward()
            optimizer.step()
            model.update()
            history.append(float(total.detach()))
        first, last = sum(history[:5]) / 5, sum(history[-5:]) / 5
        expect(
            last < first, f"the loss went from {first:.4g} to {last:.4g} in {self.steps} steps on one batch"
        )

    def test_two_ranks_equal_one_process(self) -> None:
        """Loss and averaged gradients of two processes equal those of one process on the joined batch."""
        pair, whole = together(2, _train_step, self)[0], _train_step(0, self)
        for name, value in whole.items():
            expect_close(pair[name], value, f"two ranks and one process: {name}", 1e-4)

    def test_pieces_equal_the_whole_batch(self) -> None:
        """Two pieces of a batch give the loss and gradients of the whole; an objective that compares examples declares it.

        Checked for objectives of one turn, and numerically for those whose ``distributes`` is not "mean": others add up.
        """
        model = self.model()
        if len(model.objective.turns) > 1:
            return
        batch = self.batch(8)
        torch.manual_seed(5)
        if model.objective.distributes == "mean":
            with no_coupling():
                model(batch)
            return
        losses = model(batch)
        losses.total.backward()
        whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model = self.model()
        torch.manual_seed(5)
        step = CoupledStep(
            model, [{name: value[rows] for name, value in batch.items()} for rows in (slice(4), slice(4, 8))]
        )
        step.prepare()
        totals = [step.losses(number, model).total / 2 for number in range(2)]
        (totals[0] + totals[1]).backward()
        expect_close(torch.stack(totals).detach().sum(), losses.total, "the loss in two pieces", 1e-4)
        for name, value in model.named_parameters():
            if name in whole:
                expect(value.grad is not None, f"in two pieces no gradient reaches {name}")
                expect_close(value.grad, whole[name], f"in two pieces: gradient of {name}", 1e-4)


def _losses(model: Any, batch: dict[str, Tensor], turn: str, *, metrics: bool) -> dict[str, Tensor]:
    """Return the losses of a batch, and its metrics, from a fixed random state."""
    torch.manual_seed(1)
    losses = model(batch, turn)
    return {**losses.terms, **(losses.metrics if metrics else {})}


def _train_step(rank: int, case: ObjectiveConformance) -> dict[str, Tensor]:
    size = world_size()
    model = case.model()
    whole = case.batch(8)
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    batch = {name: value[rows] for name, value in whole.items()}
    results = {}
    for turn in model.objective.turns:
        torch.manual_seed(5)
        model.zero_grad()
        losses = model(batch, turn)
        losses.total.backward()
        results[f"loss of turn {turn}"] = sum_over_ranks(losses.total.detach()) / size
        for name, value in model.named_parameters():
            if value.grad is not None:
                results[f"gradient of {name}, turn {turn}"] = sum_over_ranks(value.grad) / size
    return results
