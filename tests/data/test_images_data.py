import json
import multiprocessing
import pickle
import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from conformance import check_conformance
from PIL import Image

import reprkit as rk
from reprkit.commands import main
from reprkit.data import Order, loader
from reprkit.data.formats.image_files import read_image
from reprkit.data.formats.images import Images
from reprkit.errors import DataError, PartArgumentError


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for kind in ("b", "a"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for number in range(10):
            values = generator.integers(0, 256, (12 + number, 9, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "set" / kind / f"{number}.png")
    return tmp_path / "set"


@pytest.mark.parametrize("cached", [False, True])
def test_folder_conforms_in_order_with_classes(folder, tmp_path, cached):
    data = Images(folder, (8, 6), labels=True, cache=tmp_path / "cache" if cached else None)
    check_conformance(data)
    assert data.files == [f"{kind}/{number}.png" for kind in "ab" for number in range(10)]
    assert data.describe()["classes"] == ["a", "b"]
    assert data.batch(range(20))["label"].tolist() == [0] * 10 + [1] * 10
    direct = read_image(folder / "b/3.png", (8, 6)).astype(np.float32) / 255
    assert np.array_equal(data[13]["x"].numpy(), direct)


def test_labels_are_known_without_reading_images(folder, monkeypatch):
    data = Images(folder, 8, labels=True)
    monkeypatch.setattr(Images, "batch", lambda *_: pytest.fail("read an image"))
    assert data.label_values("label").tolist() == [0] * 10 + [1] * 10
    assert data.subset([3, 15]).label_values("label").tolist() == [0, 1]


def test_images_beyond_memory_are_decoded_again_identically(folder, monkeypatch):
    kept = Images(folder, 8).batch(range(20))["x"]
    monkeypatch.setattr("reprkit.data.formats.images.MEMORY", 0)
    data = Images(folder, 8)
    assert data._store is None
    assert torch.equal(data.batch(range(20))["x"], kept)
    (folder / "a/4.png").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"a/4\.png.*no longer is"):
        data.batch([4])


def test_cache_is_reused_until_a_file_changes(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = Images(folder, 8, cache=cache).batch(range(20))["x"]
    with monkeypatch.context() as patched:
        patched.setattr(
            "reprkit.data.formats.images.read_image", lambda *_, **__: pytest.fail("decoded again")
        )
        assert torch.equal(Images(folder, 8, cache=cache).batch(range(20))["x"], first)
    Image.new("RGB", (8, 8), "white").save(folder / "a/0.png")
    assert bool((Images(folder, 8, cache=cache)[0]["x"] == 1).all())
    assert not list(cache.glob("*.part"))


def test_unreadable_files_are_skipped_and_named(folder):
    whole = Images(folder, 8)
    (folder / "a/zz.jpg").write_bytes(b"no picture")
    (folder / "a/0.png").write_bytes((folder / "a/0.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"(?s)only 19 of the 21 images.*a/0\.png.*max_corrupt"):
        Images(folder, 8)
    data = Images(folder, 8, max_corrupt=0.1)
    assert torch.equal(data.batch(range(19))["x"], whole.batch(range(1, 20))["x"])
    train, _ = data.split()
    description = json.loads(json.dumps(train.describe()))
    assert (description["skipped_count"], [each["name"] for each in description["skipped"]]) == (
        2,
        ["a/0.png", "a/zz.jpg"],
    )


@pytest.mark.parametrize("cached", [False, True])
def test_workers_give_the_same_batches(folder, tmp_path, cached):
    data = Images(folder, 8, cache=tmp_path / "cache" if cached else None)
    order = Order(len(data), 4, seed=1)
    here, ahead = (list(loader(data, order, workers=workers, stop=7)) for workers in (0, 2))
    assert all(torch.equal(one["x"], two["x"]) for one, two in zip(here, ahead, strict=True))


def test_every_mode_is_converted_to_8_bits(tmp_path):
    def saved(image, name="one.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    ramp = np.linspace(0, 65535, 16).round().astype(np.uint16).reshape(4, 4)
    deep = read_image(saved(Image.fromarray(ramp)), (4, 4), gray=True)
    assert np.array_equal(deep[..., 0], np.round(ramp / 257))
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert bool((read_image(saved(clear), (4, 4)) == 255).all())
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for mode, name in (("P", "p.png"), ("CMYK", "c.tif")):
        assert read_image(saved(red.convert(mode), name), (4, 4))[0, 0].tolist() == pytest.approx(
            [255, 0, 0], abs=3
        )
    assert bool((read_image(saved(Image.new("1", (4, 4), 1)), (4, 4), gray=True) == 255).all())
    frames = saved(red, "f.gif", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")])
    assert read_image(frames, (2, 2))[0, 0].tolist() == [255, 0, 0]


def test_orientation_and_fit(tmp_path):
    values = np.zeros((4, 8), np.uint8)
    values[:, :4] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    Image.fromarray(values).save(tmp_path / "turned.png", exif=turned)
    assert read_image(tmp_path / "turned.png", (4, 8), gray=True)[0, :, 0].tolist() == [0] * 4 + [255] * 4
    white = Image.new("L", (8, 4), 255)
    white.save(tmp_path / "w.png")
    assert bool((read_image(tmp_path / "w.png", (16, 16), gray=True) == 255).all())
    padded = read_image(tmp_path / "w.png", (8, 8), fit="pad", gray=True)[:, 4, 0]
    assert padded.tolist() == [0, 0, 255, 255, 255, 255, 0, 0]


def test_invalid_arguments_raise(tmp_path, folder):
    with pytest.raises(DataError, match="no folder"):
        Images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file"):
        Images(folder / "a/0.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files at all"):
        Images(tmp_path / "empty")
    with pytest.raises(PartArgumentError, match="Did you mean 'crop'"):
        Images(folder, fit="crp")
    with pytest.raises(DataError, match="lies directly"):
        Images(folder / "a", labels=True)


def train(data, out, steps, *, stop=None, **options):
    """Train on images, optionally until a ``break`` after some steps, and return the weights."""
    model = rk.build(data=data, encoder="conv(width=8)", latent="gaussian(dim=3)", decoder="conv(width=8)")
    loop = rk.loop(model, data, steps=steps, batch=4, lr=1e-2, out=out, seed=3, save_every=1e-6, **options)
    for step in loop:
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.index + 1 == stop:
            break
    return model


def test_image_model_is_saved_loaded_and_inspected(folder, tmp_path, capsys):
    (folder / "a/zz.jpg").write_bytes(b"no picture")
    reference = f"images(root={str(folder)!r}, size=16, labels=True, max_corrupt=0.1)"
    training, test = rk.dataset(reference).split()
    model = train(training, tmp_path / "run", 3)
    record = json.loads((tmp_path / "run/run.json").read_text())["data"]
    assert record["reference"] == "reprkit/" + reference
    assert [each["name"] for each in record["skipped"]] == ["a/zz.jpg"]
    model.save(tmp_path / "model")
    again = rk.load(tmp_path / "model")
    same = rk.dataset(record["reference"]).split()[1].batch(range(len(test)))
    assert torch.equal(again.represent(same), model.represent(test.batch(range(len(test)))))
    with pytest.raises(SystemExit, match="0"):
        main.main(["inspect", str(tmp_path / "model")])
    shown = capsys.readouterr().out
    assert "data x: image (16 16 3) in [0, 1]" in shown
    assert "data label: label of 2 symbols" in shown


def test_show_lists_the_arguments(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["show", "dataset", "images"])
    shown = capsys.readouterr().out
    assert "dataset reprkit/images" in shown
    assert "requires: PIL (installed)" in shown
    for name in ("root", "size", "labels", "gray", "fit", "cache", "max_corrupt"):
        assert re.search(rf"^\s*{name}\s", shown, flags=re.MULTILINE), name


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_loop_ends_with_the_same_weights(folder, tmp_path, workers):
    data = Images(folder, 16, cache=tmp_path / "cache")
    whole = train(data, tmp_path / "whole", 8, workers=workers)
    train(data, tmp_path / "cut", 8, stop=3, workers=workers)
    model = train(Images(folder, 16, cache=tmp_path / "cache"), tmp_path / "cut", 8, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def sum_of_batch(data, place):
    return float(data.batch([place])["x"].double().sum())


@pytest.mark.slow
def test_spawned_process_reads_the_same(folder, tmp_path):
    kept, cached = (Images(folder, 8, labels=True, cache=cache) for cache in (None, tmp_path / "cache"))
    cached.batch([0])  # maps the cache, which must not be copied
    assert len(pickle.dumps(cached)) < 3000
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for data in (kept, cached, cached.split()[0]):
            assert pool.submit(sum_of_batch, data, 7).result() == sum_of_batch(data, 7)


def test_concurrent_writers_of_one_cache(folder, tmp_path, monkeypatch):
    """Like two ranks: the second one starts while the first is writing its temporary file."""
    from reprkit.data.formats import images

    cache, inner, whole = tmp_path / "cache", [], Images(folder, 8).batch(range(20))["x"]
    read = images.read_image

    def interrupted(file, *rest, **options):
        if not inner and str(file).endswith("a/5.png"):
            inner.append(None)
            assert not list(cache.glob("*.npy"))  # no incomplete file under the final name
            assert len(list(cache.glob("*.part"))) == 1
            inner[0] = Images(folder, 8, cache=cache)
            assert len(list(cache.glob("*.part"))) == 1
        return read(file, *rest, **options)

    monkeypatch.setattr(images, "read_image", interrupted)
    first = Images(folder, 8, cache=cache)
    for data in (first, inner[0], Images(folder, 8, cache=cache)):
        assert torch.equal(data.batch(range(20))["x"], whole)
    assert sorted(each.suffix for each in cache.iterdir()) == [".json", ".npy"]


def test_damaged_cache_is_rebuilt_and_unwritable_cache_raises(folder, tmp_path):
    cache = tmp_path / "cache"
    whole = Images(folder, 8, cache=cache).batch(range(20))["x"]
    (record,) = cache.glob("*.json")
    record.write_text(record.read_text()[:40])
    assert torch.equal(Images(folder, 8, cache=cache).batch(range(20))["x"], whole)
    (stored,) = cache.glob("*.npy")
    data = Images(folder, 8, cache=cache)
    stored.write_bytes(stored.read_bytes()[:-100])
    with pytest.raises(DataError, match="was removed or damaged"):
        data.batch([0])
    assert torch.equal(Images(folder, 8, cache=cache).batch(range(20))["x"], whole)
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="cache.*cannot be written"):
        Images(folder, 8, cache=tmp_path / "taken")
