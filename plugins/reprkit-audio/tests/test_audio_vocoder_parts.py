import math

import pytest
import soundfile
import torch
from reprkit_audio.data.waves import Waves
from reprkit_audio.frontends import frontend
from reprkit_audio.objectives.critics import Critic, feature_matching_loss, generator_loss, hinge_loss
from reprkit_audio.objectives.spectral import mel_difference, stft_difference
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import DecoderConformance, EncoderConformance, ObjectiveConformance
from reprkit.testing.kit import failed_checks, make_case
from reprkit.testing.sample_data import SEQUENCES

SPEAKER = Field(kind="label", shape=(), vocab=2)
FORM = "log-mel(rate=16000, hop=16, n_fft=64, bands=8)"
# Eight frames of eight bands, and the 128 samples they lie on.
SMALL = Signature(
    {
        "x": Field(kind="sequence", shape=(8, 8), form=FORM),
        "wave": Field(kind="sequence", shape=(128, 1), range=(-1.0, 1.0)),
        "speaker": SPEAKER,
    }
)
ENCODER, DECODER = (
    "convnext(width=8, depth=0, kernel=3)",
    "istft(width=8, depth=1, kernel=3, n_fft=64, hop=16)",
)
OBJECTIVE = "vocoder(windows=(64, 32), periods=(2, 3), width=2)"


class TestConvNeXt(EncoderConformance):
    part = "reprkit-audio/convnext(width=8, depth=2, kernel=3)"
    data = SEQUENCES


class TestISTFT(DecoderConformance):
    part = "reprkit-audio/istft(width=8, depth=1, kernel=3, n_fft=16, hop=4)"
    data = Signature({"x": Field(kind="sequence", shape=(24, 1), range=(-1.0, 1.0)), "label": SPEAKER})


class TestISTFTOfAnyLength(DecoderConformance):
    part = "reprkit-audio/istft(width=8, depth=1, kernel=3, n_fft=16, hop=4)"
    data = Signature({"x": Field(kind="sequence", shape=(None, 1), range=(-1.0, 1.0)), "label": SPEAKER})

    def batch(self, size, *, seed=0, length=24):
        return super().batch(size, seed=seed, length=24)


class TestVocoder(ObjectiveConformance):
    part = f"reprkit-audio/{OBJECTIVE}"
    data = SMALL
    encoder, latent, decoder, output = ENCODER, "continuous(dim=8)", DECODER, "wave"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speakers")
    for speaker, pitch in (("high", 200.0), ("low", 100.0)):
        for take in range(6):
            path = folder / speaker / f"{take}.wav"
            path.parent.mkdir(exist_ok=True)
            wave, _ = voice(0.4 + 0.05 * take, pitch, pitch * (1 + 0.05 * take))
            soundfile.write(path, wave.numpy(), RATE)
    return folder


def test_waves_conform(root):
    part = f"reprkit-audio/waves(data={f'speech(root={str(root)!r})'!r}, frames=8)"
    assert failed_checks(make_case("dataset", part, "images")) == {}


def test_waves_are_aligned_with_their_frames(root):
    data = Waves(f"speech(root={str(root)!r})", frames=10, stride=3)
    front = frontend("log-mel")
    assert data.signature["x"].form == front.form
    assert data.signature["wave"].shape == (2560, 1)
    spoken = data.sources[0].utterance(7)
    whole = front.analyze(spoken.wave).frames
    places = [index for index in range(len(data)) if data._owner[index] == 7]
    starts = [*range(0, len(whole) - 9, 3)]
    starts += [] if starts[-1] == len(whole) - 10 else [len(whole) - 10]
    assert len(places) == len(starts)
    for place, start in zip(places, starts, strict=True):
        example = data[place]
        torch.testing.assert_close(example["x"], whole[start : start + 10])
        samples = spoken.wave[start * 256 : (start + 10) * 256]
        torch.testing.assert_close(example["wave"][: len(samples), 0], samples, atol=2e-5, rtol=0)
        assert int(example["speaker"]) == data.sources[0].speakers.index(spoken.speaker)


