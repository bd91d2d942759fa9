import pytest
import torch

import reprkit as rk
from reprkit.data import CodesOf
from reprkit.errors import BuildError, CheckpointError, DataError
from reprkit.testing import kit


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def vq(data, latent="vq(codes=8, dim=4, codebooks=2)", encoder="conv(width=8)", decoder="conv(width=8)"):
    return rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder, seed=1).eval()


def test_symbols_are_the_code_indices_in_reading_order(digits):
    model = vq(digits)
    codes = CodesOf(model, digits, batch=100)
    assert codes.signature["x"] == rk.Field(kind="tokens", shape=(8,), vocab=8)
    with torch.no_grad():
        indices = model.encode(digits.batch(range(700, 710))).indices
    assert torch.equal(codes.batch(range(700, 710))["x"], indices.flatten(1))
    assert torch.equal(codes.batch(range(700, 710))["label"], digits.batch(range(700, 710))["label"])


def test_continuous_latent_gives_its_vectors(digits):
    model = vq(digits, latent="gaussian(dim=3)")
    codes = CodesOf(model, digits)
    assert codes.signature["x"] == rk.Field(kind="sequence", shape=(4, 3))
    with torch.no_grad():
        assert torch.allclose(codes.batch([5])["x"], model.encode(digits.batch([5])).z, atol=1e-6)


def test_split_matches_the_split_of_the_data(digits):
    codes = CodesOf(vq(digits), digits)
    for mine, theirs in zip(codes.split(4, valid=True), digits.split(4, valid=True), strict=True):
        assert torch.equal(mine.indices, theirs.indices)
        assert mine.part == theirs.part


def test_create_by_reference_from_a_saved_model(digits, tmp_path):
    model = vq(digits)
    model.save(tmp_path)
    codes = rk.dataset(f"codes(model='{tmp_path}', data='digits')")
    assert torch.equal(codes.batch(range(9))["x"], CodesOf(model, digits).batch(range(9))["x"])
    with pytest.raises(CheckpointError, match="there is no"):
        rk.dataset(f"codes(model='{tmp_path / 'nowhere'}', data='digits')")


def test_padding_is_preserved():
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 7, 5, 2, 6, 4]
    data = rk.data.Arrays([torch.randn(n, 2, generator=generator).numpy() for n in lengths])
    model = rk.build(
        data=data, encoder="gru(width=8)", latent="vq(codes=4, dim=2, codebooks=2)", decoder="gru(width=8)"
    ).eval()
    batch = CodesOf(model, data, batch=2).batch(range(6))
    assert batch["x"].shape == batch["x_mask"].shape == (6, 14)
    assert batch["x_mask"].sum(1).tolist() == [2 * n for n in lengths]


@pytest.mark.parametrize("latent", ["vq(codes=8, dim=4)", "binary(bits=4)", "continuous(dim=3)"])
def test_prior_over_the_codes_of_any_latent_gives_samples(digits, latent):
    model = vq(digits, latent=latent)
    codes = CodesOf(model, digits)
    prior = rk.build(data=codes, decoder="gru(width=16, causal=True)", objective="autoregressive").eval()
    first, again = (model.sample(3, torch.Generator().manual_seed(2), prior=prior).x for _ in range(2))
    assert first.shape == (3, 64, 1)
    assert torch.equal(first, again)
    cold = [model.sample(2, prior=prior, temperature=0.0).x for _ in range(2)]
    assert torch.equal(cold[0], cold[1])
    assert torch.equal(cold[0][0], cold[0][1])


def test_prior_over_other_codes_raises(digits):
    model, other = vq(digits), vq(digits, latent="vq(codes=16, dim=4)")
    prior = rk.build(data=CodesOf(other, digits), decoder="gru(causal=True)", objective="autoregressive")
    with pytest.raises(BuildError, match=r"trained on tokens \(t=4, vocab 16\).*\n?.*codes\(model="):
        model.sample(1, prior=prior)


