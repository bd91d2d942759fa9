"""Conformance checks of latents."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from reprkit.errors import CompressionError, PartArgumentError
from reprkit.interfaces import Encoder, Latent
from reprkit.layers.trees import check_tree, right_branching
from reprkit.testing.assertions import expect, expect_close, expect_gradients, expect_instance
from reprkit.testing.parts import PartConformance
from reprkit.testing.pool import together
from reprkit.types import Batch, Code, Features
from reprkit.utils import symbol_coder
from reprkit.utils.collectives import gather, no_coupling, sum_over_ranks, world_size

SIZES = ((1, 1), (2, 1), (3, 5), (4, 16))


class LatentConformance(PartConformance):
    """Conformance of a latent: ``class TestFSQ(LatentConformance): part = "acme-latents/fsq"``."""

    kind = "latent"

    def features(self, latent: Latent, b: int, n: int, *, masked: bool = False, seed: int = 0) -> Features:
        """Generate random features (b n in_dim); with ``masked`` the last tokens of each example are padding."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(b, n, latent.in_dim, generator=generator)
        mask = None
        if masked:
            mask = torch.arange(n)[None] < torch.arange(1, b + 1)[:, None].clamp(max=max(1, n - 1))
        return Features(x=x, mask=mask)

    def exercise(self, part: Any) -> None:
        """Run two training steps."""
        part.train()
        for seed in (1, 2):
            torch.manual_seed(seed)
            part(self.features(part, 8, 4, seed=seed))
            part.update()

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return the code in evaluation, and the losses after further training steps."""
        features = self.features(part, 3, 4)
        code = part.eval()(features)
        self.exercise(part)
        return {"z": code.z, **{f"loss {name}": value for name, value in part(features).losses.items()}}

    def test_shapes_and_types(self) -> None:
        """Features (b n in_dim) give a float32 code (b m out_dim) at several sizes, also for one token; m is ``count(n)``."""
        latent = self.fresh()
        expect_instance(latent, Latent)
        for training in (True, False):
            latent.train(training)
            for b, n in SIZES:
                self._check(latent, latent(self.features(latent, b, n)), b, latent.count(n))

    def _check(self, latent: Latent, code: Any, b: int, n: int) -> None:
        where = f"for a code of {n} tokens"
        expect(isinstance(code, Code), f"it returned {type(code).__name__}, not a Code")
        expected = (b, n, latent.out_dim)
        if code.deviation is not None:
            expect((code.deviation > 0).all(), f"deviation is not above 0 {where}")
        for name, value in (("z", code.z), ("mean", code.mean), ("deviation", code.deviation)):
            if value is not None:
                expect(
                    tuple(value.shape) == expected, f"{name} is {tuple(value.shape)}, not {expected} {where}"
                )
                expect(value.dtype == torch.float32, f"{name} is {value.dtype}, not float32 {where}")
        if latent.vocab is None:
            expect(code.indices is None, "vocab is None, so the code must not have indices")
        else:
            _check_indices(code, latent.vocab, (b, n))
        for name, value, shape in (("bits", code.bits, (b,)), ("log_prob", code.log_prob, (b, n))):
            if value is not None:
                expect(tuple(value.shape) == shape, f"{name} is {tuple(value.shape)}, not {shape} {where}")
        declared = code.log_prob is None or "log_prob" in latent.provides
        expect(
            declared,
            'its codes have log_prob, and provides does not name it: provides = frozenset({"log_prob"})',
        )
        expect(
            (code.deviation is not None) == ("deviation" in latent.provides),
            'codes have a deviation if and only if provides names it: provides = frozenset({"deviation"})',
        )
        for name, loss in code.losses.items():
            expect(loss.ndim == 0, f"loss {name!r} is {tuple(loss.shape)}, not a scalar")
            expect(torch.isfinite(loss), f"loss {name!r} is {loss.item()} {where}")
        for name, metric in code.metrics.items():
            expect(not metric.requires_grad, f"metric {name!r} carries a gradient: detach it")

    def test_the_collapse_floor_is_a_share(self) -> None:
        """``collapse_floor``, the usage below which the core warns, is a share in [0, 1); 0 turns the warning off."""
        floor = self.fresh().collapse_floor
        expect(
            isinstance(floor, int | float) and 0 <= floor < 1,
            f"collapse_floor is {floor!r}, not a share of the codes in [0, 1)",
        )

    def test_masked_tokens_have_no_effect(self) -> None:
        """The values of masked tokens do not change the valid tokens' code, losses, bits, metrics or the state."""
        for training in (True, False):
            results = []
            for filler in (0.0, 7.0):
                latent = self.fresh().train(training)
                torch.manual_seed(3)
                features = self.features(latent, 4, 6, masked=True)
                assert features.mask is not None
                x = torch.where(features.mask.unsqueeze(-1), features.x, torch.tensor(filler))
                code = latent(Features(x=x, mask=features.mask))
                if training:
                    latent.update()
                results.append((latent, code))
            (one, a), (two, b) = results
            expect(a.mask is not None, "the code has no mask: create it with Code.of(features, ...)")
            assert a.mask is not None
            assert b.mask is not None
            expect(a.mask.shape == a.z.shape[:2], "the code's mask does not have the shape of its tokens")
            if latent.count(6) == 6:
                expect(a.mask.equal(features.mask), "the code's mask is not that of the features")
            expect_close(a.mask, b.mask, "the code's mask")
            expect_close(a.z[a.mask], b.z[a.mask], "the code of valid tokens")
            if a.bits is not None:
                expect_close(a.bits, b.bits, "bits")
            for name in a.losses:
                expect_close(a.losses[name], b.losses[name], f"loss {name!r}")
            for name in a.metrics:
                expect_close(
                    torch.as_tensor(a.metrics[name]), torch.as_tensor(b.metrics[name]), f"metric {name!r}"
                )
            for name, value in one.state_dict().items():
                expect_close(value, two.state_dict()[name], f"state {name}")

    def test_trees_are_in_post_order(self) -> None:
        """A latent that provides "tree" gives a valid one, whatever the padding holds; any other keeps that of the features."""
        own = "tree" in self.fresh().provides
        for masked in (False, True):
            trees = []
            for filler in (0.0, 7.0):
                latent = self.fresh().train()
                torch.manual_seed(3)
                features = self.features(latent, 4, 5, masked=masked)
                mask = torch.ones(4, 5, dtype=torch.bool) if features.mask is None else features.mask
                x = torch.where(mask.unsqueeze(-1), features.x, torch.tensor(filler))
                given = None if own else right_branching(mask)
                code = latent(Features(x=x, mask=features.mask, parents=given))
                if given is not None:
                    if latent.count(5) != 5 or code.grid == ():
                        raise SkipTest("its code has tokens of its own")
                    same = code.parents is not None and torch.equal(code.parents, given)
                    expect(
                        same,
                        "the code does not have the features' tree: create it with Code.of(features, ...)",
                    )
                if own:
                    if code.parents is None:
                        raise AssertionError('it provides "tree", and its code has no parents')
                    _check_parents(code)
                trees.append(code.parents)
            expect_close(trees[1], trees[0], "the tree, with other values of masked tokens")
        if own:
            return
        code = latent(self.features(latent, 2, 5))
        expect(code.parents is None, 'its code has parents: declare them, provides = frozenset({"tree"})')

    def test_log_prob_has_a_gradient(self) -> None:
        """In training the gradient of ``log_prob`` reaches the features of valid tokens, and ``log_prob`` is 0 at padding.

        By policy gradient, a latent learns from it alone.
        """
        if "log_prob" not in self.fresh().provides:
            raise SkipTest('it does not provide "log_prob"')
        for masked in (False, True):
            latent = self.fresh().train()
            features = self.features(latent, 4, 6, masked=masked)
            x = features.x.requires_grad_()
            torch.manual_seed(3)
            code = latent(features)
            if code.log_prob is None:
                raise AssertionError('it provides "log_prob", and its code in training has none')
            expect(torch.isfinite(code.log_prob).all(), "log_prob is not finite")
            if code.mask is not None:
                expect((code.log_prob[~code.mask] == 0).all(), "log_prob counts padded tokens")
            expect(code.log_prob.requires_grad, "log_prob has no gradient: compute it from the features")
            code.log_prob.sum().backward()
            reached = x.grad is not None and bool(x.grad.abs().sum() > 0)
            expect(reached, "no gradient of log_prob reaches the features")
            assert x.grad is not None
            if features.mask is not None:
                expect((x.grad[~features.mask] == 0).all(), "a gradient of log_prob reaches padded tokens")

    def test_gradients_reach_every_parameter(self) -> None:
        """Gradients of the code and the losses reach the features and every parameter."""
        latent = self.fresh().train()
        features = self.features(latent, 8, 4)
        x = features.x.requires_grad_()
        code = latent(features)
        (code.z.square().sum() + sum(code.losses.values(), torch.zeros(()))).backward()
        expect(
            x.grad is not None, "no gradient reaches the encoder: use a straight-through or relaxed estimate"
        )
        assert x.grad is not None
        expect(x.grad.abs().sum() > 0, "the gradient that reaches the encoder is zero everywhere")
        expect_gradients(latent)

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation the code depends neither on the random state nor on earlier calls."""
        latent = self.fresh()
        self.exercise(latent)
        latent.eval()
        features = self.features(latent, 3, 4)
        torch.manual_seed(1)
        first = latent(features)
        latent(self.features(latent, 2, 3, seed=9))
        torch.manual_seed(2)
        expect_close(first.z, latent(features).z, "z in evaluation", 0.0)

    def test_state_changes_in_update_only(self) -> None:
        """A forward in training does not change the code before ``update``, except the first one, where the latent ``starts``."""
        latent = self.fresh()
        if latent.starts:
            latent.train()(self.features(latent, 8, 4))
            expect(not latent.starts, "starts is still True after a forward in training")
        features = self.features(latent, 3, 4, seed=5)
        torch.manual_seed(1)
        before = latent.eval()(features).z
        latent.train()(self.features(latent, 8, 4, seed=1))
        torch.manual_seed(1)
        expect_close(
            latent.eval()(features).z,
            before,
            "z in evaluation, after a forward in training and before update (say that it starts, or change it in update)",
            0.0,
        )

    def test_embed_reproduces_the_code(self) -> None:
        """``embed(indices)`` equals z in evaluation."""
        latent = self.fresh()
        if latent.vocab is None:
            raise SkipTest("it is continuous")
        self.exercise(latent)
        latent.eval()
        code = latent(self.features(latent, 3, 4))
        expect_close(latent.embed(code.indices), code.z, "embed(indices) and z in evaluation")

    def test_bytes_reproduce_the_code(self) -> None:
        """``read(write(code))`` gives the code of all valid tokens, in another instance with the same state.

        A latent that writes bytes without being discrete, such as a codec, also writes the code that it read as the same bytes.
        """
        latent, other = self.fresh(0), self.fresh(1).eval()
        if not latent.writes:
            raise SkipTest("it writes no bytes")
        self.exercise(latent)
        latent.eval()
        code = latent(self.features(latent, 5, 6, masked=True))
        assert code.mask is not None
        if latent.vocab is None:
            _check_payload(latent, other, code)
            return
        valid = code.indices[code.mask]
        counts = latent.zero_counts()
        latent.count_symbols(code, counts)
        latent.set_frequencies(counts)
        other.load_state_dict(latent.state_dict())
        tables = latent.frequencies()
        if tables is not None:
            _check_tables(tables, latent.vocab)
        like, written = Code.of(code, z=torch.zeros_like(code.z)), latent.write(code)
        try:
            again = other.read(written, like)
        except CompressionError as error:
            raise AssertionError(
                f"a copy with the same state cannot read what was written: {error}"
            ) from error
        what = "of valid tokens, written and read by a copy with the same state"
        expect_close(again.indices[code.mask], valid, f"indices {what}")
        expect_close(again.z[code.mask], other.embed(code.indices)[code.mask], f"z {what}", 0.0)

    def test_table_bits_are_those_of_the_bytes(self) -> None:
        """``table_bits`` of the counts of a code is the size of what ``write`` gives, under tables of other codes."""
        latent = self.fresh()
        if latent.vocab is None:
            raise SkipTest("it is continuous")
        self.exercise(latent)
        latent.eval()
        counts = latent.zero_counts()
        latent.count_symbols(latent(self.features(latent, 5, 6)), counts)
        latent.set_frequencies(counts)
        code, counts = latent(self.features(latent, 2, 128, seed=1)), latent.zero_counts()
        latent.count_symbols(code, counts)
        told, strings = latent.table_bits(counts), latent.write(code)
        size = 8 * sum(map(len, strings))
        # The coder's state is up to 64 bits, at the start or at the end of a string, and a string has whole bytes.
        expect(
            abs(told - size) <= 0.01 * told + 80 * len(strings),
            f"table_bits(counts) says {told:.1f} bits, and write gives {size} in {len(strings)} strings",
        )

    def test_prior_has_the_shape_of_codes(self) -> None:
        """``prior((b, n))`` returns finite codes (b n out_dim), equal for equal generators."""
        latent = self.fresh()
        if not latent.has_prior:
            raise SkipTest("it has no prior of its own")
        draws = [latent.prior((3, 2), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        shape, expected = tuple(draws[0].shape), (3, 2, latent.out_dim)
        expect(shape == expected, f"prior((3, 2)) gave {shape}, not {expected}")
        expect(torch.isfinite(draws[0]).all(), "the prior drew values that are not finite")
        expect_close(draws[0], draws[1], "two draws from the prior under one generator", 0.0)
        expect(not torch.equal(draws[0], draws[2]), "another generator gave the same draw: is it used?")

    def test_log_prior_is_finite_and_masked(self) -> None:
        """``log_prior(code)`` is (b n), finite, and zero at padded tokens."""
        latent = self.fresh()
        if type(latent).log_prior is Latent.log_prior:
            raise SkipTest("it has no log_prior")
        self.exercise(latent)
        latent.eval()
        features = self.features(latent, 3, 4, masked=True)
        assert features.mask is not None
        code = latent(features)
        nats, expected = latent.log_prior(code), tuple(code.z.shape[:2])
        expect(tuple(nats.shape) == expected, f"log_prior gave {tuple(nats.shape)}, not (b, n) = {expected}")
        expect(torch.isfinite(nats).all(), "log_prior is not finite")
        expect((nats[~code.mask] == 0).all(), "log_prior counts padded tokens")

    def test_trains_with_odd_widths(self) -> None:
        """It trains between an encoder and a decoder of unusual widths."""
        from reprkit.models.build import build

        varying = None in self.data["x"].shape
        objective = "autoregressive" if varying else "reconstruction"
        for width, other in ((7, 13), (1, 3)):
            encoder = f"gru(width={width})" if varying else f"mlp(widths=({width},))"
            decoder = f"gru(width={other}, causal=True)" if varying else f"mlp(widths=({other},))"
            model = build(
                data=self.data, encoder=encoder, latent=self.fresh(), decoder=decoder, objective=objective
            )
            losses = model(self.batch(4))
            losses.total.backward()
            model.update()
            where = f"between {encoder} and {decoder}"
            expect(torch.isfinite(losses.total), f"the loss is {losses.total.item()} {where}")
            usage = float(losses.metrics["usage"])
            expect(0 <= usage <= 1, f"usage is {usage} {where}")

    def test_bf16_autocast(self) -> None:
        """Under bf16 autocast, called as the core calls it, z is finite, and float32 where ``precision`` requires it."""
        from reprkit.models.factor import Factor

        latent = self.fresh().eval()
        features = self.features(latent, 4, 4)
        factor = Factor("code", _FixedFeatures(features), latent)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            code = factor({"x": features.x})
        expect(torch.isfinite(code.z).all(), "z is not finite under bf16 autocast")
        if latent.precision == "float32":
            expect(code.z.dtype == torch.float32, f"z is {code.z.dtype}, although precision is 'float32'")

    def test_comparison_of_examples_is_declared(self) -> None:
        """A latent whose losses compare examples sets ``couples_examples``, so that pieces of a batch are joined."""
        latent = self.fresh().train()
        if not latent.couples_examples:
            with no_coupling():
                latent(self.features(latent, 8, 4))

    def test_two_ranks_equal_one_process(self) -> None:
        """Loss, gradients and state of two processes equal those of one process on the joined batch."""
        for masked in (False, True):
            pair, whole = together(2, _train_steps, self, masked), _train_steps(0, self, masked)
            for name, value in whole.items():
                for rank, results in enumerate(pair):
                    what = f"rank {rank} of two and one process{', with padding' * masked}: {name}"
                    expect_close(results[name], value, what, 1e-5)


class _FixedFeatures(Encoder):
    """A stub encoder that returns given features."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features, self.out_dim = features, features.x.shape[-1]

    def forward(self, batch: Batch, *, keep: Tensor | None = None) -> Features:
        """Return the features."""
        return self.features


