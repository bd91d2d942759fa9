import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import reprkit_audio
import soundfile
import torch
from reprkit_audio import conversion, converter, prosody
from reprkit_audio.conversion import convert, convert_file
from reprkit_audio.converter import Converter
from reprkit_audio.frontends import frontend
from reprkit_audio.global_variance import envelope_deviation, restore_deviation
from reprkit_audio.neighbors import FramePool
from reprkit_audio.streaming import crossfade, windows
from reprkit_audio.vocoders import vocoder
from reprkit_audio.waveforms import LevelMeter, active_level, matching_gain
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit.commands.main import main
from reprkit.data import sound
from reprkit.errors import BuildError, DataError, PartArgumentError

ADAIN = {
    "factors": {
        "content": rk.factor("instance-norm(width=8, depth=2, stride=2)"),
        "speaker": rk.factor("voice(width=8, depth=2, layers=0)", pool=True),
    },
    "decoder": "adain(width=8, depth=2, stride=2, condition_dim=8)",
}
NECK = {
    "factors": {
        "content": rk.factor("neck(dim=4, stride=8, width=8, depth=1, condition_dim=4)", condition="speaker"),
        "speaker": rk.factor("voice(width=8, depth=2, layers=0)", pool=True),
    },
    "decoder": "conv-lstm(width=8)",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two voices, five utterances each."""
    folder = tmp_path_factory.mktemp("voices")
    for speaker, low in (("ann", 180.0), ("bob", 95.0)):
        (folder / speaker).mkdir()
        for take in range(5):
            wave = voice(0.6 + 0.1 * take, low, low * (1.2 + 0.1 * take))[0]
            soundfile.write(folder / speaker / f"{take}.wav", wave.numpy(), RATE)
    return folder


def built(root, parts=ADAIN, front="world", **options):
    data = rk.dataset(f"reprkit-audio/speech(root={str(root)!r}, frames=32, frontend={front!r})")
    return rk.build(data=data, objective="reconstruction", **{**parts, **options})


def assert_level_of_source(made, source, tolerance=0.1):
    """The level of the source in dB, or as much of it as full scale allows."""
    peak = float(made.abs().max())
    missing = active_level(source, RATE) - active_level(made, RATE)
    assert peak <= 1.0
    assert abs(missing) < tolerance or (missing > 0 and peak == pytest.approx(1.0, abs=1e-3))


@pytest.mark.parametrize(
    ("parts", "front"), [(ADAIN, "world"), (NECK, "world"), (ADAIN, "log-mel(bands=20)")]
)
def test_conversion_merges_codes(root, parts, front):
    model = built(root, parts, front)
    whole = rk.dataset(f"reprkit-audio/speech(root={str(root)!r}, frames=None, frontend={front!r})")
    of = {(clip.speaker, clip.path.stem): number for number, clip in enumerate(whole.clips)}
    source, target = of["ann", "0"], of["bob", "3"]
    wave, rate = convert(model, whole.utterance(source).wave, whole.utterance(target).wave, spread=False)
    assert rate == RATE
    assert wave.shape == whole.utterance(source).wave.shape

    # The same by the model's own methods, on the data set's own frames.
    same = built(root, parts, front)
    same.signature = whole.signature
    same.load_state_dict(model.state_dict())
    same.eval()
    one, two = whole.batch([source]), whole.batch([target])
    codes = same.encode(one) | {"speaker": same.encode(two)["speaker"]}
    frames = same.decode(codes, length=one["x"].shape[1]).x[0].detach()
    analyzed = whole.sound(source)
    pitch = analyzed.pitch
    if pitch is not None:
        pitch = prosody.convert_pitch(
            pitch, prosody.pitch_statistics(pitch), prosody.pitch_statistics(whole.sound(target).pitch)
        )
    made = type(analyzed)(frames=frames, pitch=pitch, aperiodicity=analyzed.aperiodicity)
    expected = vocoder(form=frontend(front)).synthesize(made)[: len(wave)]
    gain = float(wave[: len(expected)].dot(expected) / expected.dot(expected))
    assert torch.allclose(wave[: len(expected)], gain * expected, atol=1e-4)
    assert_level_of_source(wave, whole.utterance(source).wave)
    assert model.training  # as it was


def test_conversion_gives_the_targets_pitch_statistics(root):
    model = built(root)
    made = Converter(model)
    whole = rk.dataset(f"reprkit-audio/speech(root={str(root)!r}, frames=None)")
    of = {(clip.speaker, clip.path.stem): number for number, clip in enumerate(whole.clips)}
    low = made.voice([whole.sound(of["bob", "1"])])
    found = made.convert(whole.sound(of["ann", "4"]), low)
    stats = prosody.pitch_statistics(found.pitch)
    assert stats.mean == pytest.approx(low.pitch.mean, abs=0.01)
    assert torch.equal(found.pitch > 0, whole.sound(of["ann", "4"]).pitch > 0)
    assert torch.equal(found.aperiodicity, whole.sound(of["ann", "4"]).aperiodicity)


def test_conversion_gives_the_targets_deviation_and_keeps_the_mean(root):
    model = built(root)
    whole = rk.dataset(f"reprkit-audio/speech(root={str(root)!r}, frames=None)")
    source, target = whole.sound(0), whole.sound(7)
    plain, made = Converter(model, spread=False), Converter(model)
    smooth = plain.convert(source, plain.voice([target])).frames
    frames = made.convert(source, made.voice([target])).frames
    assert torch.equal(frames[:, 0], smooth[:, 0])  # the level
    voiced = source.pitch > 0
    torch.testing.assert_close(frames[voiced].mean(0), smooth[voiced].mean(0), atol=1e-5, rtol=1e-4)
    before, after = (each[voiced][:, 1:].std(0, correction=0) for each in (smooth, frames))
    ratio = target.frames[target.pitch > 0][:, 1:].std(0, correction=0) / before
    assert ((ratio > 0.5) & (ratio < 2)).any()
    torch.testing.assert_close(after, before * ratio.clamp(0.5, 2))  # one utterance is a poor estimate
    whisper = replace(source, pitch=torch.zeros_like(source.pitch))
    assert envelope_deviation(made.front, whisper) is None
    assert torch.equal(restore_deviation(made.front, whisper, torch.ones(39)), source.frames)


def test_convert_is_imported_lazily():
    assert reprkit_audio.convert is convert
    assert reprkit_audio.convert_file is convert_file
    code = "import sys, reprkit_audio; assert 'torch' not in sys.modules; reprkit_audio.none"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("No reprkit_audio attribute none")


def test_several_targets_are_averaged(root):
    made = Converter(built(root))
    files = [root / "bob" / f"{take}.wav" for take in range(3)]
    each = [conversion.extract_voice(made, file).code.z for file in files]
    several = conversion.extract_voice(made, files)
    assert torch.allclose(several.code.z, torch.stack(each).mean(0), atol=1e-6)
    assert not torch.allclose(each[0], each[1], atol=1e-4)
    assert several.pitch.frames == sum(conversion.extract_voice(made, file).pitch.frames for file in files)
    pair = (sound.read(files[0], 8000), 8000)
    assert (
        conversion.extract_voice(made, pair).code.z.shape == each[0].shape
    )  # a pair is one recording, not two


def test_nearest_frames_are_found_by_cosine():
    generator = torch.Generator().manual_seed(0)
    contents = [torch.randn(n, 5, generator=generator) for n in (7, 4)]
    frames = [
        torch.randn(t, 3, generator=generator) for t in (14, 7)
    ]  # the last token of the second covers one frame
    pool = FramePool.of(contents, frames, 2)
    wanted = torch.randn(1500, 5, generator=generator)  # more than a block
    found = pool.nearest(wanted, 3)
    blocks = torch.cat([frames[0].view(7, 2, 3), torch.cat([frames[1], frames[1][-1:]]).view(4, 2, 3)])
    cosine = torch.cosine_similarity(wanted[:, None], torch.cat(contents)[None], dim=-1)
    for row in (0, 1023, 1024, 1499):
        expected = blocks[cosine[row].sort(descending=True).indices[:3]].mean(0)
        assert torch.allclose(found[row], expected, atol=1e-6)
    assert torch.allclose(pool.nearest(wanted[:1], 99)[0], blocks.mean(0), atol=1e-6)  # there are eleven


@pytest.mark.parametrize("parts", [ADAIN, NECK])
def test_neighbors_replace_the_envelope_by_the_targets_own(root, parts):
    model = built(root, parts)
    made = Converter(model, neighbors=1, spread=False)
    analyzed = [made.front.analyze(sound.read(root / "bob" / f"{take}.wav", RATE)) for take in range(3)]
    source = analyzed[1]
    decoded = Converter(model, spread=False).convert(source, made.voice(analyzed)).frames
    # The source is among the target's recordings, so that its own tokens are the nearest.
    own = made.convert(source, made.voice(analyzed)).frames
    assert torch.allclose(own[:, 1:], source.frames[:, 1:], atol=1e-6)
    assert torch.equal(own[:, 0], decoded[:, 0])  # the level
    without = made.convert(source, made.voice([analyzed[0], analyzed[2]])).frames
    assert not torch.allclose(without[:, 1:], source.frames[:, 1:], atol=0.1)
    half = Converter(model, neighbors=1, blend=0.5, spread=False)
    mixed = half.convert(source, half.voice(analyzed)).frames
    assert torch.allclose(mixed, (own + decoded) / 2, atol=1e-5)


@pytest.mark.parametrize("parts", [ADAIN, NECK])
def test_strength_scales_the_mean_difference_from_the_own_voice(root, parts):
    model = built(root, parts)
    plain = Converter(model, spread=False)
    source = plain.front.analyze(sound.read(root / "ann" / "1.wav", RATE))
    target = plain.voice([plain.front.analyze(sound.read(root / "bob" / "0.wav", RATE))])
    own = plain.convert(source, plain.voice([source])).frames
    one = plain.convert(source, target).frames
    assert not torch.allclose(own[:, 1:].mean(0), one[:, 1:].mean(0), atol=1e-3)
    for strength in (0.0, 0.5, 1.0, 2.5):
        made = Converter(model, spread=False, strength=strength).convert(source, target).frames
        expected = (1 - strength) * own[:, 1:].mean(0) + strength * one[:, 1:].mean(0)
        assert torch.allclose(made[:, 1:].mean(0), expected, atol=1e-4)
        assert torch.equal(made[:, 0], one[:, 0])  # the level
        assert torch.allclose(made - made.mean(0), one - one.mean(0), atol=1e-4)  # movements over time
    for wrong in (-0.1, 4.1):
        with pytest.raises(PartArgumentError, match="strength is from 0 to 4"):
            Converter(model, strength=wrong)


def test_neighbors_that_are_not_possible_raise(root):
    model = built(root)
    with pytest.raises(PartArgumentError, match="0 for none, not -1"):
        Converter(model, neighbors=-1)
    with pytest.raises(PartArgumentError, match="blend is a share"):
        Converter(model, neighbors=1, blend=0.0)
    with pytest.raises(PartArgumentError, match="give neighbors=4, too"):
        Converter(model, blend=0.5)
    with pytest.raises(PartArgumentError, match="give neighbors=4, too"):
        rk.create("evaluator", "voice(blend=0.5)")
    with pytest.raises(PartArgumentError, match="the neighbors' replaces all of it: give blend=0.5"):
        Converter(model, neighbors=1, strength=2.0)
    Converter(model, neighbors=1, blend=0.5, strength=2.0)
    for wrong in ({"neighbors": -1}, {"neighbors": 1, "blend": 2.0}):  # also where they are only passed on
        with pytest.raises(PartArgumentError):
            convert(model, voice(0.5)[0], voice(0.5)[0], **wrong)
        with pytest.raises(PartArgumentError):
            convert_file(model, root / "ann" / "0.wav", voice(0.5)[0], root / "made.wav", **wrong)
    made, plain = Converter(model, neighbors=2), Converter(model)
    source = made.front.analyze(voice(0.5)[0])
    with pytest.raises(DataError, match="extracted by a converter without neighbors"):
        made.convert(source, plain.voice([source]))
    with pytest.raises(BuildError, match="neighbors=4"):
        plain.content(source.frames)
    pooled = {**ADAIN["factors"], "content": rk.factor("voice(width=8, depth=1, layers=0)", pool=True)}
    with pytest.raises(BuildError, match="one factor of content that is not pooled; this model has: none"):
        Converter(built(root, factors=pooled), neighbors=2)


@pytest.mark.parametrize("size", [7, 100, 1000])
def test_windows_overlap_and_cover_everything(size):
    wave = torch.arange(1003.0)
    found = list(windows(wave.split(size), 100, 10))
    assert [last for _, last in found] == [False] * (len(found) - 1) + [True]
    at = 0
    for window, last in found:
        assert torch.equal(window, wave[at : at + len(window)])
        assert len(window) == 100 or (last and 10 < len(window) <= 110)
        at += len(window) - 10
    assert at + 10 == len(wave)
    (only,) = windows([wave[:50]], 100, 10)
    assert only[1]
    assert len(only[0]) == 50


def test_windows_are_crossfaded_where_it_is_quiet():
    one, two = torch.full((1600,), 0.5), torch.full((1600,), -0.5)
    one[900:1300] = two[900:1300] = 0.01
    made = crossfade(one, two, RATE)
    change = (made != one).nonzero()[0].item(), (made == two).logical_not().nonzero()[-1].item()
    assert change[0] >= 899
    assert change[1] <= 1300
    assert change[1] - change[0] < 330  # 20 ms
    assert made[0] == 0.5
    assert made[-1] == pytest.approx(-0.5)


@pytest.mark.slow
def test_long_files_are_converted_in_pieces(root, tmp_path, monkeypatch):
    model = built(root)
    wave = torch.cat([voice(1.0, 150 + 10 * n, 180)[0] for n in range(9)])
    wave[4 * RATE : 6 * RATE] = 0  # a pause that is digital silence
    soundfile.write(tmp_path / "long.flac", wave.numpy(), RATE)
    target = root / "bob" / "2.wav"
    monkeypatch.setattr(Converter, "decode", lambda self, codes, count: seen[-1])
    real_codes, seen = Converter.encode, []
    monkeypatch.setattr(
        Converter, "encode", lambda self, x, *names: seen.append(x) or real_codes(self, x, *names)
    )
    whole, _ = convert(model, tmp_path / "long.flac", target)
    calls = []
    real = sound.blocks
    monkeypatch.setattr(converter, "WINDOW_SECONDS", 2.5)
    monkeypatch.setattr(conversion, "TARGET_SECONDS", 8.9)
    monkeypatch.setattr(
        sound, "blocks", lambda *args, **options: calls.append(args) or real(*args, **options)
    )
    seconds = convert_file(model, tmp_path / "long.flac", target, tmp_path / "out" / "made.wav")
    made, rate = soundfile.read(tmp_path / "out" / "made.wav", dtype="float32")
    assert (rate, len(made)) == (RATE, len(wave))
    assert seconds == pytest.approx(9.0)
    assert [args[0] for args in calls].count(tmp_path / "long.flac") == 3, "for peak, pitch, conversion"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["made.wav"]
    # Of a model that leaves frames as they are, what is made in pieces is what is made at once, over the seams too.
    assert np.abs(made - whole.numpy()).max() > 0
    loud = [np.sqrt((each.reshape(90, -1) ** 2).mean(1)) for each in (made, whole.numpy())]
    spoken = np.r_[0:39, 61:90]
    assert loud[0][spoken] == pytest.approx(loud[1][spoken], rel=0.35)
    assert np.abs(loud[0][41:59]).max() < 0.01 * loud[1].max()
    stats = [
        prosody.pitch_statistics(frontend("world").pitch(each)).mean
        for each in (torch.from_numpy(made), whole)
    ]
    assert stats[0] == pytest.approx(stats[1], abs=0.03)


def test_all_blocks_of_a_file_have_one_gain_and_the_level_of_the_source(root, tmp_path, monkeypatch):
    """Each block used to be divided by its own peak: loud words then changed the level of the block around them."""
    model = built(root)
    monkeypatch.setattr(converter, "WINDOW_SECONDS", 2.5)
    monkeypatch.setattr(conversion, "TARGET_SECONDS", 4.0)
    # A vocoder whose output is far above full scale in one block only.
    raw = [torch.full((RATE * 3,), 0.1), torch.full((RATE * 3,), 4.0), torch.full((RATE * 3,), 0.1)]
    raw = [each * torch.sin(torch.arange(RATE * 3) * 0.3) for each in raw]
    monkeypatch.setattr(
        Converter,
        "synthesize",
        lambda self, _, count, *, limit: raw[min(len(made), 2)][:count].clone().div_(1 if not limit else 4),
    )
    made = []
    real = Converter._convert_block
    monkeypatch.setattr(
        Converter, "_convert_block", lambda self, *args: made.append(real(self, *args)) or made[-1]
    )
    source = torch.cat([voice(1.0, 150, 180)[0] * 0.05 for _ in range(7)])
    soundfile.write(tmp_path / "source.wav", source.numpy(), RATE)
    convert_file(model, tmp_path / "source.wav", root / "bob" / "2.wav", tmp_path / "out.wav")
    found = torch.from_numpy(soundfile.read(tmp_path / "out.wav", dtype="float32")[0])
    inside = [found[first : first + RATE // 2] for first in (RATE // 2, 5 * RATE // 2)]
    ratio = float(inside[1].square().mean().sqrt() / inside[0].square().mean().sqrt())
    assert ratio == pytest.approx(40, rel=0.1), "blocks keep their relation"
    assert_level_of_source(found, source, tolerance=0.3)


@pytest.mark.parametrize("level", [2e-4, 0.3])
def test_a_quiet_recording_stays_quiet(root, level):
    wave = voice(0.8, 150, 180)[0]
    wave = wave * level / wave.abs().max()
    made, _ = convert(built(root), wave, root / "bob" / "2.wav")
    assert_level_of_source(made, wave)


def test_a_file_of_floats_above_full_scale_is_not_clipped(root, tmp_path):
    wave = voice(0.8, 150, 180)[0]
    wave = wave / wave.abs().max()
    for name, factor in {"one": 1.0, "loud": 2.1, "units": 30000.0}.items():
        soundfile.write(tmp_path / f"{name}.wav", (wave * factor).numpy(), RATE, subtype="FLOAT")
    model, target = built(root), root / "bob" / "2.wav"
    plain, loud = (convert(model, tmp_path / f"{name}.wav", target)[0] for name in ("one", "loud"))
    torch.testing.assert_close(plain, loud, rtol=1e-3, atol=1e-3)
    with pytest.raises(DataError, match=r"'units.wav' holds values up to 30000, and sound lies in \[-1, 1\]"):
        convert(model, tmp_path / "units.wav", target)


def test_a_level_meter_measures_pieces_as_a_whole():
    wave = voice(1.3, 150, 180)[0]
    meter = LevelMeter(RATE)
    for piece in wave.split(777):
        assert meter.add(piece) is piece
    assert meter.level() == pytest.approx(active_level(wave, RATE), abs=1e-6)
    assert meter.peak == float(wave.abs().max())
    nothing = LevelMeter(RATE)
    nothing.add(torch.zeros(RATE))
    assert matching_gain(nothing, meter) == 1.0


def test_an_existing_file_is_not_replaced_unasked(root, tmp_path, capsys):
    model, source, target = built(root), root / "ann" / "0.wav", root / "bob" / "0.wav"
    (tmp_path / "mine.wav").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"mine.wav' exists already; .*overwrite=True \(--overwrite\)"):
        convert_file(model, source, target, tmp_path / "mine.wav")
    assert (tmp_path / "mine.wav").read_bytes() == b"mine"
    convert_file(model, source, target, tmp_path / "mine.wav", overwrite=True)
    assert sound.duration(tmp_path / "mine.wav") == pytest.approx(0.6)


def test_unusable_recordings_raise(root, tmp_path):
    model = built(root)
    good = root / "ann" / "0.wav"
    (tmp_path / "text.wav").write_text("this is no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "short.wav", voice(0.05)[0].numpy(), RATE)
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    for source, target, message in (
        (tmp_path / "text.wav", good, "'.*text.wav' is not a sound file: it holds text"),
        (good, tmp_path / "no.wav", "not there"),
        (tmp_path / "silent.wav", good, "the source 'silent.wav': it is silent"),
        (good, tmp_path / "silent.wav", "the target 'silent.wav': it is silent"),
        (good, tmp_path / "short.wav", "the target 'short.wav' has 0.05 s of sound, under 0.1 s"),
        (torch.zeros(0), good, "the source: the waveform has no samples"),
        (torch.zeros(2, 8000), good, "the source: a waveform is a float tensor"),
        (good, [], "no target"),
        (good, noise, "the target: no frame is voiced"),
    ):
        with pytest.raises(DataError, match=message):
            convert(model, source, target)
    with pytest.raises(DataError, match="sound is written to"):
        convert_file(model, good, good, tmp_path / "out.doc")
    with pytest.raises(DataError, match="is silent"):
        convert_file(model, tmp_path / "silent.wav", good, tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(("rate", "channels", "subtype"), [(8000, 1, "PCM_U8"), (44100, 2, "PCM_24")])
def test_recordings_of_any_kind_are_converted(root, tmp_path, rate, channels, subtype):
    wave = voice(0.5, 120, 150, rate=rate)[0].numpy() * 3
    clipped = np.repeat(wave.clip(-0.99, 0.99)[:, None], channels, 1)
    soundfile.write(tmp_path / "odd.wav", clipped, rate, subtype=subtype)
    made, out = convert(built(root), tmp_path / "odd.wav", tmp_path / "odd.wav")
    assert out == RATE
    assert len(made) == RATE // 2
    assert bool(made.isfinite().all())
    assert float(made.abs().max()) > 0


def test_models_that_cannot_convert_raise(root):
    speech = f"reprkit-audio/speech(root={str(root)!r}, frames=32)"
    plain = rk.build(data=rk.dataset(speech), encoder="gru(width=8)", decoder="gru(width=8)")
    with pytest.raises(BuildError, match="a factor 'speaker'"):
        Converter(plain)
    factors = {"content": rk.factor("gru(width=8)"), "speaker": rk.factor("gru(width=8)", pool=True)}
    none = rk.build(data=rk.dataset(speech), factors=factors, objective="contrastive(views='gaussian-noise')")
    with pytest.raises(BuildError, match="decoder that is not causal"):
        Converter(none)
    digits = rk.build(
        data=rk.dataset("digits"),
        factors={"content": rk.factor("mlp(widths=(8,))"), "speaker": rk.factor("mlp(widths=(8,))")},
        decoder="mlp(widths=(8,))",
    )
    with pytest.raises(BuildError, match="frames of one front end"):
        Converter(digits)
    fixed = built(root, decoder="mlp(widths=(8,))")
    with pytest.raises(BuildError, match="returned .* frames, not"):
        convert(fixed, root / "ann" / "4.wav", root / "bob" / "0.wav")
    with pytest.raises(PartArgumentError, match="griffin-lim reads frames of log-mel"):
        Converter(built(root), vocoder="griffin-lim")


def test_the_command_converts(root, tmp_path, capsys):
    built(root).save(tmp_path / "model")
    source, targets = str(root / "ann" / "0.wav"), [str(root / "bob" / f"{take}.wav") for take in (0, 1)]
    out = tmp_path / "out.ogg"
    with pytest.raises(SystemExit) as left:
        main(["voice", "convert", str(tmp_path / "model"), source, *targets, "-o", str(out)])
    assert left.value.code == 0
    assert "out.ogg: 0.6 s" in capsys.readouterr().out
    assert sound.duration(out) == pytest.approx(0.6)
    command = [
        "voice",
        "convert",
        str(tmp_path / "model"),
        source,
        *targets,
        "-o",
        f"{out}.wav",
        "--overwrite",
    ]
    for flags, same in (
        (["--neighbors", "0"], True),
        (["--strength", "3"], False),
    ):
        with pytest.raises(SystemExit) as left:
            main([*command, *flags])
        assert left.value.code == 0
        expected = convert(str(tmp_path / "model"), source, targets)[0]
        assert torch.allclose(sound.read(f"{out}.wav", RATE), expected, atol=1e-3) == same
    with pytest.raises(SystemExit) as left:
        main(["voice", "convert", str(tmp_path / "none"), source, targets[0]])
    assert left.value.code == 1
    assert "error: " in capsys.readouterr().err


def test_the_command_passes_the_neighbors_on(monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(conversion, "convert_file", lambda *files, **options: given.update(options) or 1.0)
    with pytest.raises(SystemExit) as left:
        main(["voice", "convert", "model", "a.wav", "b.wav", "--neighbors", "4", "--blend", "0.5"])
    assert left.value.code == 0
    assert (given["neighbors"], given["blend"]) == (4, 0.5)
    assert "converted.wav: 1.0 s" in capsys.readouterr().out
