import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, PartArgumentError


def test_novelty_is_zero_for_copies_and_large_for_noise(digits):
    train, test = digits
    model = rk.build(data=train, encoder="mlp", latent="gaussian(dim=4)", decoder="mlp", seed=0)
    known = train.batch(range(64))["x"]

    def answering(made):
        model.sample = lambda size, generator, **options: made(size)
        model.to_batch = lambda decoded, batch=None: {"x": decoded}
        return rk.evaluate(model, test, "samples", fit_on=train, examples=0)["samples"]["novelty"]

    assert answering(lambda size: known[:size]) == pytest.approx(0.0, abs=1e-9)
    assert answering(lambda size: test.batch(range(size))["x"]) == pytest.approx(1.0, abs=0.3)
    assert answering(lambda size: torch.rand(size, 8, 8, 1)) > 2


def test_samples_are_drawn_from_the_given_prior(digits, tmp_path):
    train, test = digits
    model = rk.build(
        data=train, encoder="conv(width=8)", latent="vq(codes=8, dim=4)", decoder="conv(width=8)"
    )
    codes = rk.data.CodesOf(model, train)
    prior = rk.build(
        data=codes, decoder="transformer(width=16, depth=1, causal=True)", objective="autoregressive"
    )
    found = rk.evaluate(model, test, rk.create("evaluator", "samples", count=5, prior=prior), fit_on=train)
    assert found["samples"]["n"] == 5
    assert found["samples"]["novelty"] > 0
    assert len(found.figures["samples"]["samples"].rows["drawn"]) == 5
    with pytest.raises(BuildError, match="has no prior: train one"):
        rk.evaluate(model, test, "samples")


def test_wrong_arguments_and_data_of_varying_length_are_refused():
    for wrong in ("samples(count=0)", "samples(temperature=0.0)", "samples(seed=-1)"):
        with pytest.raises(PartArgumentError, match="^evaluator samples: .* must be"):
            rk.create("evaluator", wrong)
    data = rk.data.Arrays([torch.zeros(3, 2).numpy(), torch.zeros(4, 2).numpy()])
    model = rk.build(data=data, encoder="gru(width=8)", latent="gaussian(dim=2)", decoder="gru(width=8)")
    with pytest.raises(BuildError, match="fixed length"):
        rk.evaluate(model, data, "samples")
