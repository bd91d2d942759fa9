import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import DecoderConformance
from reprkit.testing.sample_data import SEQUENCES
from reprkit.types import Features

DATA = Signature({"x": Field(kind="sequence", shape=(None, 5))})


class SlowerTokens(DecoderConformance):
    """Parts with several frames a token: fewer tokens of the same sequence."""

    data = SEQUENCES

    def features(self, decoder, size, *, seed=0, length=6):
        return super().features(decoder, size, seed=seed, length=length // decoder.stride)


class TestAdaIN(DecoderConformance):
    part = "reprkit-audio/adain(width=8, depth=2, stride=1, condition_dim=6)"
    data = SEQUENCES


class TestAdaINOfSlowerTokens(SlowerTokens):
    part = "reprkit-audio/adain(width=8, depth=2, stride=2, condition_dim=6)"


class TestConvLSTM(DecoderConformance):
    part = "reprkit-audio/conv-lstm(width=8, depth=2, memory=8, postnet=2, stride=1, condition_dim=6)"
    data = SEQUENCES


class TestConvLSTMOfSlowerTokens(SlowerTokens):
    part = "reprkit-audio/conv-lstm(width=8, memory=8, layers=2, postnet=2, stride=3, condition_dim=6)"


class TestFrames(DecoderConformance):
    part = "reprkit-audio/frames(width=8)"
    data = SEQUENCES


class TestFramesOfSlowerTokens(SlowerTokens):
    part = "reprkit-audio/frames(stride=3, width=8, depth=0)"


def decoder(reference, data=DATA, seed=0):
    torch.manual_seed(seed)
    return rk.create("decoder", reference, data=data).eval()


def code(made, size=2, tokens=4, seed=0, **fields):
    x = torch.randn(size, tokens, made.in_dim, generator=torch.Generator().manual_seed(seed))
    return Features(x=x, **fields)


PARTS = [
    "adain(width=8, depth=3, stride=4, condition_dim=6)",
    "conv-lstm(width=8, memory=8, postnet=2, stride=4, condition_dim=6)",
    "frames(stride=4, width=8)",
]


@pytest.mark.parametrize("reference", PARTS)
def test_number_of_frames_is_as_requested(reference):
    made = decoder(reference)
    for length in (16, 15, 13):  # four tokens of four frames, of which the last need not be full
        decoded = made(code(made), length=length)
        assert decoded.x.shape == (2, length, 5)
        assert decoded.grid == (length,)
    assert made(code(made)).x.shape == (2, 16, 5)
    assert made(code(made), length=30).x.shape == (2, 30, 5)  # a code of another rate is laid over it
    fixed = decoder(reference, Signature({"x": Field(kind="sequence", shape=(14, 5))}))
    assert fixed(code(fixed)).x.shape == (2, 14, 5)


@pytest.mark.parametrize("reference", PARTS)
def test_padding_does_not_change_other_frames(reference):
    made = decoder(reference)
    whole = code(made)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    padded = made(Features(x=whole.x, mask=mask), length=16)
    alone = made(Features(x=whole.x[1:, :2]), length=8)
    assert torch.allclose(padded.x[1, :8], alone.x[0], atol=1e-5)
    assert padded.mask[1].tolist() == [True] * 8 + [False] * 8


def test_the_condition_gives_every_channel_its_mean_and_spread():
    """Huang and Belongie's equation 8, with torch's own InstanceNorm1d."""
    made = decoder("adain(width=8, depth=1, stride=1, condition_dim=6)")
    condition, features = torch.randn(2, 6), code(made, tokens=20)
    hidden = torch.relu(made.voice[0](condition))
    x, outs = features.x.mT, []
    for layer, affine in zip((made.enter, made.first[0], made.second[0]), made.affine, strict=True):
        gain, shift = affine(hidden)[..., None].chunk(2, 1)
        x = torch.relu(nn.InstanceNorm1d(8)(layer(x)) * (1 + gain) + shift)
        outs.append(x)
    expected = made.head((outs[0] + outs[2]).mT).x
    assert torch.allclose(made(features, condition=condition).x, expected, atol=1e-5)


def test_the_postnet_adds_to_a_first_estimate_that_can_be_scored():
    made = decoder(PARTS[1])
    decoded = made(code(made), length=16)
    initial = decoded.params["initial"]
    assert torch.equal(decoded.x, decoded.params["mean"])
    assert not torch.allclose(decoded.x, initial)
    for each in made.postnet:
        nn.init.zeros_(each.weight)
        nn.init.zeros_(each.bias)
    assert torch.allclose(made(code(made), length=16).x, initial, atol=1e-6)
    assert torch.isfinite(decoded.nll(torch.zeros(2, 16, 5))).all()


def test_invalid_arguments_raise():
    with pytest.raises(PartArgumentError, match="power of 2"):
        decoder("adain(stride=6)")
    with pytest.raises(PartArgumentError, match="memory=0 must be an integer"):
        decoder("conv-lstm(memory=0)")
    with pytest.raises(BuildError, match="decoder adain decodes a code, and there is none"):
        decoder("adain(width=8)")(None)
    with pytest.raises(BuildError, match="decoder conv-lstm needs frames of sound"):
        decoder("conv-lstm", Signature({"x": Field(kind="vector", shape=(4,))}))


def test_decoder_frames_starts_as_the_frames_in_the_tokens():
    made = decoder("frames(stride=2, width=8)")
    x = torch.randn(2, 7, 5)
    tokens = torch.nn.functional.pad(x, (0, 0, 0, 1)).unflatten(1, (4, 2)).flatten(2)
    assert torch.allclose(made(Features(x=tokens), length=7).x, x, atol=1e-6)


def test_untrained_frames_through_a_codebook_are_quantized_frames():
    """Encoder, adapters and decoder start as the identity, so that the copy is what the latent's codes add up to."""
    signature = Signature({"x": Field(kind="sequence", shape=(8, 5))})
    model = rk.build(
        data=signature, encoder="frames(stride=2)", latent="residual-vq(codes=8, layers=2, dim=10)",
        decoder="frames(stride=2, width=8)", seed=0,
    )  # fmt: skip
    batch = {"x": torch.randn(4, 8, 5)}
    codes = model.encode(batch)
    assert torch.allclose(
        model.decode(codes).x, codes["code"].z.unflatten(2, (2, 5)).flatten(1, 2), atol=1e-6
    )
