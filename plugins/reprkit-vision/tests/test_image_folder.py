import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.errors import DataError
from reprkit.testing.kit import failed_checks, make_case

GENERATOR = np.random.default_rng(0)


def save_image(path, size=(20, 16), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    pixels = GENERATOR.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def fill_folder(root, counts=(12, 9)):
    for name, count in zip(("cat", "dog"), counts, strict=True):
        for number in range(count):
            save_image(root / name / f"{number:02}.png")
    return root


def folder(root, **options):
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    return rk.dataset(f"reprkit-vision/image-folder(root={str(root)!r}, size=16{arguments})")


def read_single(tmp_path, name, image, **options):
    """Save one image to a folder and read it with the data set."""
    path = tmp_path / "one" / "class" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return folder(tmp_path / "one", **options)[0]["x"]


@pytest.mark.parametrize("official", [False, True])
def test_it_conforms(tmp_path, official):
    for name in ("train", "test") if official else ("",):
        fill_folder(tmp_path / name)
    part = f"reprkit-vision/image-folder(root={str(tmp_path)!r}, size=8)"
    assert failed_checks(make_case("dataset", part, "images")) == {}


def test_labels_are_the_folders_and_images_are_center_cropped(tmp_path):
    fill_folder(tmp_path)
    pixels = save_image(tmp_path / "dog" / "last.png", (32, 16))
    data = folder(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert data.batch(range(len(data)))["label"].tolist() == [0] * 12 + [1] * 10
    assert torch.equal(data[21]["x"], torch.from_numpy(pixels[:, 8:24]).float() / 255)


def test_official_parts_are_preserved(tmp_path):
    for name, counts in (("train", (12, 8)), ("val", (2, 3)), ("test", (4, 1))):
        fill_folder(tmp_path / name, counts)
    data = folder(tmp_path)
    assert [len(part) for part in data.split(valid=True)] == [20, 5, 5]
    assert [len(part) for part in data.split()] == [20, 5]
    _train, valid, test = data.split(valid=True)
    assert valid.batch(range(5))["label"].tolist() == [0, 0, 1, 1, 1]
    assert test.batch(range(5))["label"].tolist() == [0, 0, 0, 0, 1]
    with pytest.raises(DataError, match="official test part"):
        data.split(test_share=0.3)
    two = fill_folder(tmp_path / "two" / "train", (10, 10)) and fill_folder(tmp_path / "two" / "val", (2, 2))
    assert [len(part) for part in folder(two.parent).split(valid=True)] == [18, 2, 4]
    save_image(tmp_path / "two" / "val" / "odd" / "one.png")
    with pytest.raises(DataError, match="and its train part differ in classes: odd"):
        folder(tmp_path / "two")
    fill_folder(tmp_path / "alone" / "train")
    with pytest.raises(DataError, match="neither 'test' nor 'val'"):
        folder(tmp_path / "alone")


def test_gray_and_color_images_are_converted(tmp_path):
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    color = read_single(tmp_path, "gray.png", Image.fromarray(gray))
    assert torch.equal(color, torch.from_numpy(gray).float()[..., None].expand(16, 16, 3) / 255)
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 1] = 255
    read_single(tmp_path, "gray.png", Image.fromarray(pixels))
    assert torch.allclose(folder(tmp_path / "one", gray=True)[0]["x"], torch.tensor(0.587), atol=4e-3)


def test_transparent_pixels_become_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8, 3] = 255
    pixels[:, 8:, 0] = 200  # hidden under full transparency
    x = read_single(tmp_path, "clear.png", Image.fromarray(pixels))
    assert torch.equal(x[:, :8], torch.zeros(16, 8, 3))
    assert torch.equal(x[:, 8:], torch.ones(16, 8, 3))


def test_sixteen_bit_images_are_converted_to_eight(tmp_path):
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    x = read_single(tmp_path, "deep.png", Image.fromarray(deep))
    assert torch.equal(x[..., 0].flatten() * 255, torch.arange(256).float())
    palette = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("P")
    assert read_single(tmp_path, "palette.png", palette).shape == (16, 16, 3)


