import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import EncoderConformance
from reprkit.testing.sample_data import SEQUENCES

DATA = Signature({"x": Field(kind="sequence", shape=(None, 5))})


class TestInstanceNorm(EncoderConformance):
    part = "reprkit-audio/instance-norm(width=8, depth=2, stride=4)"
    data = SEQUENCES


class TestInstanceNormLeftOut(EncoderConformance):
    part = "reprkit-audio/instance-norm(width=8, depth=2, stride=1, norm=False)"
    data = SEQUENCES


class TestNeck(EncoderConformance):
    part = "reprkit-audio/neck(dim=3, stride=4, width=8, condition_dim=6)"
    data = SEQUENCES


class TestVoice(EncoderConformance):
    part = "reprkit-audio/voice(width=8, depth=3)"
    data = SEQUENCES


class TestFrames(EncoderConformance):
    part = "reprkit-audio/frames(stride=4)"
    data = SEQUENCES


class TestDVector(EncoderConformance):
    part = "reprkit-audio/d-vector(width=8, dim=6)"
    data = SEQUENCES


def encoder(reference, seed=0):
    torch.manual_seed(seed)
    return rk.create("encoder", reference, data=DATA).eval()


def frames(size=2, length=13, seed=0):
    return torch.randn(size, length, 5, generator=torch.Generator().manual_seed(seed))


STRIDED = ["instance-norm(width=8, depth=3, stride=4)", "neck(dim=3, stride=4, width=8)", "frames(stride=4)"]


@pytest.mark.parametrize("reference", STRIDED)
def test_the_last_token_may_cover_fewer_frames(reference):
    made = encoder(reference)
    for length in (1, 4, 5, 13):
        batch = {"x": frames(length=length)}
        features = made(batch)
        assert features.x.shape[1] == made.count(batch) == -(-length // 4)
        assert made.grid(batch) == features.grid == (features.x.shape[1],)


@pytest.mark.parametrize("reference", [*STRIDED, "voice(width=8)", "d-vector(width=8, dim=6)"])
def test_padding_in_a_batch_does_not_change_an_utterance(reference):
    made, x = encoder(reference), frames(3, 13)
    mask = torch.arange(13)[None] < torch.tensor([[13], [6], [1]])
    together = made({"x": x, "x_mask": mask})
    for row, length in enumerate((13, 6, 1)):
        alone = made({"x": x[row : row + 1, :length]})
        tokens = alone.x.shape[1]
        # The norm of two tokens that are nearly alike enlarges a rounding.
        assert torch.allclose(together.x[row, :tokens], alone.x[0], atol=5e-3)
        if together.mask is not None:
            assert together.mask[row].tolist() == [place < tokens for place in range(together.x.shape[1])]


def test_instance_norm_removes_a_channels_gain_and_level():
    """Torch's own InstanceNorm1d agrees, and what it is fed on is lost: the speaker's part of it."""
    from reprkit_audio.layers.frames import instance_norm

    x = torch.randn(3, 4, 20)
    assert torch.allclose(instance_norm(x, None), nn.InstanceNorm1d(4)(x), atol=1e-5)
    mask = torch.arange(20)[None] < torch.tensor([[20], [7], [2]])
    normed = instance_norm(x, mask)
    assert torch.allclose(normed[1:2, :, :7], nn.InstanceNorm1d(4)(x[1:2, :, :7]), atol=1e-5)
    assert not normed[1, :, 7:].any()
    assert torch.allclose(
        instance_norm(3 * x + 5, mask)[:2], normed[:2], atol=1e-4
    )  # of two frames, one is ±1


def test_instance_norm_removes_the_speakers_statistics():
    """Another gain and level of every channel of the frames change nothing, nor has the code a mean; without norm both do."""
    x = frames(2, 40)
    gain, level = torch.linspace(0.5, 3, 5), torch.linspace(-1, 1, 5)
    for norm in (True, False):
        made = encoder(f"instance-norm(width=8, depth=2, stride=2, norm={norm})")
        one, two = made({"x": x}).x, made({"x": x * gain + level}).x
        assert torch.allclose(one, two, atol=1e-3) is norm
        assert torch.allclose(one.mean(1), torch.zeros(2, 8), atol=1e-5) is norm


def test_the_bottleneck_keeps_the_forward_state_at_the_end_and_the_backward_one_at_the_start():
    """As the paper's figure 3: the very frames of torch's bidirectional LSTM with the same weights."""
    made, x = encoder("neck(dim=3, stride=4, width=8, condition_dim=2)"), frames(1, 10)
    theirs = nn.LSTM(8, 3, num_layers=2, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for layer in range(2):
            for suffix, ours in (("", made.lstm.ahead[layer]), ("_reverse", made.lstm.back[layer])):
                for name, value in ours.named_parameters():
                    getattr(theirs, name.replace("l0", f"l{layer}") + suffix).copy_(value)
    y = torch.cat([x, torch.zeros(1, 10, 2)], -1).mT
    for layer, norm in zip(made.layers, made.norms, strict=True):
        y = torch.relu(nn.functional.layer_norm(layer(y).mT, (8,), norm.weight, norm.bias).mT)
    states = theirs(y.mT)[0][0]
    expected = torch.stack(
        [torch.cat([states[last, :3], states[first, 3:]]) for first, last in ((0, 3), (4, 7), (8, 9))]
    )
    assert torch.allclose(made({"x": x}).x[0], expected, atol=1e-5)


def test_a_d_vector_has_length_one():
    made = encoder("d-vector(width=8, dim=6)")
    assert torch.allclose(made({"x": frames()}).x.norm(dim=-1), torch.ones(2, 1), atol=1e-5)


def test_a_voice_does_not_depend_on_the_order_of_distant_frames():
    made, x = encoder("voice(width=8, depth=1)"), frames(1, 20)
    halves = torch.zeros(2, 60, 5)
    halves[0, 10:30], halves[0, 40:60] = x, 2 * x
    halves[1, 10:30], halves[1, 40:60] = 2 * x, x
    halves = torch.nn.functional.pad(halves, (0, 0, 0, 10))
    one, two = made({"x": halves}).x
    assert torch.allclose(one, two, atol=1e-5)
    assert not torch.allclose(one, made({"x": halves[:1] * 2}).x[0], atol=1e-2)


def test_invalid_arguments_raise():
    with pytest.raises(PartArgumentError, match=r"power of 2 of at most 2\^depth = 4"):
        encoder("instance-norm(depth=2, stride=8)")
    with pytest.raises(PartArgumentError, match="power of 2"):
        encoder("instance-norm(stride=3)")
    with pytest.raises(PartArgumentError, match="dim=0 must be an integer"):
        encoder("neck(dim=0)")
    image = Signature({"x": Field(kind="image", shape=(8, 8, 1))})
    for name in ("instance-norm", "neck", "voice", "d-vector"):
        with pytest.raises(BuildError, match=f"encoder {name} needs frames of sound"):
            rk.create("encoder", name, data=image)
        with pytest.raises(BuildError, match=f"encoder {name} cannot read only some frames"):
            encoder(name)({"x": frames()}, keep=torch.zeros(2, 1, dtype=torch.int64))


def test_tokens_of_encoder_frames_hold_the_frames_themselves():
    features = encoder("frames(stride=4)")({"x": frames(length=13)})
    assert features.x.shape == (2, 4, 20)
    held = features.x.unflatten(2, (4, 5)).flatten(1, 2)
    assert torch.equal(held[:, :13], frames(length=13))
    assert not held[:, 13:].any()