def _check_payload(latent: Latent, other: Latent, code: Code) -> None:
    """Check that another instance with the same state reads what a continuous latent wrote, and writes it again."""
    other.load_state_dict(latent.state_dict())
    again = other.read(latent.write(code), Code.of(code, z=torch.zeros_like(code.z)))
    what = "z of valid tokens, written and read by a copy with the same state"
    expect_close(again.z[code.mask], code.z[code.mask], what, 0.0)
    expect(other.write(again) == latent.write(code), "a code that was read is written as other bytes")


def _check_indices(code: Code, vocab: tuple[int, ...], shape: tuple[int, int]) -> None:
    if code.indices is None:
        raise AssertionError("vocab is set, so the code must have indices")
    expected, actual = (*shape, len(vocab)), tuple(code.indices.shape)
    expect(actual == expected, f"indices are {actual}, not (b, n, len(vocab)) = {expected}")
    expect(code.indices.dtype == torch.int64, f"indices are {code.indices.dtype}, not int64")
    inside = (code.indices >= 0) & (code.indices < torch.tensor(vocab))
    expect(inside.all(), f"an index lies outside of vocab {vocab}")


def _check_parents(code: Code) -> None:
    assert code.parents is not None
    expected, actual = code.z.shape[:2], code.parents.shape
    expect(actual == expected, f"parents are {tuple(actual)}, not (b, n) = {tuple(expected)}")
    expect(code.parents.dtype == torch.int64, f"parents are {code.parents.dtype}, not int64")
    try:
        check_tree(code.parents, code.mask)
    except PartArgumentError as error:
        raise AssertionError(str(error)) from error


