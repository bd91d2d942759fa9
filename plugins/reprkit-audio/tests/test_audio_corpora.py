"""Data sets of speech: included in the plugin, fetched, or synthesized."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from reprkit_audio import fetching, g722
from reprkit_audio.data import parallel_speech
from reprkit_audio.data.corpus_cache import corpus_folder, read_index
from reprkit_audio.data.division import Division, assign_parts
from reprkit_audio.data.engines import VOICES, synthesize
from reprkit_audio.data.parallel_speech import phones_at_frames
from reprkit_audio.data.sample_speech import FOLDER, english_texts
from reprkit_audio.fetching import fetch

import reprkit as rk
from reprkit.data import sound
from reprkit.errors import DataError, PartArgumentError, ReprkitError
from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks, make_case

SAMPLE = "reprkit-audio/sample-speech(frames=64, speakers=('carlo', 'june'))"
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


class TestSampleSpeech(DatasetConformance):
    part = SAMPLE


def test_the_sample_is_small_licensed_and_parallel():
    rows = json.loads((FOLDER / "clips.json").read_text("utf-8"))
    assert sum(file.stat().st_size for file in FOLDER.rglob("*.opus")) < 3e6
    assert {row["file"] for row in rows} == {f"{f.parent.name}/{f.name}" for f in FOLDER.rglob("*.opus")}
    notice = (FOLDER / "ATTRIBUTION.md").read_text("utf-8")
    for name in ("Allison Smith", "June Wallack", "Carlo Flora", "ivrvoice", "CC BY-SA 3.0", "CC BY 3.0"):
        assert name in notice
    keys = {
        language: {r["key"] for r in rows if r["language"] == language}
        for language in ("en", "es", "fr", "it", "ru")
    }
    assert len(set(map(frozenset, keys.values()))) == 1
    assert all(4 <= len(text.split()) <= 18 for text in english_texts())


def test_a_sentence_is_in_the_same_part_in_every_language():
    clips = list(read_index(FOLDER))
    parts = assign_parts(clips, Division(0, valid=True, test_share=0.2, valid_share=0.1))
    of_text = {
        clip.key: {p for c, p in zip(clips, parts, strict=True) if c.key == clip.key} for clip in clips
    }
    assert all(len(found) == 1 for found in of_text.values())
    for part in ("train", "valid", "test"):
        mine = [clip for clip, found in zip(clips, parts, strict=True) if found == part]
        assert len({clip.speaker for clip in mine}) == 4
        assert len({clip.language for clip in mine}) == 5


def test_g722_decodes_what_was_encoded():
    from G722 import G722

    times = np.arange(16000) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 440 * times) + 0.1 * np.sin(2 * np.pi * 5000 * times)
    coded = bytes(G722(16000, 64000).encode((wave * 32767).astype(np.int16).tolist()))
    found = g722.decode(coded).numpy()
    assert len(coded) * 2 == len(found) == 16000
    # The filters delay by some samples.
    best = max(np.corrcoef(found[200 + lag : 12200 + lag], wave[200:12200])[0, 1] for lag in range(60))
    assert best > 0.99


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def package(folder, name, files):
    """A Debian package of path -> content."""
    root = folder / "root" / name
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n"
    )
    done = subprocess.run(
        ["dpkg-deb", "-b", str(root), str(folder / "debs" / f"{name}_1_all.deb")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_asterisks_packages_become_a_data_set(cache):
    import gzip

    from G722 import G722

    (cache / "debs").mkdir()
    for language, folder in (("it", "it_IT_m_Carlo"), ("fr", "fr_CA_f_June")):
        place = f"usr/share/asterisk/sounds/{folder}"
        tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(24000) / 16000) * 32767
        coded = bytes(G722(16000, 64000).encode(tone.astype(np.int16).tolist()))
        sounds = {
            f"{place}/{name}.g722": coded for name in ("one", "digits/two", "three", "four", "five", "beep")
        }
        texts = gzip.compress(b"; a remark\none: Uno, due.\ndigits/TWO: Due\n")
        package(cache, f"asterisk-core-sounds-{language}-g722", sounds)
        package(
            cache,
            f"asterisk-core-sounds-{language}",
            {
                f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz": texts,
                f"usr/share/doc/asterisk-core-sounds-{language}/copyright": b"whose it is",
            },
        )
    found = fetch("asterisk", ("it", "fr"), cache / "debs")
    assert {language: count for language, (_, count) in found.items()} == {
        "it": 5,
        "fr": 5,
    }  # a beep is no speech
    assert (corpus_folder("asterisk", "it") / "copyright").read_bytes() == b"whose it is"
    data = rk.dataset("reprkit-audio/asterisk(languages=('it', 'fr'), frames=32)")
    assert data.speakers == ["carlo", "june"]
    assert {clip.key: clip.text for clip in data.clips if clip.speaker == "carlo"} == {
        "one": "Uno, due.", "digits/two": "Due", "three": None, "four": None, "five": None,
    }  # fmt: skip
    assert data.utterance(0).wave.abs().max() > 0.2
    with pytest.raises(DataError, match="'en' is not in .*\n.*reprkit voice fetch asterisk"):
        rk.dataset("reprkit-audio/asterisk")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_fillets_packages_become_a_data_set(cache):
    import io

    import soundfile

    (cache / "debs").mkdir()
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(np.arange(30000) / 20), 22050, format="OGG")
    names = ("a-m-hello", "a-v-there", "a-x-nobody")
    root = "usr/share/games/fillets-ng"
    package(cache, "fillets-ng-data-cs", {f"{root}/sound/reef/cs/{n}.ogg": file.getvalue() for n in names})
    script = 'dialogId("a-m-hello", "font_small", "Hello \\"you\\"")\ndialogStr("Ahoj \\"ty\\"")\n'
    package(cache, "fillets-ng-data", {f"{root}/script/reef/dialogs_cs.lua": script.encode()})
    ((folder, count),) = fetch("fillets", ("cs",), cache / "debs").values()
    assert count == 2
    rows = json.loads((folder / "clips.json").read_text("utf-8"))
    assert [(r["speaker"], r["text"], r["key"]) for r in rows] == [
        ("cs-small", 'Ahoj "ty"', "reef/a-m-hello"), ("cs-big", None, "reef/a-v-there"),
    ]  # fmt: skip


def test_fetch_errors(cache):
    with pytest.raises(ReprkitError, match="unknown corpus to fetch: 'asterix'.*asterisk"):
        fetch("asterix")
    with pytest.raises(ReprkitError, match="asterisk is not in 'de'"):
        fetch("asterisk", ("de",))
    if shutil.which("dpkg-deb"):
        (cache / "debs").mkdir()
        with pytest.raises(ReprkitError, match="no asterisk-core-sounds-en-g722_"):
            fetch("asterisk", ("en",), cache / "debs")


def test_phones_along_frames():
    phones = [("pau", 0.025), ("a", 0.05), ("t", 0.06)]
    found = phones_at_frames(phones, 9, 0.01, {"pau": 0, "a": 1, "t": 2})
    assert found.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]


@pytest.fixture
def synthesized(cache, monkeypatch):
    """A synthesizer of tones: one pitch per voice, one phone per letter, a tenth of a second each."""
    times: list[str] = []

    def speak(voice, text):
        times.append(voice)
        pitch = 100 + 50 * list(VOICES).index(voice)
        samples = np.arange(1600 * len(text)) / 16000
        wave = 0.2 * np.sin(2 * np.pi * pitch * samples) + 0.1 * np.sin(2 * np.pi * 3 * pitch * samples)
        return torch.from_numpy(wave.astype(np.float32)), [(c, 0.1 * (n + 1)) for n, c in enumerate(text)]

    monkeypatch.setattr(parallel_speech, "synthesize", speak)
    return times


def test_parallel_sentences_have_phones_and_are_synthesized_once(synthesized):
    given = "voices=('rms', 'slt'), sentences=('abcab', 'caabb', 'bcbca', 'cabac', 'aabcc'), frames=20"
    data = rk.dataset(f"reprkit-audio/parallel-speech({given})")
    assert data.facts["symbols"] == {"phone": ["a", "b", "c"]}
    assert data[0]["phone"].tolist() == [0] * 10 + [1] * 10
    assert len(synthesized) == 10
    again = rk.dataset(f"reprkit-audio/parallel-speech({given})")
    assert len(synthesized) == 10
    assert torch.equal(again[3]["x"], data[3]["x"])
    assert sorted(map(len, data.by_key().values())) == [2] * 5
    train, test = data.split()
    assert not {clip.text for clip in train.clips} & {clip.text for clip in test.clips}
    assert failed_checks(make_case("dataset", f"reprkit-audio/parallel-speech({given})", "images")) == {}


def test_unknown_or_missing_voices_raise(monkeypatch):
    with pytest.raises(DataError, match="no synthetic voice 'rmss'.*'rms'"):
        rk.dataset("reprkit-audio/parallel-speech(voices=('rmss',))")
    with pytest.raises(PartArgumentError, match="sentences=0 must be an integer of at least 1"):
        rk.dataset("reprkit-audio/parallel-speech(sentences=0)")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match="needs flite, which is not installed\n.*apt-get install flite"):
        synthesize("rms", "Hello.")


@flite
def test_flite_reports_phone_timings():
    wave, phones = synthesize("slt", "Please enter your password.")
    assert [phone for phone, _ in phones][:4] == ["pau", "p", "l", "iy"]
    ends = [end for _, end in phones]
    assert ends == sorted(ends)
    assert ends[-1] == pytest.approx(len(wave) / sound.RATE, abs=0.1)
    silent = wave[: int(0.8 * ends[0] * sound.RATE)].abs().max()
    assert silent < 0.1 * wave.abs().max()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_voices_of_several_packages_have_one_level_and_band(cache):
    import io

    import soundfile
    from reprkit_audio.waveforms import active_level

    (cache / "debs").mkdir()

    def coded(gain, rate, seed, **format):
        noise = np.random.default_rng(seed).standard_normal(rate)
        file = io.BytesIO()
        soundfile.write(file, gain * noise, rate, **format)
        return file.getvalue()

    ogg = {"format": "OGG"}
    stamps = "usr/share/tuxpaint/stamps/animals"
    files = {f"{stamps}/{name}_desc_fr.ogg": coded(0.2, 44100, n, **ogg) for n, name in enumerate("abcde")}
    text = b"A cat.\nfr.utf8=Un chat.\nes.utf8=Un gato.\n"
    package(cache, "tuxpaint-stamps-default", files | {f"{stamps}/a.txt": text})
    voices = "usr/share/games/hedgewars/Data/Sounds/voices"
    files = {f"{voices}/Default_es/{n}.ogg": coded(0.01, 22050, n, **ogg) for n in range(5)}
    package(cache, "hedgewars-data", files)
    raw = {"format": "RAW", "subtype": "GSM610"}
    files = {f"usr/share/asterisk/sounds/fr/{n}.gsm": coded(0.1, 8000, n, **raw) for n in range(4)}
    package(cache, "asterisk-prompt-fr-armelle", files)
    assert fetch("tuxpaint", ("fr",), cache / "debs")["fr"][1] == 5
    assert fetch("hedgewars", ("es",), cache / "debs")["es"][1] == 5
    assert fetch("prompts", ("fr",), cache / "debs")["fr"][1] == 4
    assert [clip.text for clip in read_index(corpus_folder("tuxpaint", "fr"))] == ["Un chat."] + 4 * [None]
    with pytest.raises(DataError, match="tuxpaint in 'ru' is not in .*\n.*fetch it"):
        rk.dataset("reprkit-audio/voices(corpora='tuxpaint')")
    with pytest.raises(PartArgumentError, match=r"prompts were recorded at 8 kHz, so band=7000"):
        rk.dataset("reprkit-audio/voices(corpora='prompts')")
    with pytest.raises(DataError, match="no corpus 'tux'"):
        rk.dataset("reprkit-audio/voices(corpora='tux')")

    clips = [*read_index(corpus_folder("tuxpaint", "fr")), *read_index(corpus_folder("hedgewars", "es"))]
    for clip in clips:
        plain = clip.wave(sound.RATE, trim=True)
        wave = replace(clip, loudness=-26.0, band=3000.0).wave(sound.RATE, trim=True)
        assert active_level(wave, sound.RATE) == pytest.approx(-26, abs=1)
        power = torch.fft.rfft(wave[:8000] * torch.hann_window(8000)).abs().square()  # 2 Hz a bin
        assert power[1800:].mean() < 1e-4 * power[100:1400].mean()
        assert torch.fft.rfft(plain[:8000]).abs().square()[1800:3000].mean() > 1e-3


def test_every_corpus_is_fetched_in_the_languages_that_it_has(monkeypatch):
    monkeypatch.setattr(fetching, "fetch", lambda corpus, own, debs: {each: (corpus, 1) for each in own})
    found = [(corpus, language) for corpus, language, _, _ in fetching.fetch_voices(("it", "uk"))]
    assert found == [("asterisk", "it"), ("hedgewars", "uk"), ("prompts", "it")]
    assert len({language for _, language, _, _ in fetching.fetch_voices()}) == 15
    with pytest.raises(ReprkitError, match="no corpus is in 'xx'"):
        list(fetching.fetch_voices(("it", "xx")))


@pytest.mark.slow
def test_speakers_are_held_out_with_labels_of_their_own():
    data = rk.dataset("reprkit-audio/sample-speech(frames=64)")
    seen, unseen = data.hold_out_speakers(2, seed=1)
    assert sorted(seen.speakers + unseen.speakers) == data.speakers
    assert len(seen.speakers) == len(unseen.speakers) == 2
    assert len(seen) + len(unseen) == len(data)
    for part in (seen, unseen):
        assert part.signature["speaker"].vocab == 2
        assert {clip.speaker for clip in part.clips} == set(part.speakers)
        assert set(part.facts["minutes"]) == set(part.facts["languages"]) == set(part.speakers)
        assert len(part.split(seed=0)) == 2
    assert data.hold_out_speakers(2, seed=1)[1].speakers == unseen.speakers
    assert len({tuple(data.hold_out_speakers(2, seed=seed)[1].speakers) for seed in range(8)}) > 1
    with pytest.raises(DataError, match="cannot hold out 3 of the 4 speakers"):
        data.hold_out_speakers(3)
