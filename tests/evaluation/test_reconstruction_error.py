import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.decomposition import PCA

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import BuildError
from reprkit.evaluation.reconstruction import ReconstructionError
from reprkit.models.grid import to_tokens
from reprkit.types import Code, Decoded


class Says(rk.Decoder):
    """The code as it is, with unit variance or as logits."""

    def __init__(self, width, likelihood="gaussian", symbols=0):
        super().__init__()
        self.in_dim, self.likelihood, self.symbols = width, likelihood, symbols

    def forward(self, features, *, teacher=None, length=None):
        x = features.x
        if self.likelihood == "categorical":
            symbols = x.round().long().clamp(0, self.symbols - 1)
            logits = torch.nn.functional.one_hot(symbols, self.symbols).float() * 2
            return Decoded(x=symbols, likelihood="categorical", params={"logits": logits}, grid=features.grid)
        params = {"mean": x, "log_scale": torch.zeros(1, 1, 1)}
        return Decoded(x=x, likelihood="gaussian", params=params, grid=features.grid)


class Shifted(rk.Latent):
    """The features and a known error, a known KL and a price."""

    def __init__(self, width):
        super().__init__(in_dim=width, out_dim=width)

    def forward(self, features):
        size = len(features.x)
        kl = torch.tensor(1.5)
        bits = torch.arange(size).float()
        return Code.of(features, z=features.x + 0.5, losses={"kl": kl / 2}, metrics={"kl": kl}, bits=bits)


def test_error_matches_pca_on_digits(digits):
    train, test = digits
    x, y = (part.batch(range(len(part)))["x"].flatten(1).double().numpy() for part in (train, test))
    pca = PCA(8, random_state=0).fit(x)
    left = y - pca.inverse_transform(pca.transform(y))
    spread = np.sqrt(np.square(x - pca.inverse_transform(pca.transform(x))).mean())
    found = rk.evaluate("pca(dim=8)", test, "reconstruction", fit_on=train, batch=33)["reconstruction"]
    assert found["error"] == pytest.approx(np.square(left).sum(1).mean(), rel=1e-4)
    assert found["mse"] == pytest.approx(np.square(left).mean(), rel=1e-4)
    assert found["nll"] == pytest.approx(-norm.logpdf(left, scale=spread).sum(1).mean(), rel=1e-4)
    assert "bits" not in found
    assert "negative_elbo" not in found


def test_error_of_pca_on_all_digits_is_the_documented_one():
    train, test = rk.dataset("digits").split(seed=0)
    assert rk.evaluate("pca(dim=8)", test, "reconstruction", fit_on=train)["reconstruction"][
        "error"
    ] == pytest.approx(1.55, abs=0.1)


def test_divergence_and_bits_are_summed_over_uneven_batches(reader, table):
    data = table(torch.rand(5, 3))
    model = rk.build(data=data, encoder=reader.Reads(3), latent=Shifted(3), decoder=Says(3))
    found = rk.evaluate(model, data, "reconstruction", batch=2)["reconstruction"]
    assert found["error"] == pytest.approx(3 * 0.25)
    assert found["nll"] == pytest.approx(3 * (0.5 * 0.25 + 0.5 * math.log(2 * math.pi)))
    assert found["kl"] == pytest.approx(1.5)  # the metric, not the loss that is held back
    assert found["negative_elbo"] == pytest.approx(found["nll"] + 1.5)
    assert found["bits"] == pytest.approx((0 + 1 + 0 + 1 + 0) / 5)  # each batch counts its examples from 0


def test_padding_does_not_count(reader, table):
    x, mask = torch.rand(4, 6, 2), torch.arange(6) < torch.tensor([[6], [3], [1], [4]])
    noisy = torch.where(mask.unsqueeze(-1), x, 1e3)
    measured = []
    for values in (x, noisy):
        data = table(values, mask=mask)
        model = rk.build(data=data, encoder=reader.Reads(2), latent=Shifted(2), decoder=Says(2))
        measured.append(rk.evaluate(model, data, "reconstruction", examples=0)["reconstruction"])
    assert measured[0] == measured[1]
    assert measured[0]["error"] == pytest.approx(0.25 * 2 * 14 / 4)
    assert measured[0]["mse"] == pytest.approx(0.25)


class Symbols(rk.Encoder):
    """Symbols as numbers, every 3 misread as 0."""

    out_dim = 1

    def forward(self, batch, *, keep=None):
        x = torch.where(batch["x"] == 3, 0, batch["x"]).float().unsqueeze(-1)
        return rk.Features(x=x, mask=batch.get("x_mask"), grid=(x.shape[1],), length=x.shape[1])

    def count(self, batch):
        return batch["x"].shape[1]

    def grid(self, batch):
        return (batch["x"].shape[1],)


