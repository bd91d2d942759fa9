import math

import pytest
import torch
from learning import FRAMES, SYMBOLS, digits, evaluate_on_test, fit, full_batch, padded_batch

import reprkit as rk
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.models.grid import to_tokens

GRU, TRANSFORMER = "gru(width=32, causal=True)", "transformer(width=32, depth=1, heads=2, causal=True)"


@pytest.mark.parametrize("decoder", [GRU, TRANSFORMER])
@pytest.mark.parametrize("encoder", [None, "mlp(width=16)"])
def test_loss_is_the_chain_of_one_step_likelihoods(encoder, decoder):
    model = rk.build(
        data=digits()[0],
        encoder=encoder,
        latent="continuous(dim=4)",
        decoder=decoder,
        objective="autoregressive",
    ).eval()
    batch = digits()[0].batch(range(3))
    rows = to_tokens(batch["x"], (8, 1), "image")
    with torch.no_grad():
        losses = model(batch)
        features = model.merge(model.encode(batch)) if encoder else None
        state = model.decoder.start(features, size=3, length=8)
        total, previous = torch.zeros(3), None
        for t in range(8):
            decoded, state = model.decoder.step(previous, state)
            previous = rows[:, t : t + 1]
            total += decoded.nll(previous).sum(1)
    torch.testing.assert_close(losses.terms["autoregressive"], total.mean(), rtol=1e-4, atol=1e-4)
    bits = total.mean() / (64 * math.log(2))
    torch.testing.assert_close(losses.metrics["bits_per_dim"], bits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("signature", [FRAMES, SYMBOLS], ids=["frames", "symbols"])
@pytest.mark.parametrize("encoder", [None, "gru(width=8)"])
@pytest.mark.parametrize("decoder", [GRU, TRANSFORMER])
def test_padding_has_no_effect(signature, encoder, decoder):
    model = rk.build(
        data=Signature({"x": signature["x"]}), encoder=encoder, decoder=decoder, objective="autoregressive"
    ).eval()
    batch = padded_batch(signature, [6, 2, 4])
    alone = []
    for row, length in enumerate([6, 2, 4]):
        alone.append(model({name: value[row : row + 1, :length] for name, value in batch.items()}))
    losses = model(batch)
    expected = torch.stack([each.total for each in alone]).mean()
    torch.testing.assert_close(losses.total, expected, rtol=1e-4, atol=1e-5)
    if signature is SYMBOLS:
        assert float(losses.metrics["perplexity"]) == pytest.approx(
            math.exp(expected.item() * 3 / 12), rel=1e-4
        )


@pytest.mark.parametrize("decoder", [GRU, TRANSFORMER])
def test_it_learns_a_rule_that_depends_on_the_previous_token(decoder):
    """Count modulo 5 from a random start: five options for the first symbol, one for each of the others."""
    signature = Signature({"x": rk.data.Field(kind="tokens", shape=(6,), vocab=5)})
    model = rk.build(data=signature, decoder=decoder, objective="autoregressive")
    x = (torch.arange(5).unsqueeze(1) + torch.arange(6)) % 5
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        losses = model({"x": x})
        losses.total.backward()
        optimizer.step()
    assert math.log(5) - 1e-3 < losses.total < math.log(5) + 0.15  # without what came before: 6 log 5 = 9.66
    drawn = model.eval().generate(size=20, temperature=0.3, generator=torch.Generator().manual_seed(0)).x
    steps = (drawn[:, 1:, 0] - drawn[:, :-1, 0]) % 5
    assert float((steps == 1).float().mean()) > 0.9


@pytest.mark.slow
def test_it_learns_rows_from_the_rows_above():
    model = fit(rk.build(data=digits()[0], decoder=GRU, objective="autoregressive"), 250, lr=6e-3)
    learned = evaluate_on_test(model)["autoregressive"]
    mean, test = full_batch(0)["x"].mean(0), full_batch(1)["x"]
    variance = (full_batch(0)["x"] - mean).square().mean()
    alone = 0.5 * ((test - mean).square() / variance + variance.log() + math.log(2 * math.pi))
    assert learned < float(alone.sum((1, 2, 3)).mean()) - 10, learned  # 6.9: each pixel's own mean, one scale


def test_decoders_that_are_not_causal_are_refused():
    for decoder in ("mlp", None):
        with pytest.raises(BuildError, match="needs a causal decoder|needs a decoder"):
            rk.build(data=digits()[0], encoder="mlp", decoder=decoder, objective="autoregressive")
