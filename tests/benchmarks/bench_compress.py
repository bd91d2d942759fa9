"""Speed of learned image compression on one thread: coders, and encoding and decoding of a picture, beside CompressAI.

    python tests/benchmarks/bench_compress.py                      # reprkit's parts
    PEER=/path/to/venv/bin/python python tests/benchmarks/bench_compress.py    # and CompressAI 1.2.8 of another environment

A row is the least of ``--repeats`` processor times, so that other processes on the machine count little.  Weights are random, and
times hardly depend on them; bytes do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch


def least(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Return the least processor time of ``work`` and its last result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def numbers(count: int, channels: int, seed: int = 0) -> np.ndarray:
    """Rounded Laplace numbers (count channels), of a scale for each channel from .05 to 4."""
    generator = np.random.default_rng(seed)
    return (
        np.rint(generator.laplace(0, np.geomspace(0.05, 4, channels), (count, channels)))
        .clip(-30, 30)
        .astype(np.int64)
    )


def coder_times(latent: object, y: torch.Tensor, cells: tuple[int, int], repeats: int) -> dict[str, float]:
    """Return the seconds of writing and reading the whole numbers y (1 n d), and their bytes."""
    from reprkit.types import Code

    indices = y + latent.limit
    code = Code(z=latent.embed(indices), indices=indices, grid=cells)
    counts = latent.zero_counts()
    latent.count_symbols(code, counts)
    latent.set_frequencies(counts)
    write, strings = least(lambda: latent.write(code), repeats)
    like = Code.of(code, z=torch.zeros_like(code.z))
    read, again = least(lambda: latent.read(strings, like), repeats)
    assert again.indices.equal(indices)
    name = type(latent).__name__.lower()
    return {f"{name}: write": write, f"{name}: read": read, f"{name}: bytes": len(strings[0])}


def picture_times(transform: str, width: int, side: tuple[int, int], repeats: int) -> dict[str, float]:
    """Return the seconds from a picture to its bytes and back, with latent hyperprior."""
    import reprkit as rk

    model = rk.build(
        encoder=f"{transform}(width={width})",
        latent=f"hyperprior(dim={width})",
        decoder=f"{transform}(width={width})",
        objective="reconstruction",
        data=rk.data.Arrays(torch.rand(2, *side, 3).numpy()),
    ).eval()
    picture = {"x": torch.rand(1, *side, 3)}
    with torch.no_grad():
        model.latent().set_frequencies(model.latent().zero_counts())
        there, strings = least(lambda: model.compress(picture), repeats)
        back, _ = least(lambda: model.decode(model.decompress(strings)).x, repeats)
    return {f"{transform}: picture to bytes": there, f"{transform}: bytes to picture": back}


def ours(side: tuple[int, int], repeats: int, width: int) -> dict[str, float]:
    """Return the figures of reprkit's parts."""
    from reprkit_compress.latents.context import Context
    from reprkit_compress.latents.hyperprior import Hyperprior

    from reprkit.latents.rounded import Rounded

    cells = (side[0] // 16, side[1] // 16)
    y = torch.from_numpy(numbers(cells[0] * cells[1], width))[None]
    found: dict[str, float] = {}
    for kind in (Rounded, Hyperprior, Context):
        found |= coder_times(kind(width).eval(), y, cells, repeats)
    for transform in ("strided", "blocks"):
        found |= picture_times(transform, width, side, repeats)
    return found


PEER = """
import json, sys, time, numpy as np, torch
from compressai.models import FactorizedPrior
torch.set_num_threads(1)
side, repeats, width, y = json.loads(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from bench_compress import least, numbers
net = FactorizedPrior(width, width).eval()
y = torch.from_numpy(numbers(y[0] * y[1], width).T.copy()).float().view(1, width, *y)
bottleneck = net.entropy_bottleneck
bottleneck.quantiles.data[:, 0] = torch.tensor([-31.0, 0, 31])  # its tables then hold all numbers, as ours do
net.update(force=True)
found = {}
with torch.no_grad():
    found["compressai factorized: write"], strings = least(lambda: bottleneck.compress(y), repeats)
    found["compressai factorized: read"], again = least(lambda: bottleneck.decompress(strings, y.shape[2:]), repeats)
    assert torch.equal(again.round(), y), (again - y).abs().max()
    found["compressai factorized: bytes"] = len(strings[0])
    x = torch.rand(1, 3, *side)
    found["compressai strided: picture to bytes"], out = least(lambda: net.compress(x), repeats)
    found["compressai strided: bytes to picture"], _ = least(lambda: net.decompress(out["strings"], out["shape"]), repeats)
print(json.dumps(found))
"""


def main() -> None:
    """Print a table of seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, nargs=2, default=(768, 1360))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    side = (given.side[0], given.side[1])
    found = ours(side, given.repeats, given.width)
    peer = os.environ.get("PEER")
    if peer:
        settings = json.dumps([side, given.repeats, given.width, [side[0] // 16, side[1] // 16]])
        done = subprocess.run(
            [peer, "-c", PEER, settings, os.path.dirname(__file__)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"the peer failed:\n{done.stderr}")
        found |= json.loads(done.stdout.splitlines()[-1])
    print(f"{side[0]} x {side[1]} pixels, {given.width} channels, one thread, torch {torch.__version__}")
    for name, value in found.items():
        print(f"{name:40s} {value:10,.0f}" if name.endswith(": bytes") else f"{name:40s} {value:10.3f} s")


if __name__ == "__main__":
    main()
