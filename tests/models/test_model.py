"""Merging of codes for the decoder, and the inference methods of a model."""

import pytest
import torch
from small_models import PAIRS, Cut, Row, Taxed, make_batch, make_model

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.types import Code, Codes

# ------------------------------------------------------------------ codes to the decoder


def test_one_factor_reaches_the_decoder_as_it_is():
    model = make_model()
    batch = make_batch()
    merged = model.merge(model.encode(batch))
    torch.testing.assert_close(merged.x, batch["x"].unflatten(1, (3, 2)))  # adapters begin as the identity
    assert merged.grid == (3,)


def test_factors_are_aligned_to_the_most_tokens_and_summed():
    codes = Codes(
        {
            "fine": Code(z=torch.arange(8.0).reshape(1, 4, 2), grid=(4,)),
            "coarse": Code(z=torch.tensor([[[10.0, 0.0], [20.0, 0.0]]]), grid=(2,)),
            "whole": Code(z=torch.tensor([[[100.0, 1.0]]]), grid=(1,), length=1),
        }
    )
    model = rk.build(
        data=PAIRS,
        factors={name: rk.factor(Cut(3), Taxed(2)) for name in codes},
        decoder=Row(2),
    )
    merged = model.merge(codes)
    assert merged.x.tolist() == [[[110, 2], [112, 4], [124, 6], [126, 8]]]
    assert merged.grid == (4,)
    assert torch.equal(model.merge(dict(reversed(list(codes.items())))).x, merged.x)


def test_visible_tokens_of_several_factors():
    model = rk.build(
        data=PAIRS, factors={name: rk.factor(Cut(3), Taxed(2)) for name in ("a", "b", "c")}, decoder=Row(2)
    )
    z = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    here, there = torch.tensor([[0, 2]]), torch.tensor([[1, 2]])
    whole = Code(z=torch.tensor([[[0.0, 5.0]]]), length=1)
    first = Code(z=z, positions=here, length=3)
    # All read the same tokens: only those are passed to the decoder, with a pooled factor added.
    same = model.merge({"a": first, "b": Code(z=10 * z, positions=here, length=3), "c": whole})
    assert same.x.tolist() == [[[11, 5], [22, 5]]]
    assert same.positions is here
    # They read different tokens: each is put at its position, and none is lost.
    mixed = model.merge({"a": first, "b": Code(z=10 * z, positions=there, length=3), "c": whole})
    assert mixed.x.tolist() == [[[1, 5], [10, 5], [22, 5]]]
    assert mixed.positions is None
    # One read all tokens.
    full = model.merge({"a": first, "b": Code(z=torch.ones(1, 3, 2)), "c": whole})
    assert full.x.tolist() == [[[2, 6], [1, 6], [3, 6]]]


def test_widths_that_differ_get_a_linear_map_on_both_sides():
    model = make_model(encoder=Cut(2), latent=Taxed(5), decoder=Row(2))
    assert tuple(model.factors["code"].adapter.weight.shape) == (5, 3)
    assert tuple(model.adapters["code"].weight.shape) == (2, 5)
    model(make_batch()).total.backward()
    assert model.factors["code"].adapter.weight.grad.abs().sum() > 0


def test_a_pooled_factor_is_the_masked_mean():
    signature = Signature({"x": Field(kind="sequence", shape=(None, 2))})
    model = rk.build(
        data=signature,
        factors={"voice": rk.factor("gru(width=4)", Taxed(2), pool=True)},
        decoder="gru(width=4, causal=True)",
        objective="autoregressive",
    )
    model.eval()
    x = torch.randn(2, 5, 2)
    mask = torch.arange(5) < torch.tensor([[3], [5]])
    batch = {"x": x, "x_mask": mask}
    encoder, adapter = model.factors["voice"].encoder, model.factors["voice"].adapter
    features = adapter(encoder(batch).x)
    expected = torch.stack([features[0, :3].mean(0), features[1].mean(0)])
    code = model.encode(batch)
    assert code.z.shape == (2, 1, 2)
    assert code.mask is None
    torch.testing.assert_close(code.z[:, 0], expected)


def test_conversion_is_a_merge_of_codes():
    model = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(3), Taxed(2))},
        decoder=Row(2),
    )
    one, two = model.encode(make_batch(seed=1)), model.encode(make_batch(seed=2))
    mixed = model.decode(one | {"b": two["b"]})
    torch.testing.assert_close(mixed.x, (one["a"].z + two["b"].z).sum(1, keepdim=True).repeat(1, 1, 3))


# ------------------------------------------------------------------ using a model


