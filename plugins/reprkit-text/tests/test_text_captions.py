"""Pictures with texts: drawn scenes, folders and tables of one's own, tuxpaint's stamps."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from reprkit_text.data.captions import Captions
from reprkit_text.data.drawn_scenes import COLORS, SHAPES, DrawnScenes
from reprkit_text.data.named_stamps import NamedStamps

import reprkit as rk
from reprkit.errors import DataError
from reprkit.testing import DatasetConformance


class TestDrawnScenes(DatasetConformance):
    part = "drawn-scenes(size=16)"


@pytest.fixture(scope="module")
def scenes():
    return DrawnScenes()


def test_every_scene_has_one_sentence(scenes):
    assert len(scenes) == 12640 == len(set(scenes.texts))
    batch = scenes.batch([0, 5000])
    for row in range(2):
        symbols = batch["text"][row][batch["text_mask"][row]]
        assert scenes.vocabulary.decode(symbols) == scenes.texts[[0, 5000][row]]
        assert symbols[-1] == scenes.vocabulary.end


def test_labels_are_the_words(scenes):
    rows = list(range(0, len(scenes), 997))
    batch = scenes.batch(rows)
    for place, row in enumerate(rows):
        names = {
            name: scenes.signature[name].classes[int(batch[name][place])]
            for name in scenes.signature.label_fields()
        }
        first = f"a {names['size_1']} {names['color_1']} {names['shape_1']}"
        second = f"a {names['size_2']} {names['color_2']} {names['shape_2']}"
        assert scenes.texts[row] == f"{first} {names['relation']} {second}"


def test_pictures_match_their_sentences(scenes):
    """Where the objects are, and in which color: the middle of the brightest pixels of each half."""
    rows = torch.arange(0, len(scenes), 211)
    batch = scenes.batch(rows)
    colors = torch.tensor(list(COLORS.values()))
    for row in range(len(rows)):
        picture = batch["x"][row]
        picture = picture if batch["relation"][row] == 0 else picture.transpose(0, 1)
        for half, place in ((picture[:, :16], 1), (picture[:, 16:], 2)):
            pixels = half.reshape(-1, 3)
            brightest = pixels[(pixels - pixels.median(0).values).abs().sum(1).argmax()]
            nearest = torch.cosine_similarity(brightest[None], colors).argmax()
            assert nearest == batch[f"color_{place}"][row]
    large, small = (
        (batch["size_1"] == size) & (batch["size_2"] == size) & (batch["relation"] == 0) for size in (1, 0)
    )
    background = batch["x"][:, :1, :1]
    covered = ((batch["x"] - background).abs().sum(-1) > 0.1).float().mean((1, 2))
    assert covered[large].mean() > 2 * covered[small].mean()


def test_pairs_of_the_test_part_are_nowhere_else(scenes):
    train, valid, test = scenes.split(seed=3, valid=True)
    assert len(train) + len(valid) + len(test) == len(scenes)

    def pairs(part):
        labels = {name: part.label_values(name) for name in ("color_1", "shape_1", "color_2", "shape_2")}
        return {
            place: set(zip(labels[f"color_{place}"].tolist(), labels[f"shape_{place}"].tolist(), strict=True))
            for place in (1, 2)
        }

    seen, held = pairs(train), pairs(test)
    new = (held[1] | held[2]) - (seen[1] | seen[2])
    assert len(new) == len(SHAPES)
    assert {shape for _, shape in new} == set(range(len(SHAPES)))
    assert not new & (pairs(valid)[1] | pairs(valid)[2])
    assert set(test.indices.tolist()) == set(scenes.split(seed=4)[1].indices.tolist())
    # Each color and each shape alone is seen.
    assert {color for color, _ in seen[1]} == set(range(len(COLORS)))


def test_pictures_depend_on_the_seed_alone():
    rows = [3, 400]
    one, same, other = (DrawnScenes(16, seed=seed).batch(rows)["x"] for seed in (0, 0, 1))
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one, other)


@pytest.fixture
def album(tmp_path):
    """A folder of four pictures, two with a text, one without, one with an empty one; and a text alone."""
    for number, name in enumerate(("cat", "deep/dog", "bird", "mute")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((10, 12, 3), 60 * number, np.uint8)).save(path)
    (tmp_path / "cat.txt").write_text("A cat, asleep.\n", encoding="utf-8")
    (tmp_path / "deep/dog.txt").write_text("ein Hund für alle", encoding="utf-8")
    (tmp_path / "mute.txt").write_text("  \n", encoding="utf-8")
    (tmp_path / "lost.txt").write_text("no picture", encoding="utf-8")
    return tmp_path


def test_a_folder_of_pictures_and_texts(album):
    with pytest.raises(DataError, match="only 2 of the 4 pairs in .* can be read"):
        Captions(album)
    data = Captions(album, 8, max_corrupt=0.5)
    assert data.texts == ["A cat, asleep.", "ein Hund für alle"]
    assert data.identities() == ["cat.png", "deep/dog.png"]
    assert {entry["name"]: entry["why"] for entry in data.facts["skipped"]} == {
        "bird.png": "there is no text bird.txt beside it",
        "mute.png": "mute.txt is empty",
    }
    assert data.facts["ignored"]["a text without a picture of its name"]["names"] == ["lost.txt"]
    torch.testing.assert_close(data.batch([1])["x"], torch.full((1, 8, 8, 3), 60 / 255))
    assert data.vocabulary.decode(data[0]["text"]) == "a cat, asleep."


def write_table(album, name, rows):
    path = album / name
    if name.endswith(".csv"):
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_tables(album, name):
    rows = [
        {"file_name": "cat.png", "text": "a cat", "kind": "pet"},
        {"file_name": "deep/dog.png", "text": "a dog, running", "kind": "pet"},
        {"file_name": "bird.png", "text": "a bird", "kind": "wild"},
    ]
    data = Captions(write_table(album, name, rows), 8, group="kind")
    assert data.texts == ["a cat", "a dog, running", "a bird"]
    train, test = data.split()
    assert {data.identities()[row] for row in train.indices} & {
        data.identities()[row] for row in test.indices
    } == set()


def test_several_texts_of_a_picture_and_several_keys(album):
    rows = [
        {"file_name": "cat.png", "text": ["a cat", "sleeping"], "de": "Katze"},
        {"file_name": "bird.png", "text": "a bird"},
    ]
    path = write_table(album, "metadata.jsonl", rows)
    assert Captions(album, 8).texts == ["a cat", "sleeping", "a bird"]
    data = Captions(path, 8, text=("text", "de"))
    assert data.texts == ["a cat", "sleeping", "Katze", "a bird"]
    assert data.identities() == ["cat.png"] * 3 + ["bird.png"]
    assert data.facts["pictures"] == 2


def test_broken_rows_are_named(album):
    (album / "broken.png").write_bytes(b"no picture")
    path = write_table(
        album,
        "pairs.jsonl",
        [
            {"file_name": "cat.png", "text": "a cat"},
            {"file_name": "broken.png", "text": "what"},
            {"text": "a dog"},
            {"file_name": "gone.png", "text": "gone"},
        ],
    )
    with path.open("a") as file:
        file.write("\nno json\n[1]\n")
    data = Captions(path, 8, max_corrupt=0.9)
    assert data.texts == ["a cat"]
    reasons = {entry["name"]: entry["why"] for entry in data.facts["skipped"]}
    assert set(reasons) == {
        "broken.png",
        "gone.png",
        "pairs.jsonl, row 3",
        "pairs.jsonl, row 5",
        "pairs.jsonl, row 6",
    }
    assert "UnidentifiedImageError" in reasons["broken.png"]
    assert "FileNotFoundError" in reasons["gone.png"]


def test_what_is_no_set_of_pairs(album):
    path = write_table(album, "pairs.jsonl", [{"image": "cat.png", "caption": "a cat"}])
    with pytest.raises(
        DataError, match=r"(?s)has no 'file_name'.*its keys: 'image', 'caption'; name the right ones"
    ):
        Captions(path, 8, max_corrupt=1.0)
    assert Captions(path, 8, file="image", text="caption").texts == ["a cat"]
    with pytest.raises(DataError, match="no folder or file"):
        Captions(album / "none")
    with pytest.raises(
        DataError, match=r"is no table of pictures and texts: give a folder, or a file that ends in .csv"
    ):
        Captions(album / "lost.txt")


@pytest.fixture
def stamps(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path))
    folder = tmp_path / "vision" / "stamps"
    folder.mkdir(parents=True)
    rows = []
    for number, (name, german) in enumerate(
        (("An apple.", "Ein Apfel."), ("A pear.", None), ("An apple.", "Apfel"))
    ):
        Image.new("RGBA", (6, 6), (40 * number, 0, 0, 255)).save(folder / f"{number}.png")
        rows.append(
            {"file_name": f"{number}.png", "text": name, "en": name} | ({"de": german} if german else {})
        )
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_stamps_by_language(stamps):
    assert NamedStamps(8).texts == ["An apple.", "A pear.", "An apple."]
    data = NamedStamps(8, languages=("en", "de"))
    assert data.texts == ["An apple.", "Ein Apfel.", "A pear.", "An apple.", "Apfel"]
    assert data.identities() == ["An apple."] * 2 + ["A pear."] + ["An apple."] * 2
    assert NamedStamps(8, languages=("de",)).facts["skipped_count"] == 1
    with pytest.raises(DataError, match="no stamp has a name in 'fr'"):
        NamedStamps(8, languages=("fr",))
    (stamps / "metadata.jsonl").unlink()
    with pytest.raises(DataError, match="fetched by an earlier version"):
        NamedStamps(8)


def test_prompts_are_encoded_as_texts():
    """A trained model reads raw texts by the field's vocabulary, alone and padded."""
    data = DrawnScenes(16)
    factors = {
        "image": rk.factor("conv(width=8)", "continuous(dim=4)"),
        "text": rk.factor("transformer(width=16, depth=1, heads=2)", "continuous(dim=6)", input="text"),
    }
    model = rk.build(data=data, factors=factors, objective="across(dim=5)").eval()
    rows = [0, 7777]
    prompts = [data.texts[row] for row in rows]
    found = model.joint_vectors({"text": prompts}, "text", to="torch")
    torch.testing.assert_close(found, model.joint_vectors(data.batch(rows), "text", to="torch"))
    one = model.joint_vectors({"text": prompts[1]}, "text", to="numpy")
    np.testing.assert_allclose(one, found[1:].numpy(), rtol=1e-5, atol=1e-6)