def test_exif_rotation_is_applied(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the right
    path = tmp_path / "one" / "class" / "turned.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(pixels).save(path, exif=exif)
    x = folder(tmp_path / "one")[0]["x"]
    assert torch.equal(x[:, 8:], torch.ones(16, 8, 3))
    assert torch.equal(x[:, :8], torch.zeros(16, 8, 3))


def test_tiny_images_are_enlarged(tmp_path):
    fill_folder(tmp_path)
    Image.fromarray(np.full((1, 1, 3), 51, np.uint8)).save(tmp_path / "cat" / "dot.png")
    assert torch.allclose(folder(tmp_path)[12]["x"], torch.full((16, 16, 3), 0.2))


@pytest.mark.parametrize("official", [False, True])
def test_unreadable_files_are_skipped_and_listed(tmp_path, official):
    where = tmp_path / "test" if official else tmp_path
    fill_folder(where, (20, 20))
    if official:
        fill_folder(tmp_path / "train")
    (where / "cat" / "text.jpg").write_text("no image")
    (where / "cat" / "notes.txt").write_text("not read")
    (where / "dog" / "03.png").write_bytes((where / "dog" / "03.png").read_bytes()[:100])
    Image.fromarray(np.zeros((16, 16), np.float32)).save(where / "dog" / "real.tif")
    data = folder(tmp_path, max_corrupt=0.1)
    assert len(data) == 39 + 21 * official
    assert data.facts["skipped_count"] == 3
    prefix = "test/" if official else ""
    assert [each["name"] for each in data.facts["skipped"]] == [
        f"{prefix}cat/text.jpg",
        f"{prefix}dog/03.png",
        f"{prefix}dog/real.tif",
    ]
    with pytest.raises(DataError, match=r"only 39 of the 42 images .*\n.*text.jpg"):
        folder(tmp_path)


def test_missing_and_empty_folders_raise(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        folder(tmp_path / "nowhere")
    save_image(tmp_path / "flat" / "one.png")

    with pytest.raises(DataError, match="lies directly in"):
        folder(tmp_path / "flat")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        folder(tmp_path / "empty")


def test_a_patch_that_does_not_divide_the_images_raises(tmp_path):
    data = folder(fill_folder(tmp_path))
    with pytest.raises(
        rk.ReprkitError, match=r"patch=5 does not divide images of 16 x 16; these do: 1, 2, 4"
    ):
        rk.build(data=data, encoder="vit(patch=5)", objective="contrastive")


def test_files_of_all_parts_are_accounted_for(tmp_path):
    levels = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    for part in ("train", "test"):
        for kind in ("a", "b"):
            (tmp_path / part / kind).mkdir(parents=True)
            Image.fromarray(levels).save(tmp_path / part / kind / "1.png")
        (tmp_path / part / "list.csv").write_text("")
    (tmp_path / "README.md").write_text("")
    (tmp_path / ".cache").mkdir()
    data = rk.dataset(f"image-folder(root={str(tmp_path)!r}, size=16, range=(0, 4095))")
    assert len(data[0]["x"][..., 0].unique()) == 256
    assert data.facts["ignored"] == {
        "hidden": {"count": 1, "names": [".cache"]},
        "outside of the official parts": {"count": 1, "names": ["README.md"]},
        "suffix .csv": {"count": 2, "names": ["train/list.csv", "test/list.csv"]},
    }
    assert data.facts["ignored_count"] == 4
    assert data.split()[0].facts["classes"] == ["a", "b"]


def test_further_images_change_no_others_part(tmp_path):
    def parts(root):
        data = folder(root)
        return [
            {data.identities()[index] for index in part.indices.tolist()}
            for part in data.split(seed=5, valid=True)
        ]

    before = parts(fill_folder(tmp_path))
    save_image(tmp_path / "cat" / "0.png")
    save_image(tmp_path / "dog" / "another.png")
    assert [part - {"cat/0.png", "dog/another.png"} for part in parts(tmp_path)] == before
    assert sum(map(len, before)) == 21
