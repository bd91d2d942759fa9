"""CompressAI's factorized model and reprkit's latents, trained for the same processor time on the same crops of photographs.

    python -m venv peer && peer/bin/pip install compressai==1.2.8
    reprkit vision fetch photos
    python tests/benchmarks/figures_compressai.py --peer peer/bin/python --only compressai --only compressai-slow
    python tests/benchmarks/figures_compressai.py --only rounded --only hyperprior --only cosine

Each row is trained (one thread, Adam, gradients of norm 1 at most, a tenth of the learning rate in the last fifth of the time) on
batches of the same crops of 64 x 64, drawn by one seed, and codes the same crops of 256 x 256 of other photographs: bytes of its
own entropy coder, errors after rounding to 8 bits.  The loss is the same, in bits a pixel, lambda = 3 / (2 ln 2 (255 scale)^2).
A file's header counts: that of reprkit, and the 27 bytes that CompressAI's examples/codec.py writes.  Rows are saved in OUT, and
the table has all of them.

``cosine``, the recipe's transform and latent, is not trained at all.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from figures_pictures import untrained
from reprkit_compress.evaluators.curves import codec_points, psnr_at
from reprkit_compress.evaluators.quality import ms_ssim, psnr
from reprkit_compress.evaluators.rate_distortion import to_8_bit

import reprkit as rk
from reprkit.data.base import Subset
from reprkit.models.pictures import PictureCoder

LEARN = "photos(size=64, crops=32, side=512, fetched=True)"
TEST = "photos(size=256, crops=1, side=512, fetched=True)"
PEER_HEADER = (
    27  # bytes: model, metric and quality 2, size 8, bit depth 1, shape and count 12, length of the string 4
)
PEERS = {"compressai": 1e-3, "compressai-slow": 1e-4}  # learning rate; the second is that of its examples
LATENTS = {"rounded": "rounded(dim={width}, limit=127)", "hyperprior": "hyperprior(dim={width})"}
QUALITIES = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 86, 91, 95)


def train(model: rk.Model, data: rk.Dataset, seconds: float, batch: int, seed: int) -> int:
    """Train for a number of processor seconds; return the steps."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(seed)
    start, steps = time.process_time(), 0
    while (share := (time.process_time() - start) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 1e-3 if share < 0.8 else 1e-4
        rows = data.batch(torch.randint(len(data), (batch,), generator=generator))
        bits = model(rows).total / (
            math.log(2) * rows["x"][0, ..., 0].numel()
        )  # a pixel, as CompressAI's loss
        optimizer.zero_grad()
        bits.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.update()
        if steps % 100 == 0:
            print(f"step {steps}: loss {float(bits.detach()):.3f}", flush=True)
        steps += 1
    return steps


def ours(name: str, learn: rk.Dataset, known: rk.Dataset, pictures: list[np.ndarray], given: dict) -> dict:
    """Return the sizes, payloads and decoded pictures of one of reprkit's models."""
    if name == "cosine":
        model, steps = untrained(0.25, known), 0
    else:
        transform = f"strided(width={given['width']}"
        model = rk.build(
            encoder=f"{transform})",
            latent=LATENTS[name].format(width=given["width"]),
            decoder=f"{transform}, likelihood='gaussian', scale={given['scale']})",
            objective="reconstruction",
            data=learn,
            seed=given["seed"],
        )
        steps = train(model, learn, given["seconds"], given["batch"], given["seed"])
        model.eval()
        model.fit_frequencies(Subset(known, range(min(64, len(known)))), batch=16)
    coder, field = PictureCoder(model), model.output_field
    strings = [coder.compress(picture) for picture in pictures]
    decoded = [to_8_bit(coder.decompress(string), field) for string in strings]
    payloads = [coder.payload_size(string) for string in strings]
    return {"sizes": [*map(len, strings)], "payloads": payloads, "decoded": decoded, "steps": steps}


def peer_of(python: str) -> str:
    """Return the peer's interpreter, or end with a sentence if it lacks CompressAI."""
    if subprocess.run([python, "-c", "import compressai"], capture_output=True, check=False).returncode:
        sys.exit(
            f"{python} has no CompressAI: python -m venv peer && peer/bin/pip install compressai==1.2.8, "
            "then --peer peer/bin/python"
        )
    return python


def peer(name: str, python: str, folder: Path, given: dict) -> dict:
    """Return the sizes and decoded pictures of CompressAI's factorized model."""
    weight = 3 / (2 * math.log(2) * (255 * given["scale"]) ** 2)
    options = json.dumps({**given, "name": name, "lr": PEERS[name], "lambda": weight})
    script = Path(__file__).with_name("compressai_peer.py")
    done = subprocess.run(
        [python, str(script), str(folder), options], stdout=subprocess.PIPE, text=True, check=True
    )
    found = np.load(folder / f"{name}.npz")
    payloads = found["sizes"].tolist()
    sizes = [size + PEER_HEADER for size in payloads]
    steps = int(done.stdout.split()[-1])
    return {"sizes": sizes, "payloads": payloads, "decoded": list(found["decoded"]), "steps": steps}


def row_of(found: dict, pictures: list[np.ndarray]) -> dict[str, float]:
    """Return the means of a row; a gain over JPEG in as many bytes counts the crops whose bytes lie within JPEG's curve."""
    pixels = np.array([picture.shape[0] * picture.shape[1] for picture in pictures])
    decibels = [psnr(decoded, picture) for decoded, picture in zip(found["decoded"], pictures, strict=True)]
    curves = [codec_points(picture, "jpeg", QUALITIES) for picture in pictures]
    beside = [psnr_at(curve, size) for curve, size in zip(curves, found["sizes"], strict=True)]
    gains = [own - value for own, value in zip(decibels, beside, strict=True) if value is not None]
    return {
        "steps": found["steps"],
        "bpp": float((8 * np.array(found["sizes"]) / pixels).mean()),
        "payload_bpp": float((8 * np.array(found["payloads"]) / pixels).mean()),
        "psnr": float(np.mean(decibels)),
        "ms_ssim": float(np.mean([ms_ssim(d, p) for d, p in zip(found["decoded"], pictures, strict=True)])),
        "jpeg_gain_db": float(np.mean(gains)) if gains else math.nan,
        "jpeg_compared": len(gains) / len(pictures),
    }


def main(
    only: Annotated[list[str] | None, typer.Option(help="rows; all by default")] = None,
    peer_python: Annotated[str, typer.Option("--peer", help="Python with CompressAI")] = sys.executable,
    seconds: Annotated[float, typer.Option(help="of training, processor time")] = 200.0,
    width: int = 64,
    scale: float = 0.04,
    batch: int = 8,
    seed: int = 0,
    out: Path = Path("runs/bench/compressai"),
) -> None:
    torch.set_num_threads(1)
    known_rows = [*PEERS, *LATENTS, "cosine"]
    names = only or known_rows
    if unknown := set(names) - set(known_rows):
        raise typer.BadParameter(f"no row {', '.join(sorted(unknown))}; rows: {', '.join(known_rows)}")
    given = {"seconds": seconds, "width": width, "scale": scale, "batch": batch, "seed": seed}
    folder = out / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    python = peer_of(peer_python) if any(name in PEERS for name in names) else ""
    learn = rk.dataset(LEARN).split(seed=seed)[0]
    known, unseen = rk.dataset(TEST).split(seed=seed)
    pictures = [to_8_bit(unseen[index]["x"], unseen.signature["x"]) for index in range(len(unseen))]
    for name in names:
        if name in PEERS:
            crops = [to_8_bit(x, learn.signature["x"]) for rows in learn.batches(256) for x in rows["x"]]
            np.save(folder / "learn.npy", np.stack(crops))
            np.save(folder / "test.npy", np.stack(pictures))
            found = peer(name, python, folder, given)
        else:
            found = ours(name, learn, known, pictures, given)
        row = row_of(found, pictures) | given
        (folder / f"{name}.json").write_text(json.dumps(row, indent=2))
    print(
        f"seed {seed}: {len(learn)} crops to learn from, {len(pictures)} crops of other photographs; {given}"
    )
    for file in sorted(folder.glob("*.json")):
        row = json.loads(file.read_text())
        print(file.stem.ljust(16), "  ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    typer.run(main)
