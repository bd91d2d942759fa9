"""``reprkit compress`` and ``decompress`` of picture files: sizes, names, threads, another model, the command line."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.models.code_file import read_code_file

pytestmark = pytest.mark.slow  # every command is a process of its own

COLOR = Signature({"x": Field(kind="image", shape=(32, 32, 3), range=(0.0, 1.0))})
PARTS = {
    "encoder": "cosine(side=8, inner=8, step=0.1)",
    "latent": "rounded(dim=192, limit=255)",
    "decoder": "cosine(side=8, inner=8, width=8, step=0.1)",
}


def reprkit(*args, threads=1):
    return subprocess.run(
        [sys.executable, "-m", "reprkit", *map(str, args)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of several sizes, kinds and names."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, (height, width), mode in (
        ("wide.png", (37, 90), "RGB"), ("tall.jpg", (65, 33), "RGB"), ("gray.png", (40, 40), "L"), ("clear.png", (9, 16), "RGBA"),
    ):  # fmt: skip
        coarse = random.integers(0, 256, (5, 5, 4), dtype=np.uint8)
        Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(
            folder / name
        )
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory, pictures):
    """Folders of two models; all weights of the networks are moved from their start, so that every layer counts."""
    folder, found = tmp_path_factory.mktemp("models"), []
    for seed in (0, 1):
        model = rk.build(data=COLOR, **PARTS, seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * parameter.std(correction=0) * torch.randn_like(parameter))
        x = torch.stack(
            [
                torch.from_numpy(np.array(Image.open(pictures / "wide.png"))[:32, at : at + 32])
                for at in range(0, 58, 8)
            ]
        )
        model.fit_frequencies(rk.data.Tensors({"x": x.float() / 255}, COLOR))
        found.append(model.save(folder / str(seed)))
    return found


def test_a_folder_comes_back_in_its_sizes_whatever_the_threads(models, pictures, tmp_path):
    files = []
    for threads in (1, 2):
        done = reprkit("compress", models[0], pictures, "-o", tmp_path / f"{threads}.rk", threads=threads)
        assert done.returncode == 0, done.stderr
        for reader in (1, 2):
            back = tmp_path / f"{threads}-{reader}"
            done = reprkit(
                "decompress", models[0], tmp_path / f"{threads}.rk", "-o", back, "--batch", 3, threads=reader
            )
            assert done.returncode == 0, done.stderr
            files.append({path.stem: np.asarray(Image.open(path)) for path in sorted(back.iterdir())})
    for found in files:
        assert {name: each.shape for name, each in found.items()} == {
            "clear": (9, 16, 3), "gray": (40, 40, 3), "tall": (65, 33, 3), "wide": (37, 90, 3),
        }  # fmt: skip
    for one, two in ((0, 1), (2, 3)):  # one file, two readers
        for name, values in files[one].items():
            assert np.abs(values.astype(int) - files[two][name]).max() <= 1


def test_single_files_and_folders_hold_the_same_strings(models, pictures, tmp_path):
    assert reprkit("compress", models[0], pictures / "wide.png", "-o", tmp_path / "one.rk").returncode == 0
    assert reprkit("compress", models[0], pictures, "-o", tmp_path / "all.rk").returncode == 0
    strings, names = read_code_file(tmp_path / "all.rk")
    assert read_code_file(tmp_path / "one.rk") == ([strings[names.index("wide")]], ["wide"])
    done = reprkit("decompress", models[0], tmp_path / "one.rk", "-o", tmp_path / "back.png")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "back.png").size == (90, 37)
    done = reprkit("decompress", models[0], tmp_path / "all.rk", "-o", tmp_path / "all.png")
    assert (done.returncode, "have different widths" in done.stderr) == (1, True)


def test_another_model_and_damage_are_refused_in_one_sentence(models, pictures, tmp_path):
    file = tmp_path / "one.rk"
    assert reprkit("compress", models[0], pictures / "wide.png", "-o", file).returncode == 0
    done = reprkit("decompress", models[1], file, "-o", tmp_path / "back.png")
    assert done.returncode == 1
    assert "was written with another model" in done.stderr
    assert "Traceback" not in done.stderr
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    done = reprkit("decompress", models[0], file, "-o", tmp_path / "back.png")
    assert done.returncode == 1
    assert "its checksum does not match" in done.stderr
    (tmp_path / "no.png").write_text("no picture")
    done = reprkit("compress", models[0], tmp_path / "no.png", "-o", tmp_path / "no.rk")
    assert done.returncode == 1
    assert "no.png cannot be read as a picture" in done.stderr
