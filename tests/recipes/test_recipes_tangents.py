"""``recipes/tangents.py``: derivatives, planes and tiling against independent references, and a small run."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, rotate, shift
from sklearn.decomposition import PCA
from sklearn.manifold import LocallyLinearEmbedding

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import BuildError, DataError

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes/tangents.py"))


def blobs(count=3, seed=0):
    """Smooth images (n 24 24 1), empty at the border."""
    x = np.zeros((count, 24, 24, 1))
    x[:, 7:17, 7:17] = np.random.default_rng(seed).uniform(size=(count, 10, 10, 1))
    return gaussian_filter(x, 1.5, axes=(1, 2))


def test_derivatives_are_those_of_moved_images():
    """Against splines of a moved image: to the right, down, and about the center from the first axis to the second."""
    x = blobs()
    smooth = gaussian_filter(x, 1.0, axes=(1, 2))
    step = 0.05
    moved = {
        "shift right": shift(smooth, (0, 0, step, 0)) - shift(smooth, (0, 0, -step, 0)),
        "shift down": shift(smooth, (0, step, 0, 0)) - shift(smooth, (0, -step, 0, 0)),
        "rotation": rotate(smooth, 1, (2, 1), reshape=False) - rotate(smooth, -1, (2, 1), reshape=False),
    }
    found = RECIPE["motions"](x, 1.0)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1)
    for number, name in enumerate(RECIPE["MOTIONS"]):
        expected = moved[name].reshape(len(x), -1)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        cosine = (expected * found[:, number]).sum(1)
        np.testing.assert_allclose(np.abs(cosine), 1, atol=2e-3, err_msg=name)


def test_planes_of_a_linear_decoder_are_its_weights():
    """A decoder with no hidden layer has the same plane everywhere, the span of its matrix."""
    x = blobs(20)
    data = Arrays({"x": x.astype(np.float32)})
    model = rk.build(data=data, encoder="mlp(widths=(8,))", latent="continuous(dim=4)", decoder="flat")
    model.eval()
    planes = RECIPE["decoder_planes"](model, data.batch(range(5))["x"], 4)
    np.testing.assert_allclose(
        np.einsum("npa,npb->nab", planes, planes), np.tile(np.eye(4), (5, 1, 1)), atol=1e-5
    )
    with pytest.raises(BuildError, match="a code of 4 numbers spans at most as many directions, not 5"):
        RECIPE["decoder_planes"](model, data.batch(range(5))["x"], 5)
    with torch.no_grad():
        origin, *ends = (
            model.to_batch(model.decode({"code": rk.Code(z=z.view(1, 1, 4))}))["x"].flatten().double().numpy()
            for z in (torch.zeros(4), *torch.eye(4))
        )
    for end in ends:
        direction = (end - origin) / np.linalg.norm(end - origin)
        for plane in planes:
            assert np.linalg.norm(direction @ plane) == pytest.approx(1, abs=1e-4)


def test_local_planes_are_components_of_the_neighbors():
    random = np.random.default_rng(0)
    known, x = random.normal(size=(60, 7)), random.normal(size=(4, 7))
    planes = RECIPE["local_planes"](x, known, 9, 2)
    for row, plane in zip(x, planes, strict=True):
        near = np.argsort(np.linalg.norm(known - row, axis=1))[:9]
        components = PCA(2).fit(known[near]).components_
        np.testing.assert_allclose(np.linalg.svd(components @ plane, compute_uv=False), 1, atol=1e-9)
    directions = np.stack([planes[:, :, 0], planes[:, :, 1]], 1)
    np.testing.assert_allclose(RECIPE["cosines"](directions, planes), 1)


def test_tiled_planes_of_local_pca_are_scikit_learn_s_ltsa():
    random = np.random.default_rng(0)
    angle, height = random.uniform(0, 4, 150), random.uniform(0, 3, 150)
    x = np.column_stack([np.cos(angle), np.sin(angle), height, 0.3 * np.sin(3 * angle)])
    planes = []
    for row in x:
        near = np.argsort(np.linalg.norm(x - row, axis=1))[1:11]
        planes.append(PCA(2).fit(x[near]).components_.T)
    found = RECIPE["tile"](x, np.stack(planes), 10)
    ltsa = LocallyLinearEmbedding(n_neighbors=10, method="ltsa", eigen_solver="dense").fit_transform(x)
    spans = [np.linalg.qr(points - points.mean(0))[0] for points in (found, ltsa)]
    np.testing.assert_allclose(np.linalg.svd(spans[0].T @ spans[1], compute_uv=False), 1, atol=1e-6)


def test_data_without_images_is_refused(tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(40, 5)).astype("float32"))
    with pytest.raises(DataError, match="those of images, and x is vector"):
        RECIPE["main"](data=str(tmp_path / "rows.npy"), out=str(tmp_path / "run"))


@pytest.mark.slow
def test_planes_of_a_learned_decoder_hold_the_motions(tmp_path, capsys):
    """Noisy images of one round blob anywhere: two numbers, and every motion is a shift.  Neighbors keep the noise."""
    random = np.random.default_rng(0)
    places = random.uniform(3, 9, (500, 2))
    rows = np.arange(12)
    blob = np.exp(-np.square(rows - places[..., None]) / 4)
    x = (blob[:, 0, :, None] * blob[:, 1, None, :])[..., None]
    np.savez(tmp_path / "blobs.npz", x=(x + random.normal(0, 0.1, x.shape)).astype(np.float32))
    RECIPE["main"](
        data=str(tmp_path / "blobs.npz"), latent="continuous(dim=2)", plane=2, neighbors=[6, 25],
        encoder="mlp(widths=(64, 64))", decoder="mlp(widths=(64, 64))", steps=600, lr=3e-3, objective="reconstruction",
        out=str(tmp_path / "run"), launch=rk.Launch(schedule="cosine", device="cpu"),
    )  # fmt: skip
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["decoder"]["cosine"]["mean"] > 0.75
    for k in (6, 25):
        assert found["decoder"]["cosine"]["mean"] > found[f"local PCA, k = {k}"]["cosine"]["mean"]
    assert found["random plane"]["cosine"]["mean"] < 0.3
    maps = [name for name in found if "map" in found[name]]
    assert len(maps) == 4
    assert {"map, decoder", "map, Isomap", "map, PCA"} <= set(maps)
    assert found["map, decoder"]["map"]["trustworthiness"] > 0.8
    assert "to shifts and rotation" in capsys.readouterr().out