def test_several_factors_need_a_name(digits):
    factors = {"a": rk.factor("mlp", "vq(codes=4)"), "b": rk.factor("mlp", "gaussian(dim=2)", pool=True)}
    model = rk.build(data=digits, factors=factors, decoder="mlp").eval()
    with pytest.raises(BuildError, match="say which: factor=; there are: a, b"):
        CodesOf(model, digits)
    codes = CodesOf(model, digits, factor="a")
    prior = rk.build(data=codes, decoder="gru(width=8, causal=True)", objective="autoregressive").eval()
    assert model.sample(2, prior=prior, factor="a").x.shape[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("latent", ["vq(codes=8, dim=4, codebooks=2)", "continuous(dim=3)"])
def test_conformance(digits, tmp_path, latent):
    vq(digits, latent=latent).save(tmp_path)
    case = kit.make_case("dataset", f"codes(model='{tmp_path}', data='digits')", "images")
    assert kit.failed_checks(case) == {}


def two_factors(data):
    factors = {
        "content": rk.factor("conv(width=8)", "continuous(dim=3)"),
        "style": rk.factor("mlp(width=8)", "vq(codes=4, dim=2)"),
    }
    return rk.build(data=data, factors=factors, decoder="mlp(width=8)", seed=1).eval()


def named(digits):
    """The digits with a further field."""
    values = digits.batch(range(60))
    fields = {**digits.signature, "rows": rk.Field(kind="vector", shape=(8,))}
    return rk.data.Tensors({**values, "rows": values["x"].sum((2, 3))}, rk.data.Signature(fields))


def test_several_factors_give_a_field_each_and_keep_copies_fields(digits):
    data = named(digits)
    model = two_factors(data)
    codes = CodesOf(model, data, factor=["content", "style"], keep=("rows",))
    assert list(codes.signature) == ["content", "style", "label", "rows"]
    assert codes.signature["content"] == rk.Field(kind="sequence", shape=(4, 3))
    assert codes.signature["style"] == rk.Field(kind="tokens", shape=(1,), vocab=4)
    batch = codes.batch([3, 50])
    with torch.no_grad():
        expected = model.encode(data.batch([3, 50]))
    torch.testing.assert_close(batch["content"], expected["content"].z, atol=1e-6, rtol=0)
    assert torch.equal(batch["style"], expected["style"].indices.flatten(1))
    assert torch.equal(batch["rows"], data.batch([3, 50])["rows"])
    second = rk.build(
        data=codes,
        factors={"style": rk.factor("mlp(width=8)", input="style")},
        decoder="mlp(width=8)",
        output="content",
    )
    assert torch.isfinite(second(batch).total)


def test_keep_refuses_unknown_fields_and_names_of_codes(digits):
    data = named(digits)
    with pytest.raises(DataError, match="keep: the data has no field 'row'.*'rows'"):
        CodesOf(two_factors(data), data, factor="style", keep=("row",))
    with pytest.raises(DataError, match="keep: field 'x' is the code here"):
        CodesOf(two_factors(data), data, factor="style", keep=("x",))
    assert "x" in CodesOf(two_factors(data), data, factor=["style"], keep=("x",)).signature


def test_standardized_codes_have_the_moments_of_the_train_part(digits, tmp_path):
    model = vq(digits, latent="continuous(dim=3)")
    with torch.no_grad():
        model.factors["code"].adapter.bias.add_(torch.tensor([5.0, -3.0, 0.0]))
    train, test = CodesOf(model, digits, standardize=True).split(2)
    raw = CodesOf(model, digits).batch(train.indices)["x"].flatten(0, 1).double()
    columns = train.signature["x"].columns
    assert columns == test.signature["x"].columns
    assert [column.mean for column in columns] == pytest.approx(raw.mean(0).tolist(), rel=1e-9)
    assert [column.std for column in columns] == pytest.approx(raw.std(0, correction=0).tolist(), rel=1e-9)
    assert torch.equal(train.batch([0])["x"], CodesOf(model, digits).batch(train.indices[:1])["x"])

    options = {"encoder": "transformer(width=8, depth=1, heads=2)", "latent": "continuous(dim=2)"}
    second = rk.build(data=train, decoder="mlp(width=8)", **options).eval()
    second.save(tmp_path)
    second = rk.load(tmp_path)
    assert second.signature["x"].columns == columns
    seen = second.factors["code"].encoder.reader.values.rescale(train.batch(range(900))["x"]).flatten(0, 1)
    assert float(seen.mean(0).abs().max()) < 0.2
    assert float((seen.std(0) - 1).abs().max()) < 0.2
    with torch.no_grad():  # a decoder that returns zeros returns the mean, in the units of the codes
        for value in second.decoder.head.linear.parameters():
            value.zero_()
        decoded = second.to_batch(second.decode(second.encode(train.batch([0]))))["x"]
    torch.testing.assert_close(decoded[0, 0], torch.tensor([column.mean for column in columns]))


def test_other_codes_are_standardized_by_the_training_codes(digits):
    model = vq(digits, latent="continuous(dim=3)")
    train = CodesOf(model, named(digits), standardize=True)
    other = CodesOf(model, digits, standardize=train)
    assert other.signature["x"].columns == train.signature["x"].columns
    with pytest.raises(DataError, match="make them with standardize=True"):
        CodesOf(model, digits, standardize=CodesOf(model, named(digits)))


def test_symbols_are_not_standardized(digits):
    with pytest.raises(DataError, match="holds symbols, which have no mean"):
        CodesOf(vq(digits), named(digits), standardize=True)


def test_symbols_of_a_grid_are_a_map(digits):
    model = vq(digits, latent="vq(codes=8, dim=4)")
    codes = CodesOf(model, digits, grid=True)
    assert codes.signature["x"] == rk.Field(kind="map", shape=(2, 2), vocab=8)
    prior = rk.build(data=codes, decoder="gru(width=8, causal=True)", objective="autoregressive").eval()
    assert model.sample(3, prior=prior).x.shape == (3, 64, 1)
    batch = digits.batch(range(2))
    model.decompress(model.compress(batch, priors={"code": prior}), priors={"code": prior})
    with pytest.raises(BuildError, match="is no map of symbols"):
        CodesOf(vq(digits), named(digits), grid=True)


class OwnSplit(rk.data.Tensors):
    """Data whose parts are data sets of their own."""

    def split(self, seed=0, *, valid=False, **shares):
        values = self.batch(range(len(self)))
        halves = [
            {name: value[rows] for name, value in values.items()} for rows in (slice(40), slice(40, 60))
        ]
        return tuple(rk.data.Tensors(half, self.signature) for half in halves)


def test_parts_of_their_own_are_standardized_by_the_train_part(digits):
    model, data = vq(digits, latent="continuous(dim=3)"), named(digits)
    own = OwnSplit(data.batch(range(60)), data.signature)
    train, test = CodesOf(model, own, standardize=True).split()
    assert (
        train.signature["x"].columns
        == CodesOf(model, own.split()[0], standardize=True).signature["x"].columns
    )
    assert test.signature["x"].columns == train.signature["x"].columns
    given = CodesOf(model, digits, standardize=train)
    assert given.split(1)[0].signature["x"].columns == train.signature["x"].columns


def test_joint_vectors_are_those_of_the_model_and_standardized(digits):
    factors = {
        "image": rk.factor("mlp(width=16)", "continuous(dim=4)"),
        "label": rk.factor("mlp(width=16)", "continuous(dim=4)", input="label"),
    }
    model = rk.build(data=digits, factors=factors, objective="across(dim=5)", seed=1).eval()
    train, test = digits.split()
    known = CodesOf(model, train, factor=["image"], joint=True, keep=("x",), standardize=True)
    other = CodesOf(model, test, factor=["image"], joint=True, standardize=known)
    batch = other.batch(range(7))
    torch.testing.assert_close(batch["image"], model.joint_vectors(test.batch(range(7)), "image", to="torch"))
    torch.testing.assert_close(batch["image"].norm(dim=1), torch.ones(7))
    field = known.signature["image"]
    assert (field.kind, field.shape) == ("vector", (5,))
    assert other.signature["image"].columns == field.columns
    vectors = known.batch(range(len(known)))["image"].double()
    for number, column in enumerate(field.columns):
        assert column.mean == pytest.approx(float(vectors[:, number].mean()), abs=1e-5)
        assert column.std == pytest.approx(float(vectors[:, number].std(correction=0)), rel=1e-3)
    assert torch.equal(known.batch([3])["x"], train.batch([3])["x"])
    parts = CodesOf(model, digits, factor=["image"], joint=True).split()
    assert torch.equal(parts[1].batch(range(7))["image"], batch["image"])
    with pytest.raises(BuildError, match="omit one"):
        CodesOf(model, digits, factor="image", joint=True, grid=True)
