import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Decoder, Encoder, Latent, Objective
from reprkit.types import Code, Codes, Decoded, Features

PAIRS = Signature({"x": Field(kind="vector", shape=(6,)), "y": Field(kind="vector", shape=(6,))})


class Cut(Encoder):
    """A vector of 6 as ``n`` tokens of 6 / n values, unchanged; honours keep."""

    provides = frozenset({"keep"})

    def __init__(self, n=3, *, mask=False):
        super().__init__()
        self.n, self.masked, self.out_dim, self.calls = n, mask, 6 // n, 0

    def forward(self, batch, *, keep=None):
        self.calls += 1
        x = batch["x"].unflatten(1, (self.n, -1))
        mask = batch.get("x_mask") if self.masked else None
        if keep is None:
            return Features(x=x, mask=mask, grid=(self.n,))
        return Features(x=torch.take_along_dim(x, keep.unsqueeze(-1), 1), positions=keep, length=self.n)

    def count(self, batch):
        return self.n

    def grid(self, batch):
        return (self.n,)


class Taxed(Latent):
    """The features themselves, with two losses, a metric and a price."""

    def __init__(self, dim=2, *, weights=None):
        super().__init__(in_dim=dim, out_dim=dim, weights=weights or {"tax": 0.5})

    def forward(self, features):
        size = features.x.square().sum((1, 2)).mean()
        return Code.of(
            features,
            z=features.x,
            losses={"tax": size, "toll": features.x.abs().sum((1, 2)).mean()},
            metrics={"size": size.detach()},
            bits=torch.full((len(features.x),), 7.0),
        )


class Row(Decoder):
    """Sums the tokens and repeats them: (b 1 6), a Gaussian of scale 1."""

    def __init__(self, in_dim=2):
        super().__init__()
        self.in_dim = in_dim
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, features, *, teacher=None, length=None):
        mean = (self.gain * features.x.sum(1, keepdim=True)).repeat(1, 1, 6 // self.in_dim)
        return Decoded(
            x=mean,
            likelihood="gaussian",
            params={"mean": mean, "log_scale": torch.zeros(1, 1, 1)},
            grid=(1,),
        )


class Views(Objective):
    """Encodes the views that it is told to, by name, and returns one loss of 1."""

    needs = frozenset({"encoder"})

    def __init__(self, views):
        super().__init__()
        self.views = views

    def forward(self, model, batch, turn="main"):
        other, keep = dict(batch), torch.zeros(len(batch["x"]), 1, dtype=torch.int64)
        made = {"same": (batch, None), "other": (other, None), "keep": (batch, keep)}
        self.seen = [model.encode(made[name][0], keep=made[name][1]) for name in self.views]
        return {"one": torch.ones((), requires_grad=True)}


def batch(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, 6, generator=generator) for name in ("x", "y")}


def model(**options):
    made = {"data": PAIRS, "encoder": Cut(3), "latent": Taxed(2), "decoder": Row(2), **options}
    return rk.build(**made)


# ------------------------------------------------------------------ what a step costs


@pytest.mark.parametrize(
    ("views", "encodings"),
    [
        (["same"], 1),
        (["same", "same"], 1),
        (["same", "other"], 2),
        (["same", "other", "keep", "other"], 4 - 1),
        (["keep", "keep"], 1),
    ],
)
def test_each_distinct_view_is_encoded_once_and_its_losses_count_once(views, encodings):
    made = model(decoder=None, objective=Views(views))
    encoder = made.paths["code"].encoder
    encoder.calls = 0
    losses = made(batch())
    assert encoder.calls == encodings
    seen = {id(codes["code"]): codes for codes in made.objective.seen}
    assert len(seen) == encodings
    tax = sum(codes.losses["tax"] for codes in seen.values())
    torch.testing.assert_close(losses.terms["tax"], tax)
    toll = sum(codes.losses["toll"] for codes in seen.values())
    torch.testing.assert_close(
        losses.total, 1 + 0.5 * tax + toll
    )  # weights: the latent's own, 1 where not named
    assert float(losses.metrics["bits"]) == 7
    assert {"size", "usage"} <= losses.metrics.keys()


def test_nothing_is_remembered_between_steps_nor_outside_of_one():
    made = model()
    encoder, given = made.paths["code"].encoder, batch()
    made(given)
    encoder.calls = 0
    made(given)
    assert encoder.calls == 1
    made.encode(given)
    made.encode(given)
    assert encoder.calls == 3


def test_an_error_in_a_step_leaves_no_trace():
    made = model()
    made.paths["code"].encoder.forward = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        made(batch())
    del made.paths["code"].encoder.forward
    encoder = made.paths["code"].encoder
    encoder.calls = 0
    made.encode(batch())
    made.encode(batch())
    assert encoder.calls == 2