def test_waves_split_by_utterance(root):
    data = Waves(f"speech(root={str(root)!r})", frames=8)
    parts = data.split(seed=1, valid=True)
    owners = [set(data._owner[part.indices].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 12
    assert [part.part for part in parts] == ["train", "valid", "test"]
    for part in parts:
        assert set(part.batch(range(len(part)))["speaker"].tolist()) == {0, 1}


def test_waves_of_several_sets_hold_all_their_speakers(root):
    one, two = (f"speech(root={str(root)!r}, speakers=({name!r},))" for name in ("low", "high"))
    both = Waves(f"{one} + {two}", frames=8)
    parts = [Waves(each, frames=8) for each in (one, two)]
    assert both.speakers == ["high", "low"]
    assert len(both) == sum(map(len, parts))
    batch = both.batch(range(len(both)))
    assert batch["speaker"].tolist() == [1] * len(parts[0]) + [0] * len(parts[1])
    torch.testing.assert_close(
        batch["wave"], torch.cat([each.batch(range(len(each)))["wave"] for each in parts])
    )
    split = both.split(seed=2)
    owners = [set(both._owner[part.indices].tolist()) for part in split]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 12
    assert all({owner < 6 for owner in each} == {True, False} for each in owners)
    with pytest.raises(DataError, match="sum without weights"):
        Waves(f"0.5 * {one}")


def test_waves_refuse_invalid_data(root, tmp_path):
    with pytest.raises(PartArgumentError, match="must be a log-mel, not 'world'"):
        Waves(f"speech(root={str(root)!r})", frontend="world")
    with pytest.raises(DataError, match="as long as frames=1000"):
        Waves(f"speech(root={str(root)!r})", frames=1000)
    with pytest.raises(DataError, match="16000 Hz"):
        Waves(rk.dataset(f"speech(root={str(root)!r}, frames=None)"), frontend="log-mel(rate=8000)")
    with pytest.raises((DataError, PartArgumentError)):
        Waves("digits")


def test_the_inverse_transform_is_that_of_the_front_ends_transform():
    """Magnitudes and phases of a real waveform, framed as log-mel frames it, give the waveform back: to its ends."""
    wave, _ = voice(0.2)
    wave = wave[: 3 * 1024]
    decoder = rk.create("decoder", "istft(width=4, depth=0)", data=_waveform(3072), tokens=12)
    padded = torch.nn.functional.pad(wave, (384, 384))
    spectrum = torch.stft(
        padded, 1024, 256, window=torch.hann_window(1024), center=False, return_complex=True
    ).T
    log_polar = torch.cat([spectrum.abs().clamp(min=1e-9).log(), spectrum.angle()], -1)
    torch.testing.assert_close(decoder.inverse_transform(log_polar[None])[0], wave, atol=1e-5, rtol=0)


def _waveform(samples):
    return Signature({"x": Field(kind="sequence", shape=(samples, 1), range=(-1.0, 1.0))})


def test_masked_frames_have_no_effect():
    decoder = rk.create("decoder", "istft(width=8, depth=2)", data=_waveform(None)).eval()
    x = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9)[None] < 5
    short = decoder(rk.Features(x=x[:, :5], grid=(5,))).x
    padded = decoder(rk.Features(x=x, mask=mask, grid=(9,))).x
    torch.testing.assert_close(padded[:, :5], short)


def test_a_longer_code_makes_a_longer_waveform():
    decoder = rk.create("decoder", "istft(width=8, depth=1)", data=_waveform(1024), tokens=4).eval()
    code = rk.Features(x=torch.randn(1, 9, 8), grid=(9,))
    assert decoder(code, length=9 * 256).x.shape == (1, 9, 256)
    with pytest.raises(BuildError, match="length=1000 is not a multiple"):
        decoder(code, length=1000)


def test_spectral_losses_by_hand():
    """numpy's transform of one frame; equal waveforms are no distance apart; silence divides nothing by zero."""
    import numpy as np

    true = torch.sin(0.3 * torch.arange(256.0))[None]
    made = 0.5 * true
    logs, (apart, norms) = stft_difference(made, true, (64,))
    padded = np.pad(true[0].double().numpy(), 32, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    spectra = np.abs(np.fft.rfft(np.stack([padded[16 * k : 16 * k + 64] * window for k in range(17)])))
    floored = lambda s: np.sqrt(s**2 + 1e-7)  # noqa: E731
    difference = np.abs(np.log(floored(spectra)) - np.log(floored(spectra / 2))).mean()
    assert float(logs) == pytest.approx(difference, rel=1e-3)
    assert float(apart / norms) == pytest.approx(0.5, abs=1e-3)
    silent = torch.zeros(1, 256)
    for value in (*stft_difference(silent, silent, (64,))[1], mel_difference(frontend(FORM), true, true)):
        assert torch.isfinite(value).all()
    assert float(mel_difference(frontend(FORM), true, true)) == 0
    louder = mel_difference(frontend(FORM), 0.2 * torch.randn(1, 512), 0.02 * torch.randn(1, 512))
    assert float(louder) == pytest.approx(math.log(10), rel=0.15)


def test_losses_of_critics_by_hand():
    scores, maps = torch.tensor([[2.0, 0.5]]), [torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0]])]
    others, other = torch.tensor([[-2.0, 0.0]]), [torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0]])]
    true, made = [(scores, maps)], [(others, other)]
    assert hinge_loss(true, made, [1.0]).tolist() == [0.25 + 0.5]
    assert generator_loss(made, [0.5]).tolist() == [0.5 * 2.0]
    assert feature_matching_loss(true, made, [1.0]).tolist() == [1.5 + 2.0]


