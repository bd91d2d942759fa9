"""The decoder that writes or copies: conformance, its mixture by hand, and that it learns to copy."""

import math

import pytest
import torch
from reprkit_text.decoders.pointer import PointerDecoder

import reprkit as rk
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import DecoderConformance
from reprkit.testing.worlds import IMAGES, TOKENS
from reprkit.types import Features

VOCAB = 9
FIELDS = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=VOCAB)})


class TestPointer(DecoderConformance):
    part, data = "reprkit-text/pointer(width=8)", TOKENS


class TestPointerTransformer(DecoderConformance):
    part, data = "reprkit-text/pointer(width=8, kind='transformer', depth=2, heads=2, dropout=0.1)", TOKENS


class TestPointerWithoutCopying(DecoderConformance):
    part, data = "reprkit-text/pointer(width=8, copy=False)", TOKENS


def code(size=3, tokens=4, width=8):
    mask = torch.arange(tokens) < torch.tensor([[tokens], [1], [0]])[:size]
    return Features(x=torch.randn(size, tokens, width), mask=mask, grid=())


@pytest.mark.parametrize("kind", ["gru", "transformer"])
@torch.no_grad()
def test_the_mixture_by_hand(kind):
    torch.manual_seed(0)
    decoder = PointerDecoder(8, kind=kind, heads=2, data=FIELDS).eval()
    features, teacher = code(size=2), torch.randint(VOCAB, (2, 5, 1))
    found = decoder(features, teacher=teacher).params["logits"][:, :, 0]
    net = decoder.generator
    for row, (x, mask) in enumerate(zip(features.x, features.mask, strict=True)):
        x = x[mask]
        told = torch.cat([net.start[None], net.embedding(teacher[row, :-1, 0])])
        told = told + net.about(x.mean(0))
        if kind == "transformer":
            rate = 10_000 ** (-torch.arange(4) / 4)
            angle = torch.arange(5)[:, None] * rate
            told = told + torch.cat([angle.sin(), angle.cos()], 1)
        hidden = net.trunk(told[None])[0]
        look = (net.query(hidden) @ net.key(x).T / math.sqrt(8)).softmax(-1)
        both = torch.cat([hidden, look @ x], 1)
        gate = net.gate(both).sigmoid()
        own, said = net.out(net.mix(both).tanh()).softmax(-1), net.spoken(x).softmax(-1)
        expected = gate * own + (1 - gate) * (look @ said)
        torch.testing.assert_close(found[row].exp(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gru", "transformer"])
@pytest.mark.parametrize("coded", [True, False])
@torch.no_grad()
def test_step_by_step_equals_the_teacher_forced_pass(kind, coded):
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


def test_it_learns_to_copy_from_the_code():
    # The code's tokens are embeddings of symbols that are new in every batch: only a pointer tells them after so few steps.
    left = {}
    for copy in (True, False):
        torch.manual_seed(0)
        table = torch.randn(VOCAB, 16)
        decoder = PointerDecoder(16, copy=copy, data=FIELDS)
        optimiser = torch.optim.Adam(decoder.parameters(), 0.01)
        for _ in range(150):
            x = torch.randint(VOCAB, (32, 6))
            shown = x[:, torch.randperm(6)]
            nats = (
                decoder(Features(x=table[shown], grid=()), teacher=x.unsqueeze(-1))
                .nll(x.unsqueeze(-1))
                .mean()
            )
            optimiser.zero_grad()
            nats.backward()
            optimiser.step()
        left[copy] = float(nats.detach())
    assert left[True] < 1.75  # the order is not told: log 6 = 1.79 would be any of them
    assert left[True] < left[False] - 0.1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"kind": "lstm"}, "kind must be gru or transformer, not 'lstm'"),
        ({"kind": "transformer", "width": 9}, "heads"),
        ({"copy": 1}, "copy"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_refused(options, word):
    with pytest.raises(PartArgumentError, match=word):
        PointerDecoder(**options, data=FIELDS)


def test_data_that_is_no_symbols_is_refused():
    with pytest.raises(BuildError, match="decoder pointer makes symbols"):
        PointerDecoder(data=IMAGES)
