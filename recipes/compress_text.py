"""Lossless compression of text by a neural network: a causal model of bytes as the prior of an entropy coder, files really written.

A recurrent network (or a causal transformer) learns to predict the next byte.  A held-out file is then coded: each byte costs
-log2 of the probability that the network gives it, and the file is decoded again and compared.  The page compares bits a character
with xz, bz2 and, where pyppmd is installed, PPMd, which know nothing but the file itself, and gives the size of the network's
weights, which a receiver needs once.

The model's folder then compresses other files:

    reprkit compress runs/compress_text/model book.txt -o book.rk
    reprkit decompress runs/compress_text/model book.rk -o back.txt

A file can be read where the same probabilities are computed: they are rounded so that threads, batch size and (but for other
versions of torch) machines agree, and a checksum of the text refuses what would decode to something else.

Papers: Goyal et al. 2018, "DeepZip", arXiv 1811.08162; Delétang et al. 2024, arXiv 2309.10668.
Data: your own files: ``--train FOLDER --test FILE``; by default the Python language reference that Python ships.
Expected: docs/results/compression/sequences.md.

    python recipes/compress_text.py
    python recipes/compress_text.py --train books/train --valid books/valid.txt --test books/test.txt --steps 4000
    python recipes/compress_text.py --decoder "lstm(width=512, embedding=64)" --steps 10000
"""

import bz2
import lzma
import time
from pathlib import Path
from typing import Annotated

import typer

import reprkit as rk
from reprkit.models.file_streams import compress_file, decompress_file, read_streams, write_streams
from reprkit.reporting import compare
from reprkit.utils.collectives import rank


def default_text(folder: Path) -> tuple[str, str, str]:
    """Write Python's language reference as three files: 18, 1 and 1 twentieths of its paragraphs."""
    from pydoc_data.topics import topics

    paragraphs = list(dict.fromkeys(part for name in sorted(topics) for part in topics[name].split("\n\n")))
    cuts = [0, len(paragraphs) * 18 // 20, len(paragraphs) * 19 // 20, len(paragraphs)]
    files = []
    for name, start, stop in zip(("train", "valid", "test"), cuts, cuts[1:], strict=False):
        files.append(folder / f"{name}.txt")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text("\n\n".join(paragraphs[start:stop]), encoding="utf-8")
    return tuple(map(str, files))


def baselines(content: bytes) -> dict[str, int]:
    """Return the sizes that general compressors need; PPMd by the best of orders 4 to 12."""
    sizes = {
        "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
        "bz2": len(bz2.compress(content)),
    }
    try:
        import pyppmd
    except ImportError:
        print("PPMd is left out: pip install pyppmd")
        return sizes
    orders = (4, 5, 6, 8, 12)
    return sizes | {
        "PPMd": min(len(pyppmd.compress(content, max_order=order, mem_size=1 << 28)) for order in orders)
    }


def main(
    train: Annotated[
        str | None, typer.Option(help="a file, or a folder of text files; Python's reference if not given")
    ] = None,
    valid: Annotated[str | None, typer.Option(help="a file; sections of --train if not given")] = None,
    test: Annotated[str | None, typer.Option(help="the file to compress, not in --train")] = None,
    decoder: str = "gru(width=256, embedding=64)",
    window: Annotated[int, typer.Option(help="bytes of a training example")] = 128,
    steps: int = 1_500,
    batch: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
    out: str = "runs/compress_text",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    if (train is None) != (test is None):
        raise typer.BadParameter("give both --train and --test, or neither")
    if train is None:
        train, valid, test = default_text(Path(out, "text"))
    learned = rk.dataset(f"bytes(root={train!r}, window={window})")
    if valid is None:
        learned, held = learned.split(seed=seed)
    else:
        held = rk.dataset(f"bytes(root={valid!r}, window={window})")
    model = rk.build(data=learned, decoder=decoder, objective="autoregressive", seed=seed)
    options = {"lr": lr, "seed": seed, "out": out, "resume": resume, "best": "min reconstruction.nll"}
    for step in rk.loop(model, learned, steps=steps, batch=batch, **options, **launch):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(min(250, steps)):
            step.log(losses, rk.evaluate(model, held, "reconstruction", examples=0))
    model = rk.load(f"{out}/best").eval()
    model.save(f"{out}/model")
    if rank() > 0:
        return

    content, started = Path(test).read_bytes(), time.process_time()
    file = write_streams(f"{out}/test.rk", [compress_file(model, Path(test))])
    coded, started = time.process_time() - started, time.process_time()
    decompress_file(model, read_streams(file)[0], Path(out, "test.txt"))
    decoded = time.process_time() - started
    if Path(out, "test.txt").read_bytes() != content:
        raise RuntimeError(f"{file} does not decode to {test}")
    characters, weights = (
        len(content.decode("utf-8", "replace")),
        Path(out, "model", "model.safetensors").stat().st_size,
    )
    sizes = {decoder: file.stat().st_size} | baselines(content)
    table = {
        name: {"bytes": size, "bits_per_character": 8 * size / characters} for name, size in sizes.items()
    }
    table[decoder] |= {
        "with_weights": 8 * (sizes[decoder] + weights) / characters,
        "seconds": coded,
        "seconds_back": decoded,
    }
    best = min(sizes, key=sizes.__getitem__)
    verdict = f"{best} writes the smallest file, {8 * sizes[best] / characters:.3f} bits a character."
    page = rk.report(out, table, title="Text without loss", verdict=verdict)
    print(compare(table))
    print(f"\n{verdict}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