def test_represent_is_the_masked_mean_or_all_tokens():
    signature = Signature({"x": Field(kind="sequence", shape=(None, 2))})
    model = rk.build(data=signature, encoder="gru(width=4)", latent=Taxed(3), objective="contrastive").eval()
    batch = {"x": torch.randn(2, 4, 2), "x_mask": torch.tensor([[True] * 4, [True, True, False, False]])}
    z = model.encode(batch).z
    torch.testing.assert_close(model.represent(batch), torch.stack([z[0].mean(0), z[1, :2].mean(0)]))
    flat = model.represent(batch, pool="flatten")
    torch.testing.assert_close(flat[0], z[0].flatten())
    torch.testing.assert_close(flat[1], torch.cat([z[1, :2].flatten(), torch.zeros(6)]))


def test_represent_names_factors_and_prefers_the_mean_of_a_draw():
    model = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(3), "gaussian(dim=4)", input="y")},
        decoder=Row(2),
    )
    batch = make_batch()
    assert model.represent(batch).shape == (4, 6)
    torch.testing.assert_close(model.represent(batch, "a"), model.represent(batch)[:, :2])
    torch.testing.assert_close(
        model.represent(batch, "b"), model.represent(batch, "b")
    )  # training draws, the mean does not
    with pytest.raises(BuildError, match="no factor named 'c'; there are: a, b"):
        model.represent(batch, "c")


def test_a_model_without_encoder_represents_nothing():
    model = rk.build(data="digits", decoder="gru(width=4, causal=True)", objective="autoregressive")
    with pytest.raises(BuildError, match="no encoder"):
        model.represent({"x": torch.zeros(1, 8, 8, 1)})


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
    model = rk.build(data=signature, encoder=Cut(1), latent=Taxed(6), decoder=decoder, output="y").eval()
    batch = signature.example(3)
    batch["y"] = (
        torch.randint(field.vocab, batch["y"].shape) if field.discrete else torch.rand(batch["y"].shape)
    )
    decoded = model.decode(model.encode(batch))
    target = model.target(batch, decoded)
    assert target.shape == decoded.x.shape
    back = model.to_batch(rk.types.replace(decoded, x=target), batch)
    assert torch.equal(back["y"], batch["y"])
    assert back["x"] is batch["x"]
    model.decode(
        model.encode(model.to_batch(decoded, batch), in_range=False)
    )  # an output can be encoded again


def test_codes_from_indices():
    model = rk.build(
        data="digits",
        encoder="vit(patch=4, width=8, depth=1, heads=2)",
        latent="vq(codes=6, dim=3)",
        decoder="vit(patch=4, width=8, depth=1, heads=2)",
    )
    batch = rk.dataset("digits").batch(range(4))
    model(batch)
    model.eval()
    codes = model.encode(batch)
    again = model.from_indices({"code": codes.indices}, like=codes)
    torch.testing.assert_close(again.z, codes.z)
    assert again.grid == codes.grid
    torch.testing.assert_close(model.decode(again).x, model.decode(codes).x)
    other = model.from_indices({"code": torch.zeros_like(codes.indices)}, like=codes)
    assert other.bits is None, "what was true of the other indices is not carried over"
    assert other.losses == {}
    bare = model.from_indices({"code": codes.indices})
    torch.testing.assert_close(bare.z, codes.z)
    with pytest.raises(PartArgumentError, match="continuous"):
        make_model().from_indices({"code": torch.zeros(1, 1, 1, dtype=torch.int64)})


def test_sample_draws_from_each_prior():
    model = rk.build(
        data="digits", encoder="mlp(width=8)", latent="gaussian(dim=2)", decoder="mlp(width=8)"
    ).eval()
    first, second = (model.sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 0))
    assert model.to_batch(first)["x"].shape == (5, 8, 8, 1)
    assert torch.equal(first.x, second.x)
    assert not torch.equal(first.x, model.sample(5, torch.Generator().manual_seed(1)).x)
    assert not torch.equal(first.x[0], first.x[1])
    with pytest.raises(PartArgumentError, match="no prior of its own"):
        make_model().sample(2)


@pytest.mark.parametrize("encoder", [None, "mlp(width=8)"])
def test_sample_from_a_causal_decoder(encoder):
    model = rk.build(
        data="digits",
        encoder=encoder,
        latent="gaussian(dim=2)",
        decoder="gru(width=8, causal=True)",
        objective="autoregressive",
    ).eval()
    drawn = model.sample(3, torch.Generator().manual_seed(0))
    assert model.to_batch(drawn)["x"].shape == (3, 8, 8, 1)
    assert torch.equal(drawn.x, model.sample(3, torch.Generator().manual_seed(0)).x)


def test_a_batch_is_moved_to_the_model_s_device():
    model = make_model()
    batch = make_batch()
    assert model.to_device(batch) is batch
    elsewhere = model.to("meta")
    assert {value.device.type for value in elsewhere.to_device(batch).values()} == {"meta"}
