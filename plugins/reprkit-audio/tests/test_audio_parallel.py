"""Parallel data: utterances aligned by time warping, and the regression that learns from them."""

import shutil

import numpy as np
import pytest
import torch
from reprkit_audio.data import parallel_speech
from reprkit_audio.data.aligned_speech import parallel_pairs, warping
from reprkit_audio.frame_regression import FrameRegression
from reprkit_audio.frontends import Sound

import reprkit as rk
from reprkit.data import Field, Signature, sound
from reprkit.errors import BuildError, DataError
from reprkit.testing import ObjectiveConformance
from reprkit.testing.kit import failed_checks, make_case

SEQUENCE = Field(kind="sequence", shape=(12, 4))
DATA = Signature(
    {
        "x": SEQUENCE,
        "y": SEQUENCE,
        "prompt": SEQUENCE,
        "speaker": Field(kind="label", shape=(), vocab=3),
        "target": Field(kind="label", shape=(), vocab=3),
    }
)
SENTENCES = "voices=('rms', 'slt'), sentences=('abcab', 'caabb', 'bcbca', 'cabac', 'aabcc'), frames=20"


class TestParallel(ObjectiveConformance):
    part = "reprkit-audio/parallel(factor='code')"
    data = DATA


@pytest.fixture
def synthesized(tmp_path, monkeypatch):
    """A synthesizer of noises: a letter has a band of its own, and the second voice speaks at half the tempo."""

    def speak(voice, text):
        slow = 1 + (voice == "slt")
        t = np.arange(1600 * slow) / 16000
        pieces = [np.sin(2 * np.pi * (300 + 500 * "abc".index(c)) * t) for c in text]
        noise = np.random.default_rng(0).standard_normal(1600 * slow * len(text))
        return torch.from_numpy((0.2 * np.concatenate(pieces) + 0.01 * noise).astype(np.float32)), None

    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parallel_speech, "synthesize", speak)


