import math

import pytest
import torch
from learning import FRAMES, SYMBOLS, digits, evaluate_on_test, fit, freeze_encoder, full_batch, padded_batch

import reprkit as rk
from reprkit.errors import BuildError

MLP = {"encoder": "mlp(width=64)", "latent": "continuous(dim=8)", "decoder": "mlp(width=64)"}


@pytest.mark.slow
def test_it_beats_pca_and_a_frozen_encoder():
    learned = evaluate_on_test(fit(rk.build(data=digits()[0], **MLP), 500, lr=4e-3))
    without = evaluate_on_test(fit(freeze_encoder(rk.build(data=digits()[0], **MLP)), 500, lr=4e-3))
    assert learned["error"] < 1.3, learned  # PCA of 8 dimensions: 1.55; the mean digit: 4.65
    assert without["error"] > 2 * learned["error"], without


def test_loss_and_error_are_sums_over_an_example():
    model = rk.build(data=digits()[0], **MLP).eval()
    batch = digits()[0].batch(range(5))
    with torch.no_grad():
        losses, decoded = model(batch), model.decode(model.encode(batch))
    x, scale = batch["x"].flatten(1), decoded.params["log_scale"].expand(5, 1, 64).flatten(1).exp()
    expected = -torch.distributions.Normal(decoded.x.flatten(1), scale).log_prob(x).sum(1).mean()
    torch.testing.assert_close(losses.total, expected)
    torch.testing.assert_close(losses.terms["reconstruction"], expected)
    torch.testing.assert_close(losses.metrics["error"], (decoded.x.flatten(1) - x).square().sum(1).mean())


@pytest.mark.parametrize("signature", [FRAMES, SYMBOLS], ids=["frames", "symbols"])
def test_padding_has_no_effect(signature):
    model = rk.build(
        data=signature,
        encoder="gru(width=8)",
        latent="continuous(dim=4)",
        decoder="transformer(width=8, heads=2)",
    )
    model.eval()
    batch = padded_batch(signature, [5, 2, 3])
    alone = [padded_one(batch, row, length) for row, length in enumerate([5, 2, 3])]
    together = model(batch).terms["reconstruction"]
    torch.testing.assert_close(together, torch.stack([model(each).total for each in alone]).mean())


def padded_one(batch, row, length):
    one = {name: value[row : row + 1] for name, value in batch.items()}
    return {name: value if name == "other" else value[:, :length] for name, value in one.items()}


def test_perplexity_covers_valid_symbols_only():
    model = rk.build(data=SYMBOLS, encoder="gru(width=8)", decoder="transformer(width=8, heads=2)").eval()
    batch = padded_batch(SYMBOLS, [5, 2])
    losses = model(batch)
    assert float(losses.metrics["perplexity"]) == pytest.approx(
        math.exp(losses.terms["reconstruction"] * 2 / 7), rel=1e-5
    )


def test_a_model_without_a_decoder_or_an_encoder_is_refused():
    with pytest.raises(BuildError, match="needs a decoder"):
        rk.build(data=digits()[0], encoder="mlp", objective="reconstruction")
    with pytest.raises(BuildError, match="needs an encoder"):
        rk.build(data=digits()[0], decoder="gru(causal=True)", objective="reconstruction")


def test_mean_digit():
    """The error of the mean digit, the reference for the bound above."""
    error = (full_batch(1)["x"] - full_batch(0)["x"].mean(0)).square().sum((1, 2, 3)).mean()
    assert float(error) == pytest.approx(4.65, abs=0.01)