def test_weights_override_the_parts_own():
    given = batch()
    plain = model()(given)
    expected = plain.terms["reconstruction"] + 0.5 * plain.terms["tax"] + plain.terms["toll"]
    torch.testing.assert_close(plain.total, expected)
    other = model(weights={"tax": 3.0, "toll": 0.0, "reconstruction": 0.1})(given)
    assert other.terms["tax"] == plain.terms["tax"], "terms are not weighted"
    torch.testing.assert_close(other.total, 0.1 * plain.terms["reconstruction"] + 3 * plain.terms["tax"])


def test_a_weight_for_no_loss_is_refused_at_the_first_step():
    made = model(weights={"taxes": 1.0})
    with pytest.raises(BuildError, match="no loss named 'taxes'.*'tax'"):
        made(batch())
    with pytest.raises(BuildError, match="no factor named 'content'"):
        model(weights={"content.tax": 1.0})
    with pytest.raises(BuildError, match="must be a number"):
        model(weights={"tax": "high"})


def test_factors_have_their_own_names_and_weights():
    made = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(2), Taxed(3), input="y")},
        decoder=Row(2),
        weights={"b.tax": 0.0, "b.toll": 0.0, "a.toll": 2.0},
    )
    losses = made(batch())
    terms = losses.terms
    assert terms.keys() == {"reconstruction", "a.tax", "a.toll", "b.tax", "b.toll"}
    torch.testing.assert_close(
        losses.total, terms["reconstruction"] + 0.5 * terms["a.tax"] + 2 * terms["a.toll"]
    )
    assert {"a.usage", "b.usage", "a.bits", "b.size"} <= losses.metrics.keys()
    assert not torch.equal(terms["a.tax"], terms["b.tax"])


def test_metrics_of_one_name_are_numbered_and_losses_are_detached():
    class Twice(Views):
        def forward(self, model, batch, turn="main"):
            model.record(error=1.0)
            model.record(error=torch.full((), 2.0, requires_grad=True), other=3)
            return super().forward(model, batch, turn)

    losses = model(decoder=None, objective=Twice(["same"]))(batch())
    assert [float(losses.metrics[name]) for name in ("error", "error-2", "other")] == [1, 2, 3]
    assert losses.total.requires_grad
    assert not any(value.requires_grad for value in [*losses.terms.values(), *losses.metrics.values()])


# ------------------------------------------------------------------ codes to the decoder


def test_one_factor_reaches_the_decoder_as_it_is():
    made = model()
    given = batch()
    merged = made.merge(made.encode(given))
    torch.testing.assert_close(merged.x, given["x"].unflatten(1, (3, 2)))  # adapters begin as the identity
    assert merged.grid == (3,)


def test_factors_are_aligned_to_the_most_tokens_and_summed():
    codes = Codes(
        {
            "fine": Code(z=torch.arange(8.0).reshape(1, 4, 2), grid=(4,)),
            "coarse": Code(z=torch.tensor([[[10.0, 0.0], [20.0, 0.0]]]), grid=(2,)),
            "whole": Code(z=torch.tensor([[[100.0, 1.0]]]), grid=(1,), length=1),
        }
    )
    made = rk.build(
        data=PAIRS,
        factors={name: rk.factor(Cut(3), Taxed(2)) for name in codes},
        decoder=Row(2),
    )
    merged = made.merge(codes)
    assert merged.x.tolist() == [[[110, 2], [112, 4], [124, 6], [126, 8]]]
    assert merged.grid == (4,)
    assert torch.equal(made.merge(dict(reversed(list(codes.items())))).x, merged.x)


def test_kept_tokens_of_several_factors():
    made = rk.build(
        data=PAIRS, factors={name: rk.factor(Cut(3), Taxed(2)) for name in ("a", "b", "c")}, decoder=Row(2)
    )
    z = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    here, there = torch.tensor([[0, 2]]), torch.tensor([[1, 2]])
    whole = Code(z=torch.tensor([[[0.0, 5.0]]]), length=1)
    first = Code(z=z, positions=here, length=3)
    # All saw the same: only those places are handed over, a pooled factor beside them.
    same = made.merge({"a": first, "b": Code(z=10 * z, positions=here, length=3), "c": whole})
    assert same.x.tolist() == [[[11, 5], [22, 5]]]
    assert same.positions is here
    # They saw different places: each is laid where it was, and none is lost.
    mixed = made.merge({"a": first, "b": Code(z=10 * z, positions=there, length=3), "c": whole})
    assert mixed.x.tolist() == [[[1, 5], [10, 5], [22, 5]]]
    assert mixed.positions is None
    # One saw everything.
    full = made.merge({"a": first, "b": Code(z=torch.ones(1, 3, 2)), "c": whole})
    assert full.x.tolist() == [[[2, 6], [1, 6], [3, 6]]]