def test_warping_finds_the_tempo():
    frames = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    slow = frames.repeat_interleave(3, 0)
    assert warping(frames, slow).tolist() == [3 * n + 1 for n in range(10)]
    assert warping(slow, frames).tolist() == [n // 3 for n in range(30)]


def test_pairs_are_aligned_and_split_by_text(synthesized):
    reference = f"reprkit-audio/aligned-speech(data={f'parallel-speech({SENTENCES})'!r}, frames=20)"
    data = rk.dataset(reference)
    batch = data.batch(range(len(data)))
    assert set(batch) == {"x", "y", "prompt", "speaker", "target"}
    assert bool((batch["speaker"] != batch["target"]).all())
    assert sorted(batch["speaker"].unique().tolist()) == [0, 1]
    # rms has 51 frames a sentence, slt 101: windows of 20 cover both
    assert len(data) == 5 * (3 + 6)
    own = rk.dataset(f"reprkit-audio/parallel-speech({SENTENCES})")
    numbers = {clip.speaker: n for n, clip in enumerate(own.clips) if clip.text == own.clips[0].text}
    one, two = own.sound(numbers["rms"]).frames, own.sound(numbers["slt"]).frames
    path = warping(one[:, 1:], two[:, 1:])
    assert torch.equal(data[0]["x"], one[:20])
    assert torch.equal(data[0]["y"], two[path[:20]])
    assert (path.double() - 2 * torch.arange(len(path))).abs().median() <= 3
    train, test = data.split(seed=1)
    assert len(train) + len(test) == len(data)
    speech_train, _ = own.split(seed=1)
    texts = {clip.name for clip in speech_train.clips}
    assert {data._text[data._pairs[p][0]] in texts for p in data._windows[train.indices, 0].tolist()} == {
        True
    }
    assert failed_checks(make_case("dataset", reference, "images")) == {}


def test_transcripts_pair_the_utterances_of_a_folder(tmp_path):
    for speaker in ("ann", "bob", "cyd"):
        for take, text in enumerate(("Good day.", "good  day", "Good night")):
            if (speaker, take) in {("ann", 1), ("bob", 0), ("cyd", 2)}:
                continue
            (tmp_path / speaker).mkdir(exist_ok=True)
            noise = np.random.default_rng(take).standard_normal(8000).astype(np.float32)
            sound.write(tmp_path / speaker / f"{take}.wav", torch.from_numpy(0.1 * noise), 16000)
            (tmp_path / speaker / f"{take}.txt").write_text(text, "utf-8")
    data = rk.dataset(f"reprkit-audio/speech(root={str(tmp_path)!r}, frames=20)")
    named = {clip.path.relative_to(tmp_path).as_posix(): number for number, clip in enumerate(data.clips)}
    same = [("ann/0.wav", "bob/1.wav"), ("ann/0.wav", "cyd/0.wav"), ("ann/0.wav", "cyd/1.wav")]
    same += [("bob/1.wav", "cyd/0.wav"), ("bob/1.wav", "cyd/1.wav"), ("ann/2.wav", "bob/2.wav")]
    expected = {(named[one], named[two]) for one, two in same}
    assert set(parallel_pairs(data)) == expected | {(two, one) for one, two in expected}
    told = rk.dataset(f"reprkit-audio/speech(root={str(tmp_path)!r}, frames=20, language='en')")
    assert len(parallel_pairs(told)) == 2 * len(expected)


def test_the_loss_is_that_of_the_targets_frames():
    model = rk.build(
        data=DATA,
        factors={
            "content": rk.factor("gru(width=8)", "continuous(dim=4)"),
            "speaker": rk.factor("gru(width=8)", "continuous(dim=4)", pool=True),
        },
        decoder="transformer(width=8, depth=1, heads=2)",
        objective="parallel",
    ).eval()
    batch = {
        name: torch.randn(3, 12, 4) if field.kind == "sequence" else torch.arange(3)
        for name, field in DATA.items()
    }
    with torch.no_grad():
        losses = model(batch)
    codes = model.encode({"x": batch["x"]}) | {"speaker": model.encode({"x": batch["prompt"]})["speaker"]}
    expected = model.decode(codes).nll(batch["y"]).sum().detach() / 3
    assert float(losses.terms["regression"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_frame_regression_is_ridge_regression_for_each_pair(synthesized):
    train, _ = rk.dataset(
        f"reprkit-audio/aligned-speech(data={f'parallel-speech({SENTENCES})'!r}, frames=20)"
    ).split(seed=0)
    made = FrameRegression(train, context=1, spread=False)
    batch = train.batch(range(len(train)))
    names = train.signature["speaker"].classes
    for one, two in ((0, 1), (1, 0)):
        rows = (batch["speaker"] == one) & (batch["target"] == two)
        x, y = batch["x"][rows].double(), batch["y"][rows].double().flatten(0, 1)

        def read(frames):
            padded = torch.cat([frames[:, :1], frames, frames[:, -1:]], 1)
            return torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], -1).flatten(0, 1)

        inputs = read(x)
        centered = inputs - inputs.mean(0)
        gram = centered.T @ centered + torch.eye(inputs.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, centered.T @ (y - y.mean(0)))
        source = Sound(frames=x[0].float() + 0.1, pitch=torch.full((20,), 100.0))
        prompt = Sound(frames=x[0].float(), pitch=torch.full((20,), 200.0))
        expected = y.mean(0) + (read(source.frames[None].double()) - inputs.mean(0)) @ weights
        found = made(source, names[one], names[two], [prompt])
        assert torch.allclose(found.frames.double(), expected, atol=1e-3)
        assert torch.allclose(found.pitch, torch.full((20,), 200.0))  # the prompt's mean
    assert made(source, "rms", "rms", [prompt]) is source
    with pytest.raises(DataError, match="no regression from 'rms' to 'awb'.*known speakers: rms, slt"):
        made(source, "rms", "awb", [prompt])
    with pytest.raises(DataError, match="learns from aligned-speech, and .* has no field target, y"):
        FrameRegression(rk.dataset(f"reprkit-audio/parallel-speech({SENTENCES})"))


def test_invalid_data_raises(synthesized):
    with pytest.raises(BuildError, match="needs a field 'y'"):
        rk.build(
            data=Signature({"x": SEQUENCE}),
            factors={"content": rk.factor("gru(width=8)"), "speaker": rk.factor("gru(width=8)", pool=True)},
            decoder="gru(width=8)",
            objective="parallel",
        )
    with pytest.raises(DataError, match="reads utterances"):
        rk.dataset("reprkit-audio/aligned-speech(data='digits')")
    alone = "parallel-speech(voices='rms', sentences=('abc', 'cab', 'bca', 'acb', 'cba'), frames=20)"
    with pytest.raises(DataError, match="no two speakers who say the same words"):
        rk.dataset(f"reprkit-audio/aligned-speech(data={alone!r}, frames=20)")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_recipe_trains_and_is_evaluated(run_recipe):
    numbers = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ]
    texts = tuple(f"Please note that sentence number {number} is short." for number in numbers)
    given = {
        "data": f"parallel-speech(voices=('rms', 'slt'), sentences={texts!r}, frames=32)",
        "frames": "32", "steps": "10", "batch": "8",
        "judge": "voice(pairs=2, enroll=2, examples=0, words=False, second=False)",
    }  # fmt: skip
    found, _ = run_recipe("parallel_conversion", given)
    assert set(found) == {"parallel", "ridge regression"}
    for name in found:
        assert found[name]["voice"]["parallel"]["n"] == 2
    # Ten steps teach a network nothing; the regression is solved at once.
    distortions = [found[name]["voice"]["parallel"]["mcd"] for name in ("ridge regression", "parallel")]
    assert distortions[0] < distortions[1]
    assert distortions[0] < found["parallel"]["voice"]["parallel"]["unconverted"]
