"""Pointer decoder: conformance, its mixture computed by hand, and learning to copy."""

import math

import pytest
import torch
from reprkit_text.decoders.pointer import PointerDecoder

import reprkit as rk
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import DecoderConformance
from reprkit.testing.sample_data import IMAGES, TOKENS
from reprkit.types import Features

VOCAB = 9
FIELDS = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=VOCAB)})


class TestPointer(DecoderConformance):
    part, data = "reprkit-text/pointer(width=8)", TOKENS


class TestPointerTransformer(DecoderConformance):
    part, data = (
        "reprkit-text/pointer(width=8, kind='transformer', depth=2, heads=2, dropout=0.1, follow=True)",
        TOKENS,
    )


class TestPointerWithoutCopying(DecoderConformance):
    part, data = "reprkit-text/pointer(width=8, copy=False, reader=0)", TOKENS


def code(size=3, tokens=4, width=8):
    mask = torch.arange(tokens) < torch.tensor([[tokens], [1], [0]])[:size]
    return Features(x=torch.randn(size, tokens, width), mask=mask, grid=())


@pytest.mark.parametrize("kind", ["gru", "transformer"])
@torch.no_grad()
def test_the_mixture_equals_a_computation_by_hand(kind):
    torch.manual_seed(0)
    decoder = PointerDecoder(8, kind=kind, heads=2, data=FIELDS).eval()
    features, teacher = code(size=2), torch.randint(VOCAB, (2, 5, 1))
    found = decoder(features, teacher=teacher).params["logits"][:, :, 0]
    net = decoder.generator
    for row, (x, mask) in enumerate(zip(features.x, features.mask, strict=True)):
        x = x[mask]
        x = x + decoder.joined(decoder.reader(x[None])[0])
        inputs = torch.cat([net.start[None], net.embedding(teacher[row, :-1, 0])])
        inputs = inputs + net.about(x.mean(0))
        if kind == "transformer":
            rate = 10_000 ** (-torch.arange(4) / 4)
            angle = torch.arange(5)[:, None] * rate
            inputs = inputs + torch.cat([angle.sin(), angle.cos()], 1)
        hidden = net.trunk(inputs[None])[0]
        attention = (net.query(hidden) @ net.key(x).T / math.sqrt(8)).softmax(-1)
        both = torch.cat([hidden, attention @ x], 1)
        gate = net.gate(both).sigmoid()
        own, copied = net.out(net.mix(both).tanh()).softmax(-1), net.spoken(x).softmax(-1)
        expected = gate * own + (1 - gate) * (attention @ copied)
        torch.testing.assert_close(found[row].exp(), expected, atol=1e-5, rtol=1e-4)


def test_word_dropout_hides_earlier_symbols_while_training_only():
    torch.manual_seed(0)
    decoder = PointerDecoder(8, copy=False, reader=0, forget=0.5, data=FIELDS)
    seen = []
    decoder.generator.embedding.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    features, teacher = code(size=2), torch.randint(VOCAB, (2, 400, 1))
    decoder(features, teacher=teacher)
    hidden = seen[0] == decoder.blank
    assert 0.42 < hidden.float().mean() < 0.58
    torch.testing.assert_close(seen[0][~hidden], teacher[:, :-1, 0][~hidden])
    decoder.eval()(features, teacher=teacher)
    torch.testing.assert_close(seen[1], teacher[:, :-1, 0])


def test_without_earlier_symbols_the_next_one_does_not_depend_on_them():
    """Every symbol is hidden but for a share of 1e-6: two teachers give the same predictions."""
    decoder = PointerDecoder(8, copy=False, reader=0, forget=1 - 1e-6, data=FIELDS)
    features = code(size=2)
    found = [
        decoder(features, teacher=torch.full((2, 5, 1), word)).params["logits"] for word in (0, VOCAB - 1)
    ]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
@pytest.mark.parametrize("coded", [True, False])
@torch.no_grad()
def test_step_by_step_equals_teacher_forcing(kind, coded):
    torch.manual_seed(0)
    decoder = PointerDecoder(8, kind=kind, depth=2, heads=2, data=FIELDS).eval()
    features, teacher = code() if coded else None, torch.randint(VOCAB, (3, 6, 1))
    forced = decoder(features, teacher=teacher).params["logits"]
    assert forced.isfinite().all()
    state = decoder.start(features, size=3, length=6)
    for place in range(6):
        made, state = decoder.step(teacher[:, place - 1 : place] if place else None, state)
        torch.testing.assert_close(made.params["logits"], forced[:, place : place + 1], atol=1e-5, rtol=1e-5)
    with pytest.raises(BuildError, match="all 6 steps"):
        decoder.step(teacher[:, -1:], state)


@pytest.mark.slow
def test_it_learns_to_copy_a_code_in_its_order():
    # The code's tokens are embeddings of the symbols: the successor of a symbol must be found, then copied.
    left = {}
    for name, options in {"both": {}, "no reader": {"reader": 0}, "no copying": {"copy": False}}.items():
        torch.manual_seed(0)
        table = torch.randn(VOCAB, 16)
        decoder = PointerDecoder(16, **options, data=FIELDS)
        optimizer = torch.optim.Adam(decoder.parameters(), 0.01)
        for _ in range(150):
            x = torch.randint(VOCAB, (32, 6, 1))
            nats = decoder(Features(x=table[x[..., 0]], grid=()), teacher=x).nll(x).mean()
            optimizer.zero_grad()
            nats.backward()
            optimizer.step()
        left[name] = float(nats.detach())
    assert left["both"] < 0.4 < 0.9 < left["no reader"]
    assert left["both"] < 0.8 * left["no copying"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"reader": -1}, "reader"),
        ({"kind": "lstm"}, "kind='lstm' must be 'gru' or 'transformer'"),
        ({"kind": "transformer", "width": 9}, "heads"),
        ({"copy": 1}, "copy"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_rejected(options, word):
    with pytest.raises(PartArgumentError, match=word):
        PointerDecoder(**options, data=FIELDS)


def test_data_that_is_not_symbols_is_rejected():
    with pytest.raises(BuildError, match="decoder pointer makes symbols"):
        PointerDecoder(data=IMAGES)
