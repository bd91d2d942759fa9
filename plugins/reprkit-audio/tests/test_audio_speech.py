import numpy as np
import pytest
import soundfile
import torch
from reprkit_audio.data.recordings import check_several_speakers
from reprkit_audio.frontends import frontend

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.testing.kit import failed_checks, make_case

RATE = 16000


def voice(seconds, pitch, seed=0, rate=RATE, channels=1):
    """Something with a pitch, formants and a changing loudness."""
    times = np.arange(round(seconds * rate)) / rate
    generator = np.random.default_rng(seed)
    tones = sum(np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 12))
    loudness = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * times + generator.uniform(0, 6))
    wave = 0.1 * tones * loudness + 1e-3 * generator.standard_normal(len(times))
    return np.repeat(wave[:, None], channels, 1).astype(np.float32)


def put(path, wave, rate=RATE, text=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)
    if text is not None:
        path.with_suffix(".txt").write_text(text, "utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    for number, speaker in enumerate(("ann", "bob", "cyd")):
        for take in range(10):
            wave = voice(0.5 + 0.03 * take, 100 + 40 * number, seed=take)
            put(folder / speaker / "in" / f"{take}.wav", wave, text=f"{speaker} says {take}")
    return folder


def speech(folder, **options):
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return rk.dataset(f"reprkit-audio/speech(root={str(folder)!r}{given})")


@pytest.mark.parametrize(
    "options",
    [
        "frames=16",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("frames=16, stride=5, frontend='log-mel'", "frames=None")
        ),
    ],
)
def test_it_conforms(root, options):
    part = f"reprkit-audio/speech(root={str(root)!r}, {options})"
    assert failed_checks(make_case("dataset", part, "images")) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["world", "log-mel(bands=20)"])
def test_windows_are_slices_of_the_front_ends_frames(root, name):
    data = speech(root, frontend=name, frames=12, stride=8)
    front = frontend(name)
    assert data.signature["x"].form == front.form
    assert data.signature["x"].shape == (12, front.channels)
    assert data.speakers == ["ann", "bob", "cyd"]
    assert len(data.clips) == 30
    seen = 0
    for number, clip in enumerate(data.clips):
        utterance = data.utterance(number)
        wave, _ = soundfile.read(clip.path, dtype="float32")
        assert torch.equal(utterance.wave, torch.from_numpy(wave))
        assert utterance.rate == RATE
        assert utterance.text == f"{utterance.speaker} says {clip.path.stem}"
        assert data.speakers[utterance.label] == utterance.speaker == clip.path.parts[-3]
        whole = front.analyze(utterance.wave)
        cached = data.sound(number)
        assert torch.equal(cached.frames, whole.frames)
        assert (cached.pitch is None) == (name != "world")
        if cached.pitch is not None:
            voiced = cached.pitch[cached.pitch > 0]
            assert abs(float(voiced.median()) - 100 - 40 * utterance.label) < 2
        rows = (data.owner == number).nonzero().flatten()
        starts = [*range(0, len(whole.frames) - 11, 8)]
        if starts[-1] + 12 < len(whole.frames):
            starts.append(len(whole.frames) - 12)
        assert len(rows) == len(starts)
        for row, start in zip(rows.tolist(), starts, strict=True):
            assert torch.equal(data[row]["x"], whole.frames[start : start + 12])
            assert int(data[row]["speaker"]) == utterance.label
            seen += 1
    assert seen == len(data)


def test_whole_utterances_are_available_as_well_as_windows(root):
    _, test = speech(root, frames=16).split()
    whole = test.whole()
    assert len(whole) == len(test.clips) < len(test)
    assert whole.signature["x"].shape == (None, 40)
    assert whole.lengths()["x"].tolist() == [len(test.sound(number).frames) for number in range(len(whole))]
    batch = whole.batch(range(3))
    assert batch["x_mask"].sum(1).tolist() == whole.lengths()["x"][:3].tolist()
    for number in range(len(whole)):
        assert torch.equal(whole[number]["x"], test.sound(number).frames)
        assert int(whole[number]["speaker"]) == test.utterance(number).label


