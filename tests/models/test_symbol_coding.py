import math

import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, CompressionError, DataError
from reprkit.models.code_header import close_string
from reprkit.models.symbol_coding import _steps, compress_symbols

VOCAB = 7


def text(count, seed=0):
    """Symbols of which each is the one before plus 1 or 2."""
    steps = torch.randint(1, 3, (count,), generator=torch.Generator().manual_seed(seed))
    return steps.cumsum(0) % VOCAB


def build(decoder="gru(width=12)", seed=0):
    data = rk.data.Arrays({"x": text(640).reshape(20, 32)}, vocabs={"x": VOCAB})
    return rk.build(data=data, decoder=decoder, objective="autoregressive", seed=seed)


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.mark.parametrize(
    "decoder", ["gru(width=12)", "lstm(width=8)", "transformer(width=8, depth=1, heads=2, causal=True)"]
)
def test_data_of_any_length_comes_back(decoder):
    model = build(decoder)
    for count in (1, 2, 32, 75):
        batch = {"x": text(count).unsqueeze(0)}
        assert torch.equal(model.decompress(model.compress(batch))["x"], batch["x"])
    assert model.training


def test_a_string_depends_on_no_other_example(model):
    long, short = text(60), text(40, seed=1)
    mask = torch.arange(60) < torch.tensor([[60], [40]])
    padded = torch.stack([long, torch.nn.functional.pad(short, (0, 20))])
    strings = model.compress({"x": padded, "x_mask": mask})
    assert strings == [model.compress({"x": each.unsqueeze(0)})[0] for each in (long, short)]
    again = model.decompress(strings)
    assert torch.equal(again["x_mask"], mask)
    assert torch.equal(again["x"], padded * mask)


@pytest.mark.slow
def test_bytes_are_the_probability_that_the_model_gives(model):
    x = text(300)
    nats = float(model.decode(teacher=x.view(1, -1, 1)).nll(x.view(1, -1, 1)).sum().detach())
    size = len(compress_symbols(model, {"x": x.unsqueeze(0)}, adapt=False)[0])
    assert 8 * size == pytest.approx(nats / math.log(2), rel=0.01, abs=8 * 27)


@pytest.mark.slow
def test_long_data_in_streams_with_other_threads_and_training_pays_off(model, monkeypatch):
    monkeypatch.setattr("reprkit.models.symbol_coding.STREAM", 300)
    x = text(2017)
    batch = {"x": x.unsqueeze(0)}
    data = rk.data.Arrays({"x": text(64 * 200, seed=2).reshape(200, 64)}, vocabs={"x": VOCAB})
    trained = rk.build(data=data, decoder="gru(width=12)", objective="autoregressive", seed=0)
    for step in rk.loop(trained, data, steps=150, batch=32, lr=1e-2, seed=0):
        step.backward(step.model(step.batch).total)
        step.update()
    (string,) = trained.compress(batch)
    plain, untrained = (
        8 * len(compress_symbols(each, batch, adapt=False)[0]) / len(x) for each in (trained, model)
    )
    assert max(plain, 8 * len(string) / len(x)) < 1.25  # its entropy is 1 bit, and the header takes 0.1
    assert (
        untrained > 2.5 > 2 > 8 * len(model.compress(batch)[0]) / len(x)
    )  # counts learn from the data itself
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(trained.decompress([string])["x"], batch["x"])
    finally:
        torch.set_num_threads(threads)


def test_another_model_damage_and_other_probabilities_are_refused(model, monkeypatch):
    (string,) = model.compress({"x": text(100).unsqueeze(0)})
    with pytest.raises(CompressionError, match="another model"):
        build(seed=1).decompress([string])
    with pytest.raises(CompressionError, match="checksum"):
        model.decompress([string[:-1]])
    with pytest.raises(CompressionError, match="checksum"):
        model.decompress([string[:20] + bytes([string[20] ^ 1]) + string[21:]])

    def differently(*args):
        inner, sent = _steps(*args), None
        while True:
            try:
                edges = inner.send(sent)
                sent = yield edges[:, [0, *range(2, VOCAB + 1), VOCAB]] if edges.size else edges
            except StopIteration:
                return

    monkeypatch.setattr("reprkit.models.symbol_coding._steps", differently)
    with pytest.raises(CompressionError, match="other probabilities"):
        model.decompress([string])


def test_a_short_string_cannot_claim_a_long_text(model):
    (string,) = model.compress({"x": text(3).unsqueeze(0)})
    forged = close_string(string[5:9] + b"\xff\xff\xff\xff\x0f\x01" + string[11:])
    with pytest.raises(CompressionError, match="claims"):
        model.decompress([forged])


def test_what_cannot_be_coded_is_refused(model):
    with pytest.raises(DataError, match="symbols|vocab|0 to"):
        model.compress({"x": torch.full((1, 5), VOCAB + 3)})
    with pytest.raises(BuildError, match="slots="):
        model.compress({"x": text(5).unsqueeze(0)}, slots=1)
    frames = rk.build(
        data=rk.data.Arrays({"x": torch.randn(4, 8, 2)}), decoder="gru(width=4)", objective="autoregressive"
    )
    with pytest.raises(BuildError, match="compresses tokens"):
        compress_symbols(frames, {"x": torch.randn(1, 8, 2)})
