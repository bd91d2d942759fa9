import math

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError
from reprkit.models.factor import FactorSpec
from reprkit.utils.spectrum import effective_rank


def test_counts_per_slot_on_known_indices(reader, table):
    # Slot 0 of 4 entries: 0 six times, 1 twice; slot 1 of 2: both four times; slot 2 of 2: always 1.
    data = table([[0, 0, 1], [0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    results = rk.evaluate(reader(data, reader.Given((4, 2, 2))), data, "codebook", batch=3)
    found = results["codebook"]
    h = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["perplexity"] == pytest.approx((math.exp(h) + 2 + 1) / 3)
    assert found["entropy"] == pytest.approx(h / math.log(2) + 1 + 0)
    assert found["dead"] == 2 + 0 + 1
    assert found["usage"] == pytest.approx((0.5 + 1 + 0) / 3)  # a bit counts when it took both values
    assert found["bits"] == 3.0
    assert results.figures["codebook"]["use"].values[0].tolist() == [0.75, 0.25, 0, 0]


def test_usage_matches_the_training_metric(reader, table):
    torch.manual_seed(0)
    for vocab in ((5, 3), (2, 2), None):
        x = torch.randint(0, 2, (9, 2)).float() if vocab else torch.randn(9, 2) * torch.tensor([1.0, 0.01])
        data = table(x)
        model = reader(data, reader.Given(vocab) if vocab else None)
        usage = model.factors["code"].usage
        usage.observe(model.encode(data.batch(range(9))))
        assert rk.evaluate(model, data, "codebook")["codebook"]["usage"] == pytest.approx(
            float(usage.value())
        )


def test_padding_is_not_counted(reader, table):
    mask = torch.tensor([[True, True, False], [True, False, False]])
    data = table(torch.tensor([[[0], [1], [3]], [[1], [2], [3]]]).float(), mask=mask)
    found = rk.evaluate(reader(data, reader.Given((4,), priced=False)), data, "codebook")["codebook"]
    assert found["dead"] == 2
    assert found["perplexity"] == pytest.approx(
        math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    )
    assert "bits" not in found


def test_continuous_dimensions(reader, table):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 4)) * [3.0, 1.0, 0.2, 0.0] + 1000.0
    results = rk.evaluate(reader(data := table(x)), data, "codebook", batch=64)
    found = results["codebook"]
    assert found["active"] == 2  # variances 9, 1, 0.04, 0: over a hundredth of the largest
    assert found["usage"] == 0.5
    held = x.astype(np.float32).astype(np.float64)
    singular = np.linalg.svd(held - held.mean(0), compute_uv=False)
    share = singular[:3] / singular[:3].sum()
    assert found["effective_rank"] == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-6)
    assert results.figures["codebook"]["use"].values == pytest.approx(held.var(0), rel=1e-9, abs=1e-12)
    assert not {"perplexity", "dead", "bits"} & set(found)


def test_the_latents_own_threshold_decides(reader, table):
    class Strict(reader.Plain):
        active_variance = 0.5

    x = torch.tensor([[1.0, 0.1], [-1.0, -0.1]])
    assert rk.evaluate(reader(table(x)), table(x), "codebook")["codebook"]["active"] == 2
    assert rk.evaluate(reader(table(x), Strict(2)), table(x), "codebook")["codebook"]["active"] == 1


@pytest.mark.parametrize(
    ("deviations", "rank"), [([1.0, 1.0, 1.0], 3.0), ([1.0, 0.0, 0.0], 1.0), ([0.0], 0.0)]
)
def test_effective_rank_of_known_spectra(deviations, rank):
    turned, _ = torch.linalg.qr(torch.randn(len(deviations), len(deviations), dtype=torch.float64))
    covariance = turned @ torch.diag(torch.tensor(deviations, dtype=torch.float64) ** 2) @ turned.T
    assert effective_rank(covariance) == pytest.approx(rank, abs=1e-5)


def test_several_factors_have_prefixed_metrics(reader, table):
    data = table(torch.tensor([[0.0], [1.0], [1.0]]))
    factors = {
        "what": FactorSpec(encoder=reader.Reads(1), latent=reader.Given((2,))),
        "how": FactorSpec(encoder=reader.Reads(1), latent=reader.Plain(1)),
    }
    model = rk.build(data=data, factors=factors, objective=Pair())
    results = rk.evaluate(model, data, "codebook")
    assert results["codebook"]["what.dead"] == 0
    assert results["codebook"]["how.active"] == 1
    assert set(results.figures["codebook"]) == {"what.use", "how.use"}


class Pair(rk.Objective):
    needs = frozenset({"encoder"})

    def forward(self, model, batch, turn="main"):
        return {"nothing": sum(code.z.sum() for code in model.encode(batch).values()) * 0}


def test_a_model_without_encoder_has_no_code(digits):
    train, test = digits
    model = rk.build(data=train, decoder="gru(width=8)", objective="autoregressive")
    with pytest.raises(BuildError, match="no encoder"):
        rk.evaluate(model, test, "codebook")
