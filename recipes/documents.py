"""Cleaning of pages: a network learns to remove blur, stains, folds, shadows, low light, noise and JPEG, for OCR.

A U-Net adds a correction to the page.  It is trained on small crops and cleans pages of any size.  The table compares wrong words,
as tesseract reads them, and PSNR with Otsu's threshold, an adaptive threshold and non-local means, whose settings are chosen on
validation pages.  No font family and no text of the test pages is in the training set.

Papers: Vincent et al. 2008 (denoising); Ronneberger et al. 2015, arXiv 1505.04597 (the network).
Data: pages of Python's help texts in the fonts of matplotlib, or of a folder: apt-get install fonts-freefont-ttf fonts-lato.
Words are read by tesseract: apt-get install tesseract-ocr; without it the table has PSNR alone.
Needs scikit-image: pip install 'reprkit-vision[data]'.
Expected (ten minutes of one core with --precision bf16): .31 of the words are wrong where .55 of the damaged pages are; in another
seed, whose fonts are easier, .14 and .37: docs/results/pictures.md.

    python recipes/documents.py
    python recipes/documents.py --fonts /usr/share/fonts --steps 3000
    python recipes/documents.py --data "images(root='scans', size=256, gray=True)" --batch 4     # clean pages of one's own
"""

from collections.abc import Callable

import numpy as np
import torch
from reprkit_vision.ocr import has_tesseract, read_pages, wrong_words
from reprkit_vision.restoration import adaptive_threshold, non_local_means, otsu, psnr

import reprkit as rk
from reprkit.reporting import Section, compare, exhibit
from reprkit.utils.collectives import rank

CROPS = "pages(count=4000, fonts={fonts!r})"
WHOLE = "pages(count=120, fonts={fonts!r}, size=(256, 448), whole=True)"


def damaged(data: rk.Dataset, corruption: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, list]:
    """The first ``count`` clean pages (n h w 1), damaged ones, and their texts (None where they are not known)."""
    numbers = range(min(count, len(data)))
    clean = data.batch(numbers)["x"]
    damage = rk.create("corruption", corruption, data=data.signature.reading("x"))
    given, _ = damage({"x": clean}, torch.Generator().manual_seed(seed))
    return clean.numpy(), given["x"].numpy(), [data.raw(number) for number in numbers]


def main(
    data: str = CROPS,
    test: str = "",
    fonts: str = "matplotlib",
    corruption: str = "page-damage",
    encoder: str = "unet",
    decoder: str = "flat(likelihood='laplace', scale=0.1)",
    steps: int = 12_000,
    batch: int = 16,
    lr: float = 1e-3,
    examples: int = 24,
    seed: int = 0,
    out: str = "runs/documents",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    train = rk.dataset(data.format(fonts=fonts)).split(seed=seed, valid=True)[0]
    whole = rk.dataset((test or (WHOLE if data == CROPS else data)).format(fonts=fonts))
    _, valid, test_pages = whole.split(seed=seed, valid=True)
    clean, given, texts = damaged(test_pages, corruption, examples, seed)
    known, known_given, known_texts = damaged(valid, corruption, 4, seed)
    reads = has_tesseract() and not any(text is None for text in texts + known_texts)
    if not reads:
        print("without wrong words: the texts are not known, or tesseract-ocr is not installed")

    def error(pages: np.ndarray, right: np.ndarray, written: list) -> float:
        return wrong_words(read_pages(pages), written) if reads else -psnr(pages, right).mean()

    def best(method: Callable, settings: list[tuple]) -> tuple:  # on valid
        return min(settings, key=lambda each: error(method(known_given, *each), known, known_texts))

    model = rk.build(
        data=train,
        encoder=encoder,
        latent=f"continuous(dim={train.signature['x'].channels})",
        decoder=decoder,
        objective=f'denoising(corruption="{corruption}")',
        seed=seed,
    )
    rk.fit(model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **launch)
    reader = rk.load(f"{out}/model", data=test_pages.signature)  # the same parts, for whole pages

    def repair(pages: np.ndarray) -> np.ndarray:
        return reader.reconstruct({"x": torch.from_numpy(pages)}, "numpy", in_range=False)

    pages = {"damaged": given}
    if clean.shape[-1] == 1:  # thresholds are of gray pages
        side = best(adaptive_threshold, [(15, 0.05), (31, 0.02), (31, 0.05), (51, 0.05)])
        cutoff = best(non_local_means, [(0.01,), (0.02,), (0.04,)])
        pages["Otsu's threshold"] = otsu(given)
        pages[f"adaptive threshold, {side}"] = adaptive_threshold(given, *side)
        pages[f"non-local means, {cutoff[0]}"] = non_local_means(given, *cutoff)
    pages |= {"the network": repair(given), "clean": clean}
    table = {name: {"psnr": psnr(each, clean).mean()} for name, each in pages.items()}
    for name, each in pages.items() if reads else ():
        table[name]["words"] = wrong_words(read_pages(each), texts)
    columns = ({"words": "wrong words"} if reads else {}) | {"psnr": "PSNR, dB"}
    corners = {name: each[:4, :96, :160] for name, each in pages.items()}
    figures = exhibit(
        "Corners of pages in fonts that were not trained on", test_pages.signature["x"], corners
    )
    for figure in figures:
        figure.cell = 12
    page = rk.report(out, table, columns=columns, sections=[Section("Pages", figures)], title="Documents")
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