def test_widths_that_differ_get_a_linear_map_on_both_sides():
    made = model(encoder=Cut(2), latent=Taxed(5), decoder=Row(2))
    assert tuple(made.paths["code"].adapter.weight.shape) == (5, 3)
    assert tuple(made.adapters["code"].weight.shape) == (2, 5)
    made(batch()).total.backward()
    assert made.paths["code"].adapter.weight.grad.abs().sum() > 0


def test_a_pooled_factor_is_the_masked_mean():
    signature = Signature({"x": Field(kind="sequence", shape=(None, 2))})
    made = rk.build(
        data=signature,
        factors={"voice": rk.factor("gru(width=4)", Taxed(2), pool=True)},
        decoder="gru(width=4, causal=True)",
        objective="autoregressive",
    )
    made.eval()
    x = torch.randn(2, 5, 2)
    mask = torch.arange(5) < torch.tensor([[3], [5]])
    given = {"x": x, "x_mask": mask}
    encoder, adapter = made.paths["voice"].encoder, made.paths["voice"].adapter
    features = adapter(encoder(given).x)
    expected = torch.stack([features[0, :3].mean(0), features[1].mean(0)])
    code = made.encode(given)
    assert code.z.shape == (2, 1, 2)
    assert code.mask is None
    torch.testing.assert_close(code.z[:, 0], expected)


def test_conversion_is_a_merge_of_codes():
    made = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(3), Taxed(2))},
        decoder=Row(2),
    )
    one, two = made.encode(batch(seed=1)), made.encode(batch(seed=2))
    mixed = made.decode(one | {"b": two["b"]})
    torch.testing.assert_close(mixed.x, (one["a"].z + two["b"].z).sum(1, keepdim=True).repeat(1, 1, 3))


# ------------------------------------------------------------------ using a model


def test_represent_is_the_masked_mean_or_all_tokens():
    signature = Signature({"x": Field(kind="sequence", shape=(None, 2))})
    made = rk.build(data=signature, encoder="gru(width=4)", latent=Taxed(3), objective="contrastive").eval()
    given = {"x": torch.randn(2, 4, 2), "x_mask": torch.tensor([[True] * 4, [True, True, False, False]])}
    z = made.encode(given).z
    torch.testing.assert_close(made.represent(given), torch.stack([z[0].mean(0), z[1, :2].mean(0)]))
    flat = made.represent(given, pool="flatten")
    torch.testing.assert_close(flat[0], z[0].flatten())
    torch.testing.assert_close(flat[1], torch.cat([z[1, :2].flatten(), torch.zeros(6)]))


def test_represent_names_factors_and_prefers_the_mean_of_a_draw():
    made = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(3), "gaussian(dim=4)", input="y")},
        decoder=Row(2),
    )
    given = batch()
    assert made.represent(given).shape == (4, 6)
    torch.testing.assert_close(made.represent(given, "a"), made.represent(given)[:, :2])
    torch.testing.assert_close(
        made.represent(given, "b"), made.represent(given, "b")
    )  # training draws, the mean does not
    with pytest.raises(BuildError, match="no factor named 'c'; there are: a, b"):
        made.represent(given, "c")


def test_a_model_without_encoder_represents_nothing():
    made = rk.build(data="digits", decoder="gru(width=4, causal=True)", objective="autoregressive")
    with pytest.raises(BuildError, match="no encoder"):
        made.represent({"x": torch.zeros(1, 8, 8, 1)})


@pytest.mark.parametrize(
    ("field", "decoder"),
    [
        (Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0)), "vit(patch=2, width=8, depth=1, heads=2)"),
        (Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0)), "mlp(width=8)"),
        (Field(kind="image", shape=(8, 4, 1), range=(0.0, 1.0)), "gru(width=8)"),
        (Field(kind="sequence", shape=(6, 2)), "transformer(width=8, depth=1, heads=2)"),
        (Field(kind="tokens", shape=(6,), vocab=5), "gru(width=8)"),
        (Field(kind="vector", shape=(7,)), "mlp(width=8)"),
        (Field(kind="label", shape=(), vocab=4), "mlp(width=8)"),
    ],
    ids=["patches", "flat", "rows", "frames", "symbols", "vector", "label"],
)
def test_to_batch_is_the_inverse_of_target(field, decoder):
    signature = Signature({"x": Field(kind="vector", shape=(6,)), "y": field})
    made = rk.build(data=signature, encoder=Cut(1), latent=Taxed(6), decoder=decoder, output="y").eval()
    given = signature.example(3)
    given["y"] = (
        torch.randint(field.vocab, given["y"].shape) if field.discrete else torch.rand(given["y"].shape)
    )
    decoded = made.decode(made.encode(given))
    target = made.target(given, decoded)
    assert target.shape == decoded.x.shape
    back = made.to_batch(rk.types.replace(decoded, x=target), given)
    assert torch.equal(back["y"], given["y"])
    assert back["x"] is given["x"]
    made.decode(made.encode(made.to_batch(decoded, given)))  # an output can be encoded again