def test_symbols_have_accuracy_and_perplexity(reader):
    x = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    signature = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=4)})
    data = Tensors({"x": x, "x_mask": mask}, signature)
    model = rk.build(data=data, encoder=Symbols(), latent=reader.Plain(1), decoder=Says(1, "categorical", 4))
    found = rk.evaluate(model, data, "reconstruction")["reconstruction"]
    # Six real symbols, three of them read as they are; a right one has logit 2 against three zeros.
    norm_constant = math.log(math.exp(2) + 3)
    nats = 3 * (norm_constant - 2) + 3 * norm_constant
    assert found == {
        "accuracy": pytest.approx(0.5),
        "perplexity": pytest.approx(math.exp(nats / 6), rel=1e-5),
        "nll": pytest.approx(nats / 2, rel=1e-5),
    }


def test_a_model_without_decoder_is_refused(reader, table):
    data = table(torch.rand(4, 2))
    with pytest.raises(BuildError, match="no decoder"):
        rk.evaluate(reader(data), data, "reconstruction")


class Halved(rk.Corruption):
    """Every element is halved."""

    def forward(self, batch, generator=None):
        return {**batch, "x": batch["x"] / 2}, torch.ones_like(batch["x"], dtype=torch.bool)


def test_a_corrupted_copy_is_compared_with_the_clean_example(reader, table):
    x = torch.rand(5, 3)
    data = table(x)
    model = rk.build(data=data, encoder=reader.Reads(3), latent=reader.Plain(3), decoder=Says(3))

    def measured(*corruption):
        evaluator = ReconstructionError(*corruption)
        return rk.evaluate(model, data, evaluator, batch=2, examples=0)[evaluator.reference.name]

    assert measured()["error"] == 0
    assert measured(Halved())["error"] == pytest.approx(float((x / 2).square().sum(1).mean()))
    assert measured((Halved(), Halved()))["error"] == pytest.approx(float((x * 0.75).square().sum(1).mean()))


def test_the_corruption_depends_on_its_seed_only(digits):
    train, test = digits
    found = [
        rk.evaluate(
            "pca(dim=8)",
            test,
            f"reconstruction(corruption='gaussian-noise', seed={seed})",
            fit_on=train,
            seed=other,
        )
        for seed, other in ((0, 0), (0, 1), (1, 0))
    ]
    assert found[0]["reconstruction"] == found[1]["reconstruction"] != found[2]["reconstruction"]


def test_corruption_of_a_model_without_encoder_is_refused(digits):
    train, test = digits
    model = rk.build(data=train, decoder="gru(width=8)", objective="autoregressive")
    with pytest.raises(BuildError, match="corrupts what encoders read, and this model has none"):
        rk.evaluate(model, test, "reconstruction(corruption='gaussian-noise')")


def test_a_model_of_normalized_patches_is_judged_in_units_of_the_data():
    """Error and nats of ``masked(normalize=True)``, by an independent computation from the decoder's own output."""
    train, test = rk.dataset("digits").split()
    vit = "vit(patch=2, width=16, depth=1, heads=2)"
    model = rk.build(
        data=train, encoder=vit, latent="continuous(dim=8)", decoder=vit, objective="masked(normalize=True)"
    ).eval()
    test = test.subset(range(50))
    batch = test.batch(range(50))
    with torch.no_grad():
        decoded = model.decode(model.encode(batch))
    target = to_tokens(batch["x"], (4, 4), "image").double()
    mean, deviation = target.mean(-1, keepdim=True), (target.var(-1, keepdim=True) + 1e-6).sqrt()
    x = decoded.x.double() * deviation + mean
    scale = decoded.params["log_scale"].double().exp()
    density = torch.distributions.Normal(x, (scale * deviation).expand_as(x))
    found = rk.evaluate(model, test, "reconstruction", examples=4)
    assert found["reconstruction"]["mse"] == pytest.approx(float((x - target).square().mean()), rel=1e-5)
    assert found["reconstruction"]["nll"] == pytest.approx(
        float(-density.log_prob(target).sum() / 50), rel=1e-5
    )
    codes, hidden = model.objective.hide(model, batch)
    with torch.no_grad():
        normalized = model.decode(codes).nll(((target - mean) / deviation).float())
        loss = float(model(batch).total)
    assert loss == pytest.approx(float((normalized * hidden[0].hit).sum() / 50), rel=1e-4), (
        "training stays in normalized units"
    )
