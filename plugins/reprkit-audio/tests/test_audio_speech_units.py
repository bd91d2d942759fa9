import numpy as np
import pytest
import torch
from reprkit_audio.evaluators import speech_units
from reprkit_audio.evaluators.abx import Segment, abx, distance, segments

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import EvaluatorConformance

DATA = Signature(
    {
        "x": Field(kind="sequence", shape=(12, 4)),
        "speaker": Field(kind="label", shape=(), vocab=2),
        "phone": Field(kind="tokens", shape=(12,), vocab=3),
    }
)


def models(data, latents):
    for latent in latents:
        yield (
            latent,
            rk.build(data=data, encoder="gru(width=8)", latent=latent, decoder="gru(width=8)").eval(),
        )


class TestSpeechUnits(EvaluatorConformance):
    part = "reprkit-audio/speech-units(triples=20, units=4)"
    data = DATA

    def models(self, train):
        return models(train, self.latents)


def speech(size=40, seed=0):
    """Two speakers' frames: a phone's place, moved by the speaker; phones last three frames, the first is silence."""
    generator = torch.Generator().manual_seed(seed)
    phone = torch.randint(3, (size, 4), generator=generator).repeat_interleave(3, 1)
    speaker = torch.arange(size) % 2
    places = torch.eye(3, 4)[phone] + 5 * speaker[:, None, None] * torch.tensor([0, 0, 0, 1.0])
    x = places + 0.01 * torch.randn(size, 12, 4, generator=generator)
    made = Tensors({"x": x, "speaker": speaker, "phone": phone}, DATA)
    made.facts = {"symbols": {"phone": ["pau", "a", "t"]}}
    return made


def test_units_against_phones_and_speakers(monkeypatch):
    train, test = speech(), speech(seed=1)
    model = rk.build(data=train, encoder="gru(width=8)", latent="vq(codes=6, dim=4)", decoder="gru(width=8)")

    def encode(batch, factors=None):
        """A code that knows the phone and nothing of the speaker."""
        index = batch["x"][..., :3].argmax(-1, keepdim=True)
        return rk.Codes({"code": rk.Code(z=torch.eye(3)[index[..., 0]], indices=index)})

    monkeypatch.setattr(model, "encode", encode)
    found = rk.create("evaluator", "speech-units(triples=50)")(model.eval(), test, train)
    assert [found[name] for name in ("purity", "pnmi", "nmi")] == pytest.approx([1, 1, 1])
    assert found["units"] == 2
    assert found["n"] == int((test.batch(range(40))["phone"] > 0).sum())
    assert found["chance"] == 0.5
    assert found["speaker"] < 0.8  # histograms of phones say little of who speaks
    assert found["speaker-frame"] == pytest.approx(0.5, abs=0.1)
    assert found["kmeans.speaker"] == found["kmeans.speaker-frame"] == 1.0  # the frames lie in two places
    assert found["kmeans.purity"] > 0.95
    assert found["abx-within"] == found["abx-across"] == 0.0
    assert found["frames.abx-within"] < 0.05
    assert found["frames.abx-across"] < 0.05  # A and B are equally far from another's X but for the phone


def test_agreement_is_scikit_learns_and_counts_by_hand():
    units, phones = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 3, 3, 3, 5])
    found = speech_units.agreement(units, phones)
    assert found["purity"] == pytest.approx(5 / 6)
    joint = {(0, 5): 2, (0, 3): 1, (1, 3): 2, (2, 5): 1}
    own, others = {0: 3, 1: 2, 2: 1}, {5: 3, 3: 3}
    shared = sum(n / 6 * np.log(n / 6 / (own[u] / 6 * others[p] / 6)) for (u, p), n in joint.items())
    assert found["pnmi"] == pytest.approx(shared / np.log(2))
    assert found["units"] == 3


