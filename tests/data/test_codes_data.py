import pytest
import torch

import reprkit as rk
from reprkit.data import CodesOf
from reprkit.errors import BuildError, CheckpointError
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


@pytest.mark.parametrize("latent", ["vq(codes=8, dim=4, codebooks=2)", "continuous(dim=3)"])
def test_conformance(digits, tmp_path, latent):
    vq(digits, latent=latent).save(tmp_path)
    case = kit.make_case("dataset", f"codes(model='{tmp_path}', data='digits')", "images")
    assert kit.failed_checks(case) == {}