def _check_tables(tables: Tensor, vocab: tuple[int, ...]) -> None:
    expected = (len(vocab), max(vocab))
    expect(
        tuple(tables.shape) == expected, f"frequencies() is {tuple(tables.shape)}, not (q, v) = {expected}"
    )
    expect(tables.dtype == torch.int64, f"frequencies() is {tables.dtype}, not int64")
    for slot, entries in enumerate(vocab):
        row = tables[slot, :entries]
        expect(row.min() >= 1, f"frequencies() of slot {slot} has a symbol below 1: it cannot be written")
        expect(
            row.sum() == symbol_coder.TOTAL,
            f"frequencies() of slot {slot} sums to {int(row.sum())}, not 2^16",
        )


def _train_steps(rank: int, case: LatentConformance, masked: bool) -> dict[str, Tensor]:
    """Take three steps on this rank's rows of a joined batch; return what must not depend on the number of ranks."""
    size = world_size()
    latent = case.fresh().train()
    results: dict[str, Tensor] = {}
    for step in range(3):
        features = case.features(latent, 8, 4, masked=masked, seed=step)
        rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
        x = features.x[rows].clone().requires_grad_()
        mask = None if features.mask is None else features.mask[rows]
        torch.manual_seed(100 + step)
        latent.zero_grad()
        code = latent(Features(x=x, mask=mask))
        target = torch.linspace(-1, 1, latent.out_dim)
        weight = torch.ones(()) if code.mask is None else code.mask.unsqueeze(-1)
        total = ((code.z - target).square() * weight).sum() / len(x)
        for name, loss in code.losses.items():
            total = total + latent.weights.get(name, 1.0) * loss
        if code.log_prob is not None:
            valid = code.log_prob if code.mask is None else code.log_prob.masked_fill(~code.mask, 0.0)
            results[f"log_prob of step {step}"] = gather(valid.detach().sum(1))
            reward = torch.linspace(-1, 1, 8)[rows]  # of each example, as in a policy gradient
            total = total - (reward * valid.sum(1)).sum() / len(x)
        total.backward()
        if x.grad is None:
            raise AssertionError("no gradient reaches the encoder")
        results[f"loss of step {step}"] = sum_over_ranks(total.detach()) / size
        results[f"gradient of the features, step {step}"] = gather(x.grad) / size
        for name, value in latent.named_parameters():
            if value.grad is not None:
                mean = sum_over_ranks(value.grad) / size
                results[f"gradient of {name}, step {step}"] = mean
                value.data.sub_(0.01 * mean)
        latent.update()
    for name, value in latent.state_dict().items():
        results[f"state {name}"] = value.detach().clone()
    return results