def test_frame_speaker_accuracy_uses_the_most_frequent_speaker_of_a_unit():
    def frames(units, phones, owner, speakers):
        empty = np.zeros((len(units), 1))
        return speech_units.AlignedFrames(*map(np.array, (units, empty, empty, phones, owner, speakers)))

    train = frames([1, 1, 1, 4, 4, 7], [2, 2, 2, 2, 2, 0], [0, 0, 1, 1, 1, 0], [0, 1])
    test = frames([1, 4, 4, 7, 5, 7], [2, 2, 2, 2, 2, 0], [0, 0, 1, 1, 1, 1], [0, 1])
    # 1 is speaker 0's, 4 is 1's; 7, silent in train, and 5 are unknown and so the commonest's, 1's; the last frame is silent
    found = speech_units.frame_speaker_accuracy(train, test, (train.units, test.units), frozenset({0}))
    assert found == pytest.approx(4 / 5)


def test_align_assigns_tokens_to_the_frames_they_cover():
    """A code of four tokens over twelve frames."""

    class Quarter(rk.Encoder):
        def __init__(self):
            super().__init__()
            self.out_dim, self.linear = 4, torch.nn.Linear(4, 4)

        def forward(self, batch, *, keep=None):
            return rk.Features(x=self.linear(batch["x"][:, ::3]), grid=(4,))

        def count(self, batch):
            return 4

        def grid(self, batch):
            return (4,)

    data = speech(6)
    model = rk.build(
        data=data, encoder=Quarter(), latent="vq(codes=5, dim=2)", objective="contrastive"
    ).eval()
    found = speech_units.align(model, data, "code", "phone", "speaker")
    expected = model.encode(data.batch(range(6))).indices[..., 0].repeat_interleave(3, 1).flatten()
    assert found.units.tolist() == expected.tolist()
    assert found.owner.tolist() == [n for n in range(6) for _ in range(12)]
    assert found.phones.tolist() == data.batch(range(6))["phone"].flatten().tolist()


def test_abx_distance_ignores_tempo_and_scale():
    one = np.eye(3)[[0, 0, 1, 2]]
    assert distance(one, 7 * one[[0, 2, 2, 3, 3]]) == pytest.approx(0)
    assert distance(one[:1], -one[:1]) == pytest.approx(1)
    assert distance(one[:1], one[2:3]) == pytest.approx(0.5)


def test_segments_are_runs_without_those_at_the_ends():
    phones = np.array([1, 1, 2, 2, 2, 0, 0, 0, 3, 3, 3, 4, 4, 1])
    frames = np.arange(14.0)[:, None]
    found = segments(frames, phones, 7, frozenset({0}))
    assert [(each.phone, each.speaker, each.frames[:, 0].tolist()) for each in found] == [
        (2, 7, [2.0, 3.0, 4.0]),
        (3, 7, [8.0, 9.0, 10.0]),
    ]


def test_abx_of_noise_is_at_chance_and_of_nothing_is_none():
    generator = np.random.default_rng(0)
    noise = [Segment(generator.standard_normal((3, 8)), n % 2, n // 2 % 2) for n in range(80)]
    assert abx(noise, 400, 0, across=False) == pytest.approx(0.5, abs=0.08)
    assert abx(noise, 400, 0, across=True) == pytest.approx(0.5, abs=0.08)
    assert abx([], 10, 0, across=True) is None
    assert abx([each for each in noise if each.speaker == 0], 10, 0, across=True) is None


def test_invalid_inputs_raise():
    data = speech(20)
    (_, model), *_ = models(data, ["vq(codes=4, dim=2)"])
    measure = rk.create("evaluator", "speech-units(triples=0)")
    with pytest.raises(DataError, match="fit_on=train"):
        measure(model, data)
    with pytest.raises(DataError, match="no tokens field 'sound'"):
        rk.create("evaluator", "speech-units(phone='sound')")(model, data, data)
    with pytest.raises(BuildError, match="no factor named 'cod'.*code"):
        rk.create("evaluator", "speech-units(factor='cod')")(model, data, data)
    with pytest.raises(PartArgumentError, match="units"):
        rk.create("evaluator", "speech-units(units=1)")
    silence = Tensors({**data.batch(range(20)), "phone": torch.zeros(20, 12, dtype=torch.int64)}, DATA)
    silence.facts = data.facts
    with pytest.raises(DataError, match="every frame of .* is silence"):
        measure(model, silence, data)
    one = rk.build(
        data=data, encoder="mlp(width=8)", latent="vq(codes=4, dim=2)", decoder="gru(width=8)"
    ).eval()
    with pytest.raises(BuildError, match="has one token per example"):
        measure(one, data, data)
