import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from reprkit_audio.frontends import Sound, frontend
from reprkit_audio.similarity import mel_distance, pitch_difference
from reprkit_audio.vocoders import vocoder
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit.errors import BuildError, CheckpointError, DataError, PartArgumentError
from reprkit.testing import EvaluatorConformance

ROOT = Path(__file__).parents[3]
PARTS = {
    "encoder": "convnext(width=32, depth=0)",
    "latent": "continuous(dim=32)",
    "decoder": "istft(width=32, depth=2)",
    "objective": "vocoder(windows=(512, 1024), periods=(2, 3), width=2)",
    "output": "wave",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speakers")
    for speaker, pitch in (("high", 210.0), ("low", 110.0)):
        for take in range(10):
            path = folder / speaker / f"{take}.wav"
            path.parent.mkdir(exist_ok=True)
            wave, _ = voice(0.6 + 0.05 * take, pitch, pitch * (0.8 + 0.05 * take))
            soundfile.write(path, wave.numpy(), RATE)
    return folder


@pytest.fixture(scope="module")
def data(root):
    return rk.dataset(f"waves(data={f'speech(root={str(root)!r})'!r}, frames=16)")


@pytest.fixture(scope="module")
def trained(data):
    """Sixty steps, the critic in the second half: enough to be far from where it began."""
    train, test = data.split()
    model = rk.build(data=train, **PARTS)
    evaluator = rk.create("evaluator", "copy-synthesis(windows=8)")
    before = evaluator(model.eval(), test)
    for step in rk.loop(model, train, steps=60, batch=8, lr=3e-3, optimizers={"critic": "adam(lr=1e-3)"}):
        if step.index >= 40:
            losses = step.model(step.batch, turn="critic")
            step.backward(losses.total)
            step.update("critic")
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    return model, before, evaluator(model.eval(), test), losses


@pytest.mark.slow
def test_training_lowers_the_losses_and_trains_the_critic(trained):
    _, before, after, losses = trained
    assert after["mel_db"] < 0.75 * before["mel_db"]
    assert {"mel", "stft", "convergence", "adversarial", "matching"} <= set(losses.terms)
    assert after["griffin-lim.mel_db"] == before["griffin-lim.mel_db"]
    assert after["n"] == 8
    pictures = after["figures"]["spectrograms"].rows
    assert [row.shape for row in pictures.values()] == [(4, 80, 16, 1)] * 3


@pytest.mark.slow
def test_a_trained_model_is_a_vocoder_for_sounds_of_any_length(trained, data, tmp_path):
    model = trained[0].eval()
    model.save(tmp_path / "model")
    neural = vocoder(f"neural(model={str(tmp_path / 'model')!r}, device='cpu')", form="log-mel")
    assert neural.front == frontend("log-mel")
    batch = data.batch([3])
    with torch.no_grad():
        expected = model.decode(model.encode(batch)).x.flatten()
    made = neural.synthesize(Sound(frames=batch["x"][0]))
    torch.testing.assert_close(made, expected / max(1.0, float(expected.abs().max())), atol=1e-5, rtol=1e-4)
    for samples in (1, 4096, 20000):
        wave = neural.synthesize(neural.front.analyze(voice(samples / RATE)[0]))
        assert len(wave) == neural.front.count(samples) * 256
        assert torch.isfinite(wave).all()
    with pytest.raises(PartArgumentError, match="use 'world'"):
        vocoder(neural, form="world")


def test_models_that_are_not_vocoders_raise(data, tmp_path):
    rk.build(data=data, encoder="gru(width=4)", decoder="gru(width=4, causal=False)").save(
        tmp_path / "frames"
    )
    with pytest.raises(PartArgumentError, match="not a vocoder: 'x' is sequence data"):
        vocoder(f"neural(model={str(tmp_path / 'frames')!r})")
    rk.build(data="digits", encoder="mlp", decoder="mlp").save(tmp_path / "digits")
    with pytest.raises(PartArgumentError, match="its input is not frames"):
        vocoder(f"neural(model={str(tmp_path / 'digits')!r})")
    with pytest.raises(CheckpointError):
        vocoder(f"neural(model={str(tmp_path / 'nowhere')!r})")


def test_similarity_separates_voices():
    wave, _ = voice(1.0, 100.0, 120.0)
    assert mel_distance(wave, wave) == 0
    assert mel_distance(wave, 0.5 * wave) == pytest.approx(20 * math.log10(2), rel=0.05)
    assert pitch_difference(wave, wave) == (0.0, 1.0)
    higher, _ = voice(1.0, 150.0, 180.0)
    apart, agreed = pitch_difference(wave, higher)
    assert apart == pytest.approx(12 * math.log2(1.5), abs=0.2)
    assert agreed > 0.9
    apart, agreed = pitch_difference(wave, torch.zeros(RATE))
    assert math.isnan(apart)
    assert agreed < 0.1
    with pytest.raises(DataError, match="cut the longer one"):
        mel_distance(wave, wave[:-1])
    with pytest.raises(DataError, match="log-mel"):
        mel_distance(wave, wave, "world")


class TestCopySynthesis(EvaluatorConformance):
    part = "reprkit-audio/copy-synthesis(windows=4, examples=2)"

    def sets(self):
        small = rk.Signature(
            {
                "x": rk.Field(kind="sequence", shape=(6, 80), form=frontend("log-mel").form),
                "wave": rk.Field(kind="sequence", shape=(1536, 1), range=(-1.0, 1.0)),
            }
        )
        waves = torch.stack([voice(0.096, 100.0 + 10 * each)[0] for each in range(12)])
        from reprkit.data import Tensors

        frames = frontend("log-mel").frames(waves)
        return Tensors({"x": frames, "wave": waves.unsqueeze(-1)}, small).split()

    def models(self, train):
        for latent in self.latents:
            parts = {**PARTS, "objective": "vocoder(windows=(256,), periods=(2,), width=2)", "latent": latent}
            yield latent, rk.build(data=train, **parts).eval()


def test_copy_synthesis_refuses_models_that_are_not_vocoders(data):
    model = rk.build(data=data, encoder="gru(width=4)", decoder="gru(width=4, causal=False)")
    with pytest.raises(BuildError, match="evaluates vocoders"):
        rk.evaluate(model, data, "copy-synthesis")


@pytest.mark.slow
def test_the_recipe(root, tmp_path):
    command = [sys.executable, str(ROOT / "recipes" / "vocoder.py"), "--data", f"speech(root={str(root)!r})"]
    small = {"steps": 60, "critic-from": 30, "batch": 4, "frames": 8, "out": tmp_path / "run", "lr": "0.003"}
    small |= {"encoder": PARTS["encoder"], "decoder": PARTS["decoder"], "latent": "vq(codes=16, dim=8)"}
    small["objective"] = "vocoder(windows=(512,), periods=(2,), width=2)"
    command += [str(each) for name, value in small.items() for each in (f"--{name}", value)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "run" / "results.json").read_text())["copy-synthesis"]
    assert 0 < found["griffin-lim.mel_db"] < found["mel_db"] < 40
    assert "Copies of recorded speech" in (tmp_path / "run" / "report.html").read_text()
    made = vocoder(f"neural(model={str(tmp_path / 'run' / 'model')!r})")
    assert made.synthesize(made.front.analyze(voice(0.3)[0])).abs().max() > 0