def test_parts_share_no_utterance_and_hold_every_speaker(root):
    data = speech(root, frames=16)
    parts = data.split(seed=1, valid=True)
    paths = [{clip.path for clip in part.clips} for part in parts]
    assert sum(map(len, paths)) == len(set.union(*paths)) == 30
    for part in parts:
        count = {name: sum(clip.speaker == name for clip in part.clips) for name in data.speakers}
        assert min(count.values()) >= 1
        assert part.speakers == data.speakers
        for number in range(len(part)):  # the owner is whose frames they are
            frames = part.sound(int(part.owner[number])).frames
            window = part[number]["x"]
            assert any(torch.equal(window, frames[at : at + 16]) for at in range(len(frames) - 15))
    train, test = data.split(seed=1)
    assert {clip.path for clip in test.clips} == paths[2]
    assert {clip.path for clip in data.split(seed=2)[1].clips} != paths[2]
    again, held = train.split(seed=1)
    assert len(again) + len(held) == len(train)
    assert {clip.path for clip in held.clips} < {clip.path for clip in train.clips}
    few = held.subset([1, 0], part="few")
    assert torch.equal(few[0]["x"], held[1]["x"])
    with pytest.raises(DataError, match="test_share=1.5"):
        data.split(test_share=1.5)


def test_speakers_are_chosen_and_held_out(root):
    data = speech(root, frames=16, speakers_held_out=("bob",), utterances=4)
    assert data.speakers == ["ann", "cyd"]
    assert len(data.clips) == 8
    assert [clip.path.stem for clip in data.clips] == ["0", "2", "5", "7"] * 2
    unseen = data.unseen
    assert unseen.speakers == ["bob"]
    assert len(unseen.clips) == 4
    assert unseen.signature["speaker"].vocab == 1
    assert data.signature["speaker"].vocab == 2
    assert {clip.speaker for part in data.split(valid=True) for clip in part.clips} == {"ann", "cyd"}
    assert speech(root, frames=16, speakers=("cyd", "bob")).speakers == ["bob", "cyd"]
    assert data.describe()["minutes"].keys() == {"ann", "cyd"}
    with pytest.raises(DataError, match="speakers: no speaker 'bib'. Did you mean 'bob'"):
        speech(root, speakers=("bib",))
    with pytest.raises(DataError, match="speakers_held_out: no speaker 'dan'"):
        speech(root, frames=16, speakers_held_out=("dan",))
    with pytest.raises(DataError, match="no training data is left"):
        speech(root, frames=16, speakers_held_out=("ann", "bob", "cyd"))
    with pytest.raises(DataError, match=r"speakers_held_out=\('ann',\)"):
        _ = speech(root, frames=16).unseen
    with pytest.raises(PartArgumentError, match="utterances=0 must be an integer of at least 1"):
        speech(root, utterances=0)


def test_a_language_is_that_of_the_clips_whose_layout_names_none(root, tmp_path):
    assert {clip.language for clip in speech(root, frames=16).clips} == {None}
    assert {clip.language for clip in speech(root, frames=16, language="de").clips} == {"de"}
    vctk = tmp_path / "vctk"
    for speaker in ("p225", "p226"):
        for take in range(3):
            put(vctk / "wav48" / speaker / f"{take}.wav", voice(0.5, 110, seed=take))
            (vctk / "txt" / speaker).mkdir(parents=True, exist_ok=True)
            (vctk / "txt" / speaker / f"{take}.txt").write_text("hello", "utf-8")
    assert {clip.language for clip in speech(vctk, frames=16, language="de").clips} == {"en"}


def test_one_speaker_is_a_data_set_that_converts_nothing(root, tmp_path):
    for take in range(4):
        put(tmp_path / "alone" / f"{take}.wav", voice(0.5, 120, take))
    data = speech(tmp_path / "alone", frames=16)
    assert data.speakers == ["alone"]
    assert len(data.split()) == 2
    with pytest.raises(
        DataError, match=r"alone holds 1 speaker \(alone\); voice conversion needs at least 2"
    ):
        check_several_speakers(data)
    assert check_several_speakers(speech(root, frames=16)) == ["ann", "bob", "cyd"]


