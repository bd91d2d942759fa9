"""Data set sounding: pictures with sounds of a folder and of Debian's packages, and the statistics of their textures."""

import itertools
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from reprkit_audio import audio_visual
from reprkit_audio.commands import fetch
from reprkit_audio.data.sounding import Sounding
from reprkit_audio.fetching import fetch_pairs
from reprkit_audio.frontends import frontend
from reprkit_audio.gathering_pairs import group_names, pairs_folder
from reprkit_audio.sound_texture import modulation_count, texture, texture_size

import reprkit as rk
from reprkit.data import sound
from reprkit.errors import DataError, PartArgumentError, ReprkitError
from reprkit.evaluation import activations
from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks

RATE = 16_000
FRONT = frontend("log-mel(bands=32)")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_pair(folder, name, number, seconds=0.5, suffix=".wav", mode="RGB"):
    """Write a picture of one gray value and noise."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 10, 3), 20 * number, np.uint8)).convert(mode).save(f"{path}.png")
    wave = 0.1 * np.random.default_rng(number).normal(size=round(seconds * RATE))
    soundfile.write(f"{path}{suffix}", wave, RATE)


@pytest.fixture
def album(tmp_path):
    for number, name in enumerate(("cow/one", "cow/two", "dog/one", "horn")):
        write_pair(tmp_path, name, number, 0.5 + number / 4, suffix=".ogg" if number == 1 else ".wav")
    return tmp_path


def test_pictures_and_sounds_of_equal_names_are_pairs(album):
    data = rk.dataset(f"sounding(root={str(album)!r}, size=8)")
    assert data.names == ["cow/one", "cow/two", "dog/one", "horn"]
    assert data.identities() == data.names
    assert [path.name for path in data.sounds] == ["one.wav", "two.ogg", "one.wav", "horn.wav"]
    batch = data.batch([3, 0])
    torch.testing.assert_close(batch["x"][0], torch.full((8, 8, 3), 60 / 255))
    frames = FRONT.analyze(sound.read(album / "cow/one.wav")).frames
    assert batch["sound_mask"].sum(1).tolist() == [len(data[3]["sound"]), len(frames)]
    torch.testing.assert_close(batch["sound"][1][: len(frames)], frames)
    torch.testing.assert_close(batch["texture"][1], texture(frames, FRONT))
    assert data.signature["sound"].form == FRONT.form
    assert Sounding(album, 8, group="folder").identities() == ["cow", "cow", "dog", ""]


def test_it_conforms(album):
    case = DatasetConformance()
    case.part = f"sounding(root={str(album)!r}, size=8)"
    assert failed_checks(case) == {}


def test_what_is_left_out_is_named(album):
    Image.new("RGB", (9, 9)).save(album / "mute.png")
    soundfile.write(album / "silent.wav", np.zeros(RATE), RATE)
    Image.new("RGB", (9, 9)).save(album / "silent.png")
    (album / "broken.png").write_bytes(b"no picture")
    shutil.copy(album / "horn.wav", album / "broken.wav")
    soundfile.write(album / "horn.flac", np.ones(RATE), RATE)
    shutil.copy(album / "horn.wav", album / "alone.wav")
    (album / "clip.mp4").write_bytes(b"film")
    with pytest.raises(DataError, match="only 4 of the 8 pairs in .* can be read"):
        Sounding(album, 8)
    data = Sounding(album, 8, max_corrupt=0.5)
    reasons = {entry["name"]: entry["why"] for entry in data.facts["skipped"]}
    assert "ffmpeg -i NAME.mp4" in reasons["clip.mp4"]
    assert "there is no sound mute.wav" in reasons["mute.png"]
    assert "it is silent" in reasons["silent.png"]
    assert "UnidentifiedImageError" in reasons["broken.png"]
    ignored = {rule: entry["names"] for rule, entry in data.facts["ignored"].items()}
    assert ignored == {
        "a second sound of its name": ["horn.wav"],
        "a sound without a picture of its name": ["alone.wav"],
    }
    assert data.sounds[-1].name == "horn.flac"


def test_long_sounds_are_cut_and_counted(album):
    data = Sounding(album, 8, seconds=0.8)
    assert data.lengths()["sound"].max() == FRONT.count(round(0.8 * RATE))
    assert data.facts["cut_count"] == 2


def test_refusals(album, tmp_path_factory):
    with pytest.raises(DataError, match="fetch them .*: reprkit voice fetch sounding"):
        Sounding()
    films = tmp_path_factory.mktemp("films")
    (films / "clip.mov").write_bytes(b"film")
    with pytest.raises(DataError, match=r"(?s)holds no pictures and sounds.*clip\.mov: videos are not read"):
        Sounding(films)
    shutil.copy(album / "horn.wav", films / "horn.wav")
    (films / "clip.mov").unlink()
    with pytest.raises(DataError, match="holds sounds, and no picture of the name of one"):
        Sounding(films)
    with pytest.raises(PartArgumentError, match="is not log-mel"):
        Sounding(album, frontend="world")
    with pytest.raises(PartArgumentError, match="is of the fetched pairs"):
        Sounding(album, package="qabcs")


def test_names_that_share_a_word_are_one_group():
    names = [
        "tuxpaint-a--cow",
        "qabcs-b--cow_white",
        "qabcs-b--x-ray",
        "tuxpaint-a--drums",
        "qabcs-b--slit_drum",
    ]
    assert group_names(names) == ["cow", "cow", "ray", "drum", "drum"]
    # Also by way of a third; the word of the source and single letters join nothing.
    assert group_names(["q-b--red_cap", "q-b--red_cow", "q-b--cow_2"]) == ["cow"] * 3
    assert group_names(["q-b--7", "q-b--glass", "q-b--bus"]) == ["7", "glass", "bus"]


def build_packages(folder):
    """Build small versions of both packages, and return their folder."""
    stamps, things = folder / "stamps", folder / "things"
    root = stamps / "usr/share/tuxpaint/stamps"
    write_pair(root, "animals/birds/owl", 1, suffix=".ogg", mode="RGBA")
    write_pair(root, "animals/cow_white", 2, suffix=".ogg")
    write_pair(root, "symbols/alphabets/a", 3, suffix=".ogg")
    Image.new("RGB", (9, 9)).save(root / "animals/mute.png")
    soundfile.write(root / "animals/mute_desc_fr.ogg", np.ones(RATE) / 9, RATE)
    Image.new("RGB", (9, 9)).save(root / "animals/giraffe.png")
    soundfile.write(root / "animals/giraffe.ogg", np.zeros(RATE), RATE)
    all_things = things / "usr/share/qabcs/abcs/all"
    write_pair(all_things, "pics/animals/cow", 4, suffix=".ogg")
    (all_things / "noises").mkdir()
    (all_things / "pics/animals/cow.ogg").rename(all_things / "noises/cow.ogg")
    square = Image.new("RGBA", (600, 400))
    square.paste((255, 0, 0, 255), (100, 100, 500, 300))
    square.save(all_things / "pics/animals/cow.png")
    for tree, name in ((stamps, "tuxpaint-stamps-default"), (things, "qabcs-data")):
        (tree / "usr/share/doc" / name).mkdir(parents=True)
        (tree / "usr/share/doc" / name / "copyright").write_text(f"License of {name}")
        (tree / "DEBIAN").mkdir()
        control = f"Package: {name}\nVersion: 3\nArchitecture: all\nMaintainer: a <a@b.cd>\nDescription: x\n"
        (tree / "DEBIAN/control").write_text(control)
        deb = folder / f"{name}_3_all.deb"
        command = ["dpkg-deb", "--build", "--root-owner-group", tree, deb]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="builds Debian packages")
def test_pairs_are_fetched_from_package_files(tmp_path, capsys):
    debs = build_packages(tmp_path)
    for _ in range(2):  # the second time over the first
        fetch("sounding", None, debs)
    assert "3 pictures with sounds" in capsys.readouterr().out
    data = rk.dataset("sounding(size=8)")
    assert data.names == [
        "cow/qabcs-animals--cow",
        "cow/tuxpaint-animals--cow_white",
        "owl/tuxpaint-animals-birds--owl",
    ]
    assert data.identities() == ["cow", "cow", "owl"]
    assert rk.dataset("sounding(size=8, package='qabcs')").names == data.names[:1]
    red = data[0]["x"]  # the cut-out in the middle of a square, on white
    torch.testing.assert_close(red[4, 4], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(red[0, 4], torch.ones(3))
    with Image.open(pairs_folder() / f"{data.names[0]}.png") as picture:
        assert picture.size == (256, 256)
    for name in ("tuxpaint-stamps-default", "qabcs-data"):
        assert (pairs_folder() / f"copyright-{name}").read_text() == f"License of {name}"
    with pytest.raises(ReprkitError, match="sounding has no languages"):
        fetch("sounding", ["fr"], debs)
    shutil.rmtree(debs / "things/usr/share/qabcs")
    (debs / "qabcs-data_3_all.deb").unlink()
    with pytest.raises(ReprkitError, match=r"no qabcs-data_\*\.deb in"):
        fetch_pairs(debs)
    assert len(rk.dataset("sounding(size=8)")) == 3


def reference_texture(frames):
    """The statistics by NumPy, from the description."""
    envelopes = (np.exp(frames.double().numpy() * 3.0 - 5.3)) ** 0.3
    level = envelopes.mean()
    envelopes = envelopes / level
    centered = envelopes - envelopes.mean(0)
    rate = RATE / 256
    size = max(len(frames), 250)  # four seconds
    power = np.abs(np.fft.rfft(centered, size, axis=0)) ** 2
    hertz = np.fft.rfftfreq(size, 1 / rate)
    edges = 0.5 * 2.0 ** np.arange(modulation_count(FRONT) + 1)
    shares = [
        power[(hertz >= low) & (hertz < high)].sum(0) / power.sum(0)
        for low, high in itertools.pairwise(edges)
    ]
    correlations = np.corrcoef(envelopes.T)[np.triu_indices(32, 1)]
    parts = [envelopes.mean(0), envelopes.std(0), np.stack(shares, 1).ravel(), correlations, [np.log(level)]]
    return torch.from_numpy(np.concatenate(parts)).float()


@pytest.mark.parametrize("seconds", [0.7, 5.0])
def test_statistics_equal_the_definition(seconds):
    time = torch.arange(round(seconds * RATE)) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    frames = FRONT.analyze(0.05 * noise * (1 + torch.sin(2 * torch.pi * 6 * time))).frames
    found = texture(frames, FRONT)
    assert found.shape == (texture_size(FRONT),) == (753,)
    torch.testing.assert_close(found, reference_texture(frames), rtol=1e-4, atol=1e-5)


def test_statistics_say_how_a_sound_sounds():
    time = torch.arange(4 * RATE) / RATE
    noise = 0.05 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    beats = noise * (1 + torch.sin(2 * torch.pi * 6 * time))
    steady, moving, loud = (texture(FRONT.analyze(wave).frames, FRONT) for wave in (noise, beats, 4 * beats))
    torch.testing.assert_close(loud[:-1], moving[:-1], rtol=1e-3, atol=1e-3)
    assert loud[-1] - moving[-1] == pytest.approx(0.3 * np.log(4), abs=1e-3)
    octaves = [each[64 : 64 + 32 * 6].reshape(32, 6).mean(0) for each in (steady, moving)]
    assert octaves[1].argmax() == 3  # 4 to 8 Hz
    assert octaves[1][3] > 3 * octaves[0][3]
    assert moving[-497:-1].mean() > 0.7 > 0.2 > steady[-497:-1].mean()


def test_a_steady_tone_has_finite_statistics():
    still = torch.zeros(40, 32)
    found = texture(still, FRONT)
    assert found.isfinite().all()
    assert found[32:-1].abs().max() < 1e-12


def test_sounds_are_described_by_those_of_train_alone():
    rng = np.random.default_rng(0)
    textures = np.concatenate(
        [rng.normal(0, 1, (10, 6)), rng.normal(5, 1, (10, 6)), rng.normal(0, 99, (5, 6))]
    )
    train = np.arange(20)
    targets = audio_visual.describe_sounds(textures, train, 3, 2, 0)
    again = audio_visual.describe_sounds(np.concatenate([textures[:20], 7 * textures[20:]]), train, 3, 2, 0)
    assert targets.vectors.shape == (25, 3)
    np.testing.assert_array_equal(targets.vectors[:20], again.vectors[:20])
    assert targets.vectors[:20].std() == pytest.approx(1)
    assert len(set(targets.clusters[:10])) == len(set(targets.clusters[10:20])) == 1
    assert targets.clusters[0] != targets.clusters[10]
    np.testing.assert_allclose(targets.centers[targets.clusters[0]], targets.vectors[:10].mean(0), rtol=1e-4)
    with pytest.raises(DataError, match="5 sounds to train on are too few for 6 clusters"):
        audio_visual.describe_sounds(textures, np.arange(5), 3, 6, 0)


def test_ranks_recall_and_gains():
    sounds = np.eye(4)
    pictures = np.array([[1, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], float)
    ranks = audio_visual.ranks_of_own(audio_visual.similarities(pictures, sounds))
    assert ranks.tolist() == [1, 2, 3, 4]  # equal ones come before it
    ranks, other = np.array([1, 5, 6, 9]), np.array([9, 9, 1, 9])
    found = audio_visual.recall(ranks, {"other": other}, at=(1, 5))
    assert found["recall_at_1"] == 0.25
    assert found["recall_at_5"] == 0.5
    assert found["over_other"] == 0.25  # 1, 1, -1, 0
    assert found["over_other_error"] == pytest.approx(np.std([1, 1, -1, 0], ddof=1) / 2)
    assert audio_visual.chance([10, 4], at=(1, 5)) == {"recall_at_1": 2 / 14, "recall_at_5": 9 / 14}


def test_ridge_regression_finds_a_linear_map():
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(60, 4))
    sounds = pictures @ rng.normal(size=(4, 3)) + 2
    found = audio_visual.regress(pictures, sounds, np.arange(50), np.arange(50, 60))
    np.testing.assert_allclose(found, sounds[50:], atol=0.2)


def test_units_and_clusters_of_a_model(album):
    data = Sounding(album, 8)
    values = {"x": data.batch(range(4))["x"], "cluster": torch.tensor([0, 1, 0, 1])}
    pairs = rk.data.Arrays(values, kinds={"cluster": "label"}, ranges={"x": (0, 1)}, vocabs={"cluster": 2})
    model = rk.build(
        data=pairs,
        encoder="conv(width=8, depth=1)",
        latent="continuous(dim=4)",
        objective="classify(label='cluster')",
    )
    centers = np.array([[0.0, 0], [2, 4]])
    # The head starts at zero, so that both clusters are equally probable.
    np.testing.assert_allclose(audio_visual.expected_sounds(model, pairs, centers), [[1, 2]] * 4)
    figure = audio_visual.exciting_pictures(model, pairs, data.names, units=3, shown=2)
    seen = activations(model, pairs)["features"]
    assert len(figure.rows) == 3
    for label, row in figure.rows.items():
        unit = int(label.partition(":")[0])
        np.testing.assert_allclose(row[0], values["x"][seen[:, unit].argmax()])
    similarity = np.array([[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    pictures, players = audio_visual.retrieved_sounds(pairs, similarity, data.names, data.sounds, shown=2)
    assert len(pictures.rows["picture"]) == 2
    assert players.notes["1. cow/one"] == {"own sound": "rank 4 of 4", "found first": "cow/two"}
    np.testing.assert_allclose(players.rows["1. cow/one"]["found first"], sound.read(data.sounds[1]).numpy())