@pytest.mark.slow
def test_a_critic_learns_to_separate_a_voice_from_noise():
    torch.manual_seed(0)
    critic = Critic((2, 3), (64,), 4)
    optimiser = torch.optim.Adam(critic.parameters(), lr=5e-3)
    voices = voice(1.0)[0][: 16 * 1000].view(16, 1000)
    noise = 0.1 * torch.randn(16, 1000)
    history = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = hinge_loss(critic(voices), critic(noise), critic.shares).mean()
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.5 * history[0]


def small_model(objective=OBJECTIVE, seed=0, **options):
    return rk.build(
        data=SMALL, encoder=ENCODER, latent="continuous(dim=8)", decoder=DECODER, objective=objective, output="wave",
        seed=seed, **options,
    )  # fmt: skip


def small_batch(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    wave = (0.2 * torch.randn(size, 128, generator=generator)).clamp(-1, 1)
    return {
        "x": frontend(FORM).frames(wave),
        "wave": wave.unsqueeze(-1),
        "speaker": torch.zeros(size, dtype=torch.int64),
    }


def test_adversarial_losses_begin_once_the_critic_was_trained():
    model, batch = small_model(), small_batch()
    assert set(model(batch).terms) == {"mel", "stft", "convergence"}
    losses = model(batch, "critic")
    assert set(losses.terms) == {"critic"}
    losses.total.backward()
    assert all(
        parameter.grad is None for name, parameter in model.named_parameters() if ".critic." not in name
    )
    assert all(parameter.grad is not None for parameter in model.objective.critic.parameters())
    model.zero_grad()
    losses = model(batch)
    assert set(losses.terms) == {"mel", "stft", "convergence", "adversarial", "matching"}
    losses.total.backward()
    assert all(parameter.grad is None for parameter in model.objective.critic.parameters())
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())
    assert model.objective.front.form == FORM
    again = small_model()
    again(batch)
    again.load_state_dict(model.state_dict())
    assert set(again(batch).terms) == set(losses.terms)


def test_losses_are_sums_over_frames_as_those_of_latents_are_over_tokens():
    model, batch = (
        small_model("vocoder(windows=(64,), periods=(2,), width=2, mel=3, stft=2)").eval(),
        small_batch(),
    )
    terms = model(batch).terms
    true = batch["wave"].squeeze(-1)
    made = model.to_batch(model.decode(model.encode(batch)))["wave"].squeeze(-1)
    nats = mel_difference(frontend(FORM), made, true).mean()
    logs, (apart, norms) = stft_difference(made, true, (64,))
    frames = 8  # 128 samples with a hop of 16
    assert torch.allclose(terms["mel"], 3 * frames * nats)
    assert torch.allclose(terms["stft"], 2 * frames * logs.mean())
    assert torch.allclose(terms["convergence"], 2 * frames * apart / norms)
    critic = model.objective.critic
    hinge = hinge_loss(critic(true), critic(made), critic.shares).mean()
    assert torch.allclose(model(batch, "critic").terms["critic"], frames * hinge)


def test_the_critics_gradient_reaches_the_generator():
    model, batch = small_model("vocoder(mel=0, stft=0, windows=(64,), periods=(2,), width=2)"), small_batch()
    model(batch).total.backward()
    assert not any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoder.parameters())
    model(batch, "critic")
    model(batch).total.backward()
    assert model.decoder.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("vocoder(mel=-1)", "mel=-1 must be a number of at least 0"),
        ("vocoder(periods=())", "at least 1 long"),
        ("vocoder(windows=(2,))", "each item an integer from 4"),
        ("vocoder(form='world')", "form must be a log-mel"),
        ("vocoder(width=0)", "width=0 must be an integer"),
    ],
)
def test_the_objective_refuses_bad_arguments(reference, says):
    with pytest.raises(PartArgumentError, match=says):
        rk.create("objective", reference)


def test_models_without_waveform_output_raise():
    with pytest.raises(BuildError, match="output that is a waveform"):
        rk.build(data=SMALL, encoder=ENCODER, decoder="gru(width=8)", objective=OBJECTIVE)
    with pytest.raises(BuildError, match="too short for a transform of 2048"):
        small_model("vocoder(width=2)")
    with pytest.raises(BuildError, match="makes waveforms"):
        rk.build(data=SMALL, encoder=ENCODER, decoder=DECODER, objective="reconstruction")
    with pytest.raises(BuildError, match="128 samples are not a multiple"):
        rk.build(data=SMALL, encoder=ENCODER, decoder="istft(width=8, n_fft=96, hop=48)", output="wave")
    with pytest.raises(PartArgumentError, match="multiple of hop"):
        rk.create("decoder", "istft(n_fft=100, hop=64)", data=_waveform(128))
    with pytest.raises(PartArgumentError, match="kernel=4 must be an integer from 1 to 1023, odd"):
        rk.create("encoder", "convnext(kernel=4)", data=SEQUENCES)