def test_codes_from_indices():
    made = rk.build(
        data="digits",
        encoder="vit(patch=4, width=8, depth=1, heads=2)",
        latent="vq(codes=6, dim=3)",
        decoder="vit(patch=4, width=8, depth=1, heads=2)",
    )
    given = rk.dataset("digits").batch(range(4))
    made(given)
    made.eval()
    codes = made.encode(given)
    again = made.from_indices({"code": codes.indices}, like=codes)
    torch.testing.assert_close(again.z, codes.z)
    assert again.grid == codes.grid
    torch.testing.assert_close(made.decode(again).x, made.decode(codes).x)
    other = made.from_indices({"code": torch.zeros_like(codes.indices)}, like=codes)
    assert other.bits is None, "what was true of the other indices is not carried over"
    assert other.losses == {}
    bare = made.from_indices({"code": codes.indices})
    torch.testing.assert_close(bare.z, codes.z)
    with pytest.raises(PartArgumentError, match="continuous"):
        model().from_indices({"code": torch.zeros(1, 1, 1, dtype=torch.int64)})


def test_sample_draws_from_each_prior():
    made = rk.build(
        data="digits", encoder="mlp(width=8)", latent="gaussian(dim=2)", decoder="mlp(width=8)"
    ).eval()
    first, second = (made.sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 0))
    assert made.to_batch(first)["x"].shape == (5, 8, 8, 1)
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.x, made.sample(5, torch.Generator().manual_seed(1)).x)
    assert not torch.equal(first.x[0], first.x[1])
    with pytest.raises(PartArgumentError, match="no prior of its own"):
        model().sample(2)


@pytest.mark.parametrize("encoder", [None, "mlp(width=8)"])
def test_sample_from_a_causal_decoder(encoder):
    made = rk.build(
        data="digits",
        encoder=encoder,
        latent="gaussian(dim=2)",
        decoder="gru(width=8, causal=True)",
        objective="autoregressive",
    ).eval()
    drawn = made.sample(3, torch.Generator().manual_seed(0))
    assert made.to_batch(drawn)["x"].shape == (3, 8, 8, 1)
    assert torch.equal(drawn.x, made.sample(3, torch.Generator().manual_seed(0)).x)


def test_a_batch_is_moved_to_the_model_s_device():
    made = model()
    given = batch()
    assert made.to_device(given) is given
    elsewhere = made.to("meta")
    assert {value.device.type for value in elsewhere.to_device(given).values()} == {"meta"}


# ------------------------------------------------------------------ blame


def test_an_error_says_in_which_part_it_was():
    class Sour(Taxed):
        def forward(self, features):
            if features.x.shape[0] == 3:
                raise ZeroDivisionError("sour")
            return super().forward(features)

    class Torn(Cut):
        def forward(self, batch, *, keep=None):
            if batch["x"].shape[0] == 3:
                raise ZeroDivisionError("torn")
            return super().forward(batch, keep=keep)

    class Lost(Row):
        def forward(self, features, *, teacher=None, length=None):
            if features.x.shape[0] == 3:
                raise ZeroDivisionError("lost")
            return super().forward(features)

    for options, note in [
        ({"latent": Sour(2)}, "in latent .*Sour, factor code"),
        ({"encoder": Torn(3)}, "in encoder .*Torn, factor code"),
        ({"decoder": Lost(2)}, "in decoder .*Lost"),
    ]:
        with pytest.raises(ZeroDivisionError) as caught:
            model(**options)(batch(3))
        assert len(caught.value.__notes__) == 2, caught.value.__notes__
        assert caught.match(note)
        assert caught.match("in objective reprkit/reconstruction")
    with pytest.raises(BuildError, match="no decoder"):
        model(decoder=None, objective=Views(["same"])).decode(None)


def test_usage_is_seen_in_training_only():
    made = model()
    made.eval()
    made(batch())
    usage = made.paths["code"].usage
    assert float(usage.value()) == 0
    made.train()
    assert float(made(batch()).metrics["usage"]) == 1.0
    made.update()
    assert float(usage.value()) == 1.0
