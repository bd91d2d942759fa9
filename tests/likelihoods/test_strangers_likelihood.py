"""A likelihood that another distribution offers by entry point: it trains, samples, is saved and loaded by name."""

import json

import pytest
import torch

import reprkit as rk
from reprkit.errors import CheckpointError
from reprkit.registry.registry import Registry, using_registry
from reprkit.testing.kit import failed_checks, make_case

PLUGIN = """
    from reprkit import Spec, hookimpl

    @hookimpl
    def reprkit_likelihoods():
        yield Spec("logistic", "acme_logistic:Logistic", "Logistic distribution")
"""
PART = """
    import torch
    import torch.nn.functional as F

    from reprkit.likelihoods.location_scale import LocationScale, Scale

    class Logistic(LocationScale):
        name = "logistic"

        def __init__(self, scale: Scale = "shared", *, data=None) -> None:
            super().__init__(scale, data=data)

        def standard_nll(self, value):
            return value + 2 * F.softplus(-value)

        def standard_sample(self, like, generator):
            share = torch.empty_like(like).uniform_(1e-6, 1 - 1e-6, generator=generator)
            return torch.logit(share)

        def standard_log_mass(self, low, high):
            return F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(low - high))
"""


@pytest.fixture
def acme(site):
    site.add("acme-likelihoods", PLUGIN, version="0.4.0", modules={"acme_logistic": PART})
    with using_registry(Registry()) as registry:
        yield registry


def test_it_trains_samples_saves_and_loads(acme, tmp_path):
    train, test = rk.dataset("digits").split()
    model = rk.build(
        data=train,
        encoder="mlp(width=32)",
        latent="continuous(dim=8)",
        decoder="mlp(width=32, likelihood='logistic')",
    )
    before = rk.evaluate(model, test, "reconstruction")["reconstruction"]["nll"]
    rk.fit(model, train, steps=40, batch=64, lr=3e-3)
    found = rk.evaluate(model, test, "reconstruction")["reconstruction"]["nll"]
    assert found < before - 10
    batch = test.batch(range(8))
    with torch.no_grad():
        decoded = model.decode(model.encode(batch))
    torch.manual_seed(0)
    drawn = decoded.sample()
    assert drawn.shape == decoded.x.shape
    assert (drawn - decoded.x).std() == pytest.approx(
        1.81 * float(decoded.params["log_scale"].exp()), rel=0.2
    )
    folder = model.save(tmp_path / "model")
    manifest = json.loads((folder / "reprkit.json").read_text())
    assert manifest["plugins"]["acme-likelihoods"] == "0.4.0"
    loaded = rk.load(folder)
    torch.testing.assert_close(loaded.score(batch).nats, model.eval().score(batch).nats)
    with (
        using_registry(Registry(installed=False)),
        pytest.raises(CheckpointError, match=r"acme-likelihoods 0\.4\.0"),
    ):
        rk.load(folder)


def test_an_instance_is_saved_as_a_part(acme, tmp_path):
    data = rk.dataset("digits")
    chosen = rk.create("likelihood", "acme-likelihoods/logistic(scale='each')", data=data.signature)
    decoder = rk.create("decoder", "mlp(width=16)", data=data.signature, tokens=1, likelihood=chosen)
    model = rk.build(data=data, encoder="mlp(width=16)", decoder=decoder)
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.decoder.head.likelihood.qualified == "acme-likelihoods/logistic"
    batch = data.batch(range(4))
    torch.testing.assert_close(loaded.score(batch).nats, model.eval().score(batch).nats)


def test_it_passes_the_conformance_checks(acme):
    case = make_case("likelihood", "acme-likelihoods/logistic", "images")
    found = failed_checks(case)
    assert found == {}
