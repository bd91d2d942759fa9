"""The figures of docs/results/compression/sequences.md on text: six novels of Jane Austen, four learned, one chosen on, one coded.

    apt-get download r-cran-janeaustenr && dpkg -x r-cran-janeaustenr_*.deb books
    python tests/benchmarks/figures_compress_text.py books

Writes the novels to OUT/novels, runs recipes/compress_text.py, and codes the held-out novel also without counts (the network),
and by the general compressors after the four novels (what they need where the receiver has the same novels).

Needs: reprkit-compress, pyppmd.
"""

import bz2
import json
import lzma
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Annotated

import pyppmd
import torch
import typer

import reprkit as rk
from reprkit.models.symbol_coding import compress_symbols

ROOT = Path(__file__).parents[2]
VALID, TEST = "northanger_abbey", "persuasion"


def lazy_load_blocks(path):
    """The objects of R's lazy-load file: a length of 4 bytes before each block of zlib."""
    content, place = path.read_bytes(), 0
    while place + 4 < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        inflate = zlib.decompressobj()
        try:
            block = inflate.decompress(content[place + 4 :])
        except zlib.error:
            block = b""
        if len(block) == size:
            yield block
            place = len(content) - len(inflate.unused_data)
        else:
            place += 1


def lines_of(block):
    """The character vector that a block holds, in R's format of serialization (XDR)."""
    place = block.index(b"\0\0\0\x10", 10)
    (count,) = struct.unpack(">I", block[place + 4 : place + 8])
    place, lines = place + 8, []
    for _ in range(count):
        _, size = struct.unpack(">Ii", block[place : place + 8])
        lines.append(block[place + 8 : place + 8 + max(size, 0)].decode())
        place += 8 + max(size, 0)
    return lines


def write_novels(root, out):
    """Write each novel as a text file named after its title."""
    (file,) = Path(root).rglob("data/Rdata.rdb")
    for block in lazy_load_blocks(file):
        if len(block) > 300_000:
            lines = lines_of(block)
            name = re.sub(r"\W+", "_", lines[0].lower()).strip("_")
            folder = out / "train" if name not in (VALID, TEST) else out
            folder.mkdir(parents=True, exist_ok=True)
            text = "\n".join(lines) + "\n"
            (folder / f"{name}.txt").write_text(text[:60_000] if name == VALID else text)


def main(
    root: Annotated[Path, typer.Argument(help="the unpacked Debian package")],
    steps: int = 260,
    decoder: str = "gru(width=192, embedding=64)",
    lr: float = 6e-3,
    seed: int = 0,
    out: Path = Path("runs/bench/compress_text"),
) -> None:
    novels = out / "novels"
    write_novels(root, novels)
    options = {"train": novels / "train", "valid": novels / f"{VALID}.txt", "test": novels / f"{TEST}.txt"}
    options |= {"steps": steps, "decoder": decoder, "lr": lr, "seed": seed, "out": out / f"seed-{seed}"}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, str(ROOT / "recipes/compress_text.py"), *words], check=True)

    content = (novels / f"{TEST}.txt").read_bytes()
    known = b"".join(path.read_bytes() for path in sorted((novels / "train").glob("*.txt")))
    model = rk.load(f"{options['out']}/model")
    symbols = torch.frombuffer(bytearray(content), dtype=torch.uint8).long()[None]
    sizes = {"network without counts": len(compress_symbols(model, {"x": symbols}, adapt=False)[0])}
    for name, compress in {
        "xz": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
        "bz2": bz2.compress,
        "PPMd, order 6": lambda data: pyppmd.compress(data, max_order=6, mem_size=1 << 28),
    }.items():
        sizes[f"{name}, after the four novels"] = len(compress(known + content)) - len(compress(known))
    found = {
        name: {"bytes": size, "bits_per_character": 8 * size / len(content)} for name, size in sizes.items()
    }
    (out / f"seed-{seed}" / "further.json").write_text(json.dumps(found, indent=2))
    for name, row in found.items():
        print(f"{name}: {row['bytes']:,} bytes, {row['bits_per_character']:.3f} bits a character")


if __name__ == "__main__":
    typer.run(main)
