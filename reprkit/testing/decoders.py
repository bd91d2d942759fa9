"""Conformance checks of decoders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from reprkit.interfaces import Decoder
from reprkit.layers.gather_rows import gather_tokens
from reprkit.layers.trees import right_branching
from reprkit.models.grid import from_tokens, row_grid, to_tokens
from reprkit.models.scoring import Scored
from reprkit.testing.assertions import (
    expect,
    expect_close,
    expect_gradients,
    expect_instance,
    has_trainable_parameters,
)
from reprkit.testing.parts import PartConformance, binds
from reprkit.testing.pool import together
from reprkit.types import Decoded, Features
from reprkit.utils.collectives import gather, sum_over_ranks, world_size


class DecoderConformance(PartConformance):
    """Conformance of a decoder: ``class TestMine(DecoderConformance): part = "acme/mine(width=16)"``."""

    kind = "decoder"

    @property
    def facts(self) -> dict[str, Any]:
        """The number of tokens of the codes: four for an image or a map, one for a vector, otherwise variable."""
        return {"tokens": {"image": 4, "map": 4, "vector": 1}.get(self.data["x"].kind)}

    def features(self, decoder: Decoder, size: int, *, seed: int = 0, length: int = 6) -> Features:
        """Generate random codes as they reach the decoder (b n in_dim), all tokens valid."""
        generator = torch.Generator().manual_seed(seed)
        tokens = self.facts["tokens"] or length
        x = torch.randn(size, tokens, decoder.in_dim, generator=generator)
        return Features(x=x, grid=(2, 2) if tokens == 4 else (tokens,))

    def decode(
        self,
        decoder: Decoder,
        features: Features | None,
        batch: dict[str, Tensor],
        rows: slice | None = None,
    ) -> tuple[Decoded, Tensor]:
        """Return the output for a code, and the target; a causal decoder gets the target as its teacher.

        A decoder with a ``condition_dim`` gets the condition of ``rows``.
        """
        field, x = self.data["x"], batch["x"]
        condition = self.condition_for(decoder, slice(0, len(x)) if rows is None else rows)
        if "causal" in decoder.provides:
            target = to_tokens(x, row_grid(field, x), field.kind)
            return decoder(features, teacher=target, **condition), target
        decoded = decoder(features, **condition)
        return decoded, to_tokens(x, decoded.grid or (1,), field.kind)

    def exercise(self, part: Any) -> None:
        """Run two forward passes in training mode."""
        part.train()
        for seed in (1, 2):
            torch.manual_seed(seed)
            self.decode(part, self.features(part, 3, seed=seed), self.batch(3, seed=seed))

    def observe(self, part: Any) -> dict[str, Tensor]:
        """Return its output."""
        decoded, target = self.decode(part.eval(), self.features(part, 3), self.batch(3))
        return {"output": _point_or_nats(decoded, target)}

    def test_shapes_and_types(self) -> None:
        """Its output (b n p) has the shape of the data in its grid, and the likelihood of data is finite."""
        decoder = self.fresh()
        expect_instance(decoder, Decoder)
        for training in (True, False):
            decoder.train(training)
            for size in (1, 2, 5):
                decoded, target = self.decode(decoder, self.features(decoder, size), self.batch(size))
                expect(isinstance(decoded, Decoded), f"it returned {type(decoded).__name__}, not Decoded")
                shapes = tuple((decoded.x if decoded.has_point else target).shape), tuple(target.shape)
                expect(
                    shapes[0] == shapes[1],
                    f"its output is {shapes[0]}, and the data in its grid is {shapes[1]}",
                )
                nll = decoded.nll(target)
                expect(nll.shape == target.shape[:2], f"nll is {tuple(nll.shape)}, not (b n)")
                expect(torch.isfinite(nll).all(), "the likelihood of data in range is not finite")

    def test_code_nll_is_one_number_an_example(self) -> None:
        """``code_nll``, where the decoder gives it, is finite, (b), of each example alone, and has a gradient in training.

        A decoder that provides "tree" gets one: without a tree it may have generated nothing besides the data.
        """
        decoder = self.fresh().train()
        features, batch = self.features(decoder, 3), self.batch(3)
        if "tree" in decoder.provides:
            trees = right_branching(torch.ones(features.x.shape[:2], dtype=torch.bool))
            features = replace(features, parents=trees)
        torch.manual_seed(1)
        whole = self.decode(decoder, features, batch)[0].code_nll
        if whole is None:
            raise SkipTest("it gives no code_nll")
        expect(tuple(whole.shape) == (3,), f"code_nll is {tuple(whole.shape)}, not (b,) = (3,)")
        expect(torch.isfinite(whole).all(), "code_nll is not finite")
        expect(whole.requires_grad, "code_nll has no gradient in training")
        decoder.eval()
        both = self.decode(decoder, features, batch)[0].code_nll
        first = {name: value[:1] for name, value in batch.items()}
        parents = None if features.parents is None else features.parents[:1]
        alone = self.decode(decoder, replace(features, x=features.x[:1], parents=parents), first)[0].code_nll
        assert both is not None
        assert alone is not None
        expect_close(alone, both[:1], "code_nll of an example alone and in a batch", 1e-4)

    def test_output_depends_on_the_code(self) -> None:
        """Different codes give different likelihoods, and a gradient reaches the code.

        A decoder that reads trees may depend on the tree alone, see ``test_output_depends_on_the_tree``.
        """
        decoder = self.fresh().eval()
        if "tree" in decoder.provides:
            raise SkipTest("it reads the structure of the code")
        batch, outs = self.batch(2), []
        for seed in (0, 1):
            features = self.features(decoder, 2, seed=seed)
            x = features.x.requires_grad_()
            torch.manual_seed(1)
            decoded, target = self.decode(decoder, features, batch)
            outs.append(decoded)
        one, two = outs
        decoded.nll(target).sum().backward()
        expect(x.grad is not None and x.grad.abs().sum() > 0, "no gradient reaches the code")
        same = all(torch.equal(one.params[name], two.params[name]) for name in one.params)
        expect(not same, "the likelihood does not depend on the code")

    def test_output_depends_on_the_tree(self) -> None:
        """A decoder that provides "tree" reads ``parents``; without them it takes the right-branching tree."""
        decoder = self.fresh().eval()
        if "tree" not in decoder.provides:
            raise SkipTest('it does not provide "tree"')
        features = self.features(decoder, 2, length=5)
        count = features.x.shape[1]
        if count < 4:
            raise SkipTest("so few tokens have one tree only")
        right = right_branching(torch.ones(2, count, dtype=torch.bool))
        trees: tuple[Tensor | None, ...] = (None, right, _left_branching(count).expand(2, -1))
        losses = []
        for parents in trees:
            torch.manual_seed(1)
            decoded, target = self.decode(decoder, replace(features, parents=parents), self.batch(2))
            losses.append(decoded.nll(target))
        expect_close(losses[0], losses[1], "the likelihood without a tree, and with the right-branching one")
        expect(not torch.equal(losses[1], losses[2]), "the likelihood does not depend on the tree")

    def test_images_of_any_size(self) -> None:
        """A decoder that provides "any_size" decodes a larger grid to an image in proportion."""
        decoder = self.fresh().eval()
        if "any_size" not in decoder.provides:
            raise SkipTest('it does not provide "any_size"')
        field, small = self.data["x"], self.features(decoder, 2)
        x = torch.randn(2, 6 * small.x.shape[1], decoder.in_dim, generator=torch.Generator().manual_seed(1))
        rows, columns = small.grid or (1, 1)
        decoded = decoder(Features(x=x, grid=(2 * rows, 3 * columns)))
        height, width = (int(size or 0) for size in field.shape[:2])
        expected = (2, 2 * height, 3 * width, *field.shape[2:])
        trained = decoder(small).grid or (1, 1)
        wanted = (2 * trained[0], 3 * trained[1])
        expect(
            decoded.grid == wanted,
            f"its output for a grid of 2 x 3 times the size has grid {decoded.grid}, not {wanted}",
        )
        large = replace(field, shape=expected[1:])
        found = tuple(from_tokens(decoded.x, decoded.grid or (1,), large).shape)
        expect(found == expected, f"its output for a grid of 2 x 3 times the size is {found}, not {expected}")

    def test_queries_match_the_full_output(self) -> None:
        """With ``queries`` the output of these tokens equals theirs in the full output, if it provides "queries"."""
        decoder = self.fresh().eval()
        if "queries" not in decoder.provides:
            raise SkipTest('it does not provide "queries"')
        features = self.features(decoder, 3)
        whole = decoder(features)
        count = whole.x.shape[1]
        cells = tuple(decoder.cells)
        expect(cells in ((), whole.grid), f"its cells are {cells}, and its grid {whole.grid}")
        queries = torch.arange(count).flip(0).expand(3, -1)[:, : max(1, count // 2)]
        some = decoder(features, queries=queries)
        expect_close(
            some.x,
            gather_tokens(whole.x, queries),
            "tokens decoded by queries, and the same tokens of the full output",
            1e-4,
        )

    def test_examples_are_independent(self) -> None:
        """In evaluation the output for an example does not depend on the other examples of the batch."""
        decoder = self.fresh().eval()
        features, batch = self.features(decoder, 3), self.batch(3)
        alone = replace(features, x=features.x[:1])
        first = {name: value[:1] for name, value in batch.items()}
        torch.manual_seed(1)
        one = _point_or_nats(*self.decode(decoder, alone, first))
        torch.manual_seed(1)
        whole = _point_or_nats(*self.decode(decoder, features, batch))
        expect_close(one, whole[:1], "an example alone and in a batch", 1e-4)

    def test_masked_tokens_have_no_effect(self) -> None:
        """The values of masked tokens of the code do not change the output at valid tokens."""
        decoder = self.fresh().eval()
        whole = self.features(decoder, 2)
        count = whole.x.shape[1]
        if count == 1:
            raise SkipTest("a code of one token has no masked tokens")
        mask = torch.arange(count)[None] < torch.tensor([[count], [count // 2]])
        batch = self.batch(2)
        outs = []
        for filler in (0.0, 7.0):
            x = torch.where(mask.unsqueeze(-1), whole.x, torch.tensor(filler))
            torch.manual_seed(1)
            outs.append(self.decode(decoder, replace(whole, x=x, mask=mask), batch)[0])
        for name, value in outs[0].params.items():
            other = outs[1].params[name]
            if value.shape[:2] == mask.shape:
                value, other = value[mask], other[mask]
            elif outs[0].mask is not None and value.shape[:2] == outs[0].mask.shape:
                value, other = value[outs[0].mask], other[outs[0].mask]
            expect_close(value, other, f"{name}, with other masked tokens")

    def test_output_depends_on_the_condition(self) -> None:
        """The condition changes the likelihood, and is optional."""
        decoder, features, batch = self.fresh().eval(), self.features(self.fresh(), 3), self.batch(3)
        length = batch["x"].shape[1] if None in self.data["x"].shape else None

        def output(condition: dict[str, Tensor]) -> Tensor:
            if "causal" not in decoder.provides:
                decoded = decoder(features, length=length, **condition)
                return _point_or_nats(
                    decoded, to_tokens(batch["x"], decoded.grid or (1,), self.data["x"].kind)
                )
            target = to_tokens(batch["x"], row_grid(self.data["x"], batch["x"]), self.data["x"].kind)
            return decoder(features, teacher=target, **condition).nll(target)

        self.check_condition(output, decoder, 3)

    def test_gradients_reach_every_parameter(self) -> None:
        """A gradient of the likelihood reaches every trainable parameter."""
        decoder = self.fresh().train()
        if not has_trainable_parameters(decoder):
            raise SkipTest("it has no trainable parameter")
        decoded, target = self.decode(decoder, self.features(decoder, 3), self.batch(3))
        _nats(decoded, target).sum().backward()
        expect_gradients(decoder)

    def test_evaluation_is_deterministic(self) -> None:
        """In evaluation the output does not depend on the random state."""
        decoder = self.fresh().eval()
        features, batch = self.features(decoder, 2), self.batch(2)
        torch.manual_seed(1)
        first = _point_or_nats(*self.decode(decoder, features, batch))
        torch.manual_seed(2)
        again = _point_or_nats(*self.decode(decoder, features, batch))
        expect_close(again, first, "output in evaluation", 0.0)

    def test_trains_with_odd_widths(self) -> None:
        """It trains with latents of unusual widths."""
        from reprkit.models.build import build

        kind = self.data["x"].kind
        patches = "vit(patch=4, width=8, depth=1, heads=1)"
        encoders = {"image": patches, "map": patches, "vector": "mlp(widths=(8,))"}
        for dim in (1, 3):
            decoder, latent = self.fresh(), f"continuous(dim={dim})"
            if binds(decoder):  # it may go with some encoders only
                model = self.host(decoder, latent)
            else:
                objective = "autoregressive" if "causal" in decoder.provides else "reconstruction"
                encoder = encoders.get(kind, "gru(width=8)")
                model = build(
                    data=self.data, encoder=encoder, latent=latent, decoder=decoder, objective=objective
                )
            total = model(self.batch(4)).total
            total.backward()
            expect(torch.isfinite(total), f"the loss is {total.item()} after {latent}")

    def test_bf16_autocast(self) -> None:
        """Under bf16 autocast the likelihood is finite."""
        decoder = self.fresh().eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            decoded, target = self.decode(decoder, self.features(decoder, 2), self.batch(2))
            nll = decoded.nll(target)
        expect(torch.isfinite(nll).all(), "the likelihood is not finite under bf16 autocast")

    def test_causal_output_ignores_later_tokens(self) -> None:
        """Token t depends on earlier tokens only; ``step`` gives equal outputs; the code is optional."""
        decoder = self.fresh().eval()
        if "causal" not in decoder.provides:
            raise SkipTest("it does not provide causal")
        field = self.data["x"]
        teacher, other = (
            to_tokens(x, row_grid(field, x), field.kind)
            for x in (self.batch(2, seed=seed)["x"] for seed in (1, 2))
        )
        count, condition = teacher.shape[1], self.condition_for(decoder, slice(0, 2))
        for features in (self.features(decoder, 2), None):
            whole = decoder(features, teacher=teacher, **condition)
            per_token = [name for name, value in whole.params.items() if value.shape[:2] == teacher.shape[:2]]
            for t in range(count):
                changed = decoder(features, teacher=torch.cat([teacher[:, :t], other[:, t:]], 1), **condition)
                for name in per_token:
                    what = f"{name} up to token {t}, with another teacher from token {t} on"
                    expect_close(changed.params[name][:, : t + 1], whole.params[name][:, : t + 1], what)
            state, previous = decoder.start(features, size=2, length=count, **condition), None
            for t in range(count):
                step, state = decoder.step(previous, state)
                for name in per_token:
                    what = f"{name} of token {t}, one step at a time"
                    expect_close(step.params[name][:, 0], whole.params[name][:, t], what, 1e-4)
                previous = teacher[:, t : t + 1]

    def test_two_ranks_equal_one_process(self) -> None:
        """Output and averaged gradients of two processes equal those of one process on the joined batch."""
        pair, whole = together(2, _train_step, self)[0], _train_step(0, self)
        for name, value in whole.items():
            expect_close(pair[name], value, f"two ranks and one process: {name}", 1e-4)


def _nats(decoded: Decoded, target: Tensor) -> Tensor:
    """Return -log p of each example (b), with that of what else the decoder generated."""
    return Scored(decoded=decoded, target=target).per_example


def _point_or_nats(decoded: Decoded, target: Tensor) -> Tensor:
    """Return the point estimate, or the likelihood of the target where there is none."""
    return decoded.x if decoded.has_point else decoded.nll(target)


def _left_branching(count: int) -> Tensor:
    """Return the parents (n,) of a left-branching binary tree; of an even number of tokens the first has a parent of its own."""
    if count % 2 == 0:
        rest = _left_branching(count - 1)
        return torch.cat([torch.ones(1, dtype=torch.int64), torch.where(rest < 0, -1, rest + 1)])
    index = torch.arange(count)
    parents = torch.where(index % 2 == 0, index + 2, index + 1).clamp(max=count - 1)
    parents[-1] = -1
    return parents


def _train_step(rank: int, case: DecoderConformance) -> dict[str, Tensor]:
    size = world_size()
    decoder = case.fresh().train()
    rows = slice(rank * 4 // size, (rank + 1) * 4 // size)
    features = case.features(decoder, 4)
    batch = {name: value[rows] for name, value in case.batch(4).items()}
    torch.manual_seed(5)
    decoded, target = case.decode(decoder, replace(features, x=features.x[rows]), batch, rows)
    loss = _nats(decoded, target).sum() / len(target)
    if has_trainable_parameters(decoder):
        loss.backward()
    results = {"likelihood": sum_over_ranks(loss.detach()) / size}
    name = next(iter(decoded.params))
    if decoded.params[name].shape[0] == len(target):
        results[name] = gather(decoded.params[name].detach())
    for name, value in decoder.named_parameters():
        if value.grad is not None:
            results[f"gradient of {name}"] = sum_over_ranks(value.grad) / size
    return results