def test_invalid_settings_raise(root, tmp_path):
    for options, message in (
        ({"frames": 0}, "frames=0 must be an integer"),
        ({"stride": 1.5}, "stride=1.5 must be an integer"),
        ({"frames": 5000}, r"none of the 30 utterances of voices\d* is as long as frames=5000 \(50.00 s\)"),
        ({"seconds": 0}, "seconds=0 must be a number above 0"),
        ({"frontend": "wold"}, "Did you mean 'world'"),
    ):
        with pytest.raises(rk.ReprkitError, match=message):
            speech(root, **options)
    with pytest.raises(DataError, match="no folder"):
        speech(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no sound files"):
        speech(tmp_path)


def test_equal_transcripts_are_in_one_part():
    from pathlib import Path

    from reprkit_audio.data.clips import Clip
    from reprkit_audio.data.division import Division, assign_parts

    def clips(text):
        return [
            Clip(path=Path(f"{speaker}/{take}.wav"), speaker=speaker, text=text(speaker, take))
            for speaker in ("ann", "bob")
            for take in range(20)
        ]

    between = clips(lambda speaker, take: f"Sentence {take}." if speaker == "ann" else f"sentence  {take}")
    within = clips(lambda speaker, take: f"{speaker} says {take // 2}")
    for spoken in (between, within):
        parts_of = {}
        for seed in range(3):
            parts = assign_parts(spoken, Division(seed, True, 0.2, 0.1))
            for clip, part in zip(spoken, parts, strict=True):
                parts_of.setdefault((seed, clip.text.lower().replace(" ", "").rstrip(".")), set()).add(part)
        assert all(len(each) == 1 for each in parts_of.values())
    unique = clips(lambda speaker, take: f"{speaker} says {take}")
    assert assign_parts(unique, Division(0, True, 0.2, 0.1)) == assign_parts(
        clips(lambda *_: None), Division(0, True, 0.2, 0.1)
    )


def test_a_speaker_of_few_shared_texts_is_in_every_part(tmp_path):
    from reprkit_audio.data.clips import Clip
    from reprkit_audio.data.division import Division, assign_by_identity, assign_parts

    def clip(speaker, text):
        return Clip(path=tmp_path / f"{speaker}{text}.wav", speaker=speaker, text=f"Text {text}")

    many = [clip(speaker, text) for speaker in ("ann", "bob") for text in range(40)]
    clips = many + [clip("cyd", text) for text in (1, 2, 3)]
    names = [each.text for each in clips]
    for seed in range(10):
        for valid in (True, False):
            division = Division(seed, valid, 0.1, 0.1)
            for parts in (assign_parts(clips, division), assign_by_identity(clips, names, division)):
                found = dict(zip(names, parts, strict=True))
                assert [found[name] for name in names] == parts  # all clips of a text are in one part
                for speaker in ("ann", "bob", "cyd"):
                    own = {part for each, part in zip(clips, parts, strict=True) if each.speaker == speaker}
                    assert own == {"train", "test", *(["valid"] if valid else [])}
    with pytest.raises(DataError, match="speaker 'cyd' has too few clips in the .* part"):
        assign_parts([*many, clip("cyd", 1)], Division(0, True, 0.1, 0.1))


def test_many_speakers_of_few_shared_texts_are_in_every_part(tmp_path):
    from reprkit_audio.data.clips import Clip
    from reprkit_audio.data.division import Division, assign_parts

    generator = np.random.default_rng(0)
    clips = [
        Clip(path=tmp_path / f"{speaker} {text}.wav", speaker=f"speaker {speaker}", text=f"Text {text}")
        for speaker in range(300)
        for text in generator.choice(900, 8, replace=False).tolist()
    ]
    parts = {valid: assign_parts(clips, Division(0, valid, 0.2, 0.1)) for valid in (True, False)}
    for valid, found in parts.items():
        said = {(clip.speaker, part) for clip, part in zip(clips, found, strict=True)}
        assert len(said) == 300 * (2 + valid)
        assert len({(clip.text, part) for clip, part in zip(clips, found, strict=True)}) == len(
            {clip.text for clip in clips}
        )
    tested = [[part == "test" for part in found] for found in parts.values()]
    assert tested[0] == tested[1]  # everyone has texts enough


@pytest.mark.parametrize("shared", [False, True])
def test_further_clips_change_no_others_part(shared, tmp_path):
    from reprkit_audio.data.clips import Clip
    from reprkit_audio.data.division import Division, assign_by_identity, text_identity

    def clips(count):
        return [
            Clip(
                path=tmp_path / speaker / f"{number}.wav",
                speaker=speaker,
                text=f"Say {number}!" if shared else None,
            )
            for speaker in ("ann", "bob", "cyd")
            for number in range(count)
        ]

    def parts(count):
        found = clips(count)
        names = [text_identity(clip, tmp_path) for clip in found]
        assigned = assign_by_identity(found, names, Division(4, True, 0.2, 0.1))
        return dict(zip(((clip.speaker, clip.path.stem) for clip in found), assigned, strict=True))

    before, after = parts(40), parts(60)
    assert {key: after[key] for key in before} == before
    for speaker in ("ann", "bob", "cyd"):
        mine = [part for (who, _), part in after.items() if who == speaker]
        assert {part: mine.count(part) for part in set(mine)}.keys() == {"train", "valid", "test"}
        assert 4 < mine.count("test") < 22
    if shared:
        assert all(after["ann", str(number)] == after["bob", str(number)] for number in range(60))
    with pytest.raises(DataError, match="speaker 'ann': 2 examples are too few"):
        parts(2) if not shared else assign_by_identity(clips(2)[:2], ["a", "b"], Division(0, True, 0.2, 0.1))
