"""VQ beside vector-quantize-pytorch 1.32.0: one training step and one evaluation, same codes, threads and dtype.

    python tests/benchmarks/bench_vq.py [--device cuda] [--threads 1] [--repeats 15] [--out runs/bench/vq.json]

A step is forward, backward and the codebook's running means (ours: ``update()``, with revival on, as by default; the peer
does them in its forward, without revival, as by default).  The peer runs twice: as it comes (rotation trick), and with the
plain straight-through gradient (``rotation_trick=False``), which is what ours computes.  Before any time is taken, indices,
loss, gradient and the updated codes are compared with the latter.  Runs alternate; figures are medians in milliseconds, and
the ratio is of medians.  A peer whose N x K distances do not fit into the free memory is left out, and the table says so.
Memory is the peak beyond what was there before the step: on the CPU the growth of the resident set
of a fresh process (``VmHWM`` after ``clear_refs``), on CUDA what the caching allocator counted.

Needs `pip install vector-quantize-pytorch==1.32.0`; without it only our own figures are taken.
"""

import argparse
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from reprkit.latents.vq import VQ
from reprkit.types import Features

DECAY = 0.99
CASES = {
    "cpu": (
        (8192, 64, 512),
        (8192, 256, 1024),
        *(
            (4096, 64, codes) for codes in (512, 2048, 8192, 32768, 65536)
        ),  # how time and memory grow with the codebook
        (65536, 256, 65536),
    ),
    "cuda": ((65536, 256, 8192), (65536, 256, 65536)),
}
COPIES = 4  # of the N x K distances that a step of the peer holds at its peak (measured: 3 to 3.5)
NAMES = {"default": "peer, rotation trick", "ste": "peer, straight-through", "ours": "reprkit"}


class Peer:
    """The peer behind the same three calls."""

    def __init__(self, d, k, device, **options):
        from vector_quantize_pytorch import VectorQuantize

        self.module = VectorQuantize(d, k, decay=DECAY, **options).to(device)

    def set_codes(self, codes):
        self.module._codebook.embed.copy_(codes[None])
        self.module._codebook.embed_avg.copy_(codes[None])

    def codes(self):
        return self.module._codebook.embed[0]

    def __call__(self, x):
        return self.module(x)  # z, indices, loss: mean squared distance

    def update(self):
        pass


class Ours:
    """reprkit's VQ; its loss, a sum, is brought to the peer's mean."""

    def __init__(self, d, k, device):
        self.module = VQ(k, d, decay=DECAY, kmeans=False).to(device)

    def set_codes(self, codes):
        self.module.codebook.table.copy_(codes[None])
        self.module.codebook.total.copy_(codes[None])

    def codes(self):
        return self.module.codebook.table[0]

    def __call__(self, x):
        code = self.module(Features(x=x))
        return code.z, code.indices[..., 0], code.losses["commit"] / x[0].numel()

    def update(self):
        self.module.update()


def make(name, d, k, device):
    options = {"default": {}, "ste": {"rotation_trick": False}}
    return Ours(d, k, device) if name == "ours" else Peer(d, k, device, **options[name])


def data(n, d, k, device):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(k, d, generator=generator).to(device)
    x = torch.randn(n // 64, 64, d, generator=generator).to(device)
    return x.requires_grad_(), codes, torch.randn(n // 64, 64, d, generator=generator).to(device)


def step(part, x, upstream):
    x.grad = None
    z, indices, loss = part(x)
    torch.autograd.backward((z, loss), (upstream, torch.ones_like(loss)))
    part.update()
    return indices, loss.detach()


def evaluate(part, x):
    with torch.no_grad():
        return part(x)


def same(n, d, k, device):
    """Compare with the peer's plain straight-through step; returns how many tokens are ties to rounding."""
    x, codes, upstream = data(n, d, k, device)
    out = {}
    for name in ("ste", "ours"):
        part = make(name, d, k, device)
        part.set_codes(codes)
        indices, loss = step(part, x, upstream)
        out[name] = indices.flatten(), loss, x.grad.flatten(0, 1).clone(), part.codes().clone()
    theirs, ours = out["ste"], out["ours"]
    apart = theirs[0] != ours[0]
    vectors = x.detach().flatten(0, 1)[apart].double()
    far = [(vectors - codes[each[0][apart]].double()).square().sum(1) for each in (theirs, ours)]
    torch.testing.assert_close(far[0], far[1], rtol=1e-5, atol=1e-5)  # ties to rounding, nothing else
    assert apart.float().mean() < 1e-3, f"{int(apart.sum())} of {n} indices differ"
    torch.testing.assert_close(theirs[1].squeeze(), ours[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(theirs[2][~apart], ours[2][~apart], rtol=1e-5, atol=1e-6)
    touched = torch.cat([each[0][apart] for each in (theirs, ours)])
    keep = torch.ones(k, dtype=torch.bool, device=device).index_fill_(0, touched, False)
    torch.testing.assert_close(theirs[3][keep], ours[3][keep], rtol=1e-4, atol=1e-5)
    return int(apart.sum())


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def fits(n, k, device):
    """Whether a step of the peer fits into the memory that is free on the CPU; on a GPU it is tried."""
    return device == "cuda" or 4 * COPIES * n * k < psutil.virtual_memory().available


def timed(call, device):
    wait(device)
    begin, busy = time.perf_counter(), time.process_time()
    call()
    wait(device)
    return (time.perf_counter() - begin) * 1e3, (time.process_time() - busy) * 1e3


def times(n, d, k, device, repeats, names):
    x, codes, upstream = data(n, d, k, device)
    calls = {}
    for name in names:
        part = make(name, d, k, device)
        part.set_codes(codes)
        still = make(name, d, k, device)
        still.set_codes(codes)
        still.module.eval()
        calls[name, "train"] = lambda part=part: step(part, x, upstream)
        calls[name, "eval"] = lambda still=still: evaluate(still, x)
    large = n * d * k > 2**38  # half a minute a step: nothing warms up, and two are measured
    for call in list(calls.values()) * (0 if large else 2):
        call()
    taken = {key: [] for key in calls}
    gc.collect()
    gc.disable()  # as timeit does: a collection lands on whoever happens to run
    for _ in range(2 if large else repeats):
        for key, call in calls.items():
            taken[key].append(timed(call, device))
    gc.enable()
    return {
        f"{name} {mode}": {
            "ms": statistics.median(wall for wall, _ in each),
            "cpu_ms": statistics.median(busy for _, busy in each),
            "fastest_ms": min(wall for wall, _ in each),
        }
        for (name, mode), each in taken.items()
    }


def status(field):
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(field))
    return int(line.split()[1]) / 1024


def peak(name, n, d, k, device):
    """MB that one step needs beyond its inputs and codebook."""
    part = make(name, d, k, device)
    x, codes, upstream = data(n, d, k, device)
    part.set_codes(codes)
    small, _, over = data(64, d, k, device)
    step(part, small, over)  # libraries and their workspaces
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(part, x, upstream)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    step(part, x, upstream)
    return status("VmHWM") - before


def memory(name, n, d, k, device, threads):
    if device == "cuda":
        return peak(name, n, d, k, device)
    if not Path("/proc/self/clear_refs").exists():
        return None
    arguments = [str(each) for each in (name, n, d, k)]
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def case(n, d, k, args, present):
    """Everything about one size."""
    names, lost = (list(NAMES) if present else ["ours"]), []
    for name in tuple(names[:-1]):
        try:
            if not fits(n, k, args.device):
                raise torch.OutOfMemoryError
            step(make(name, d, k, args.device), *data(n, d, k, args.device)[::2])
        except torch.OutOfMemoryError:
            names.remove(name)
            lost.append(name)
            torch.cuda.empty_cache()
    return {
        "n": n,
        "d": d,
        "k": k,
        "ties": same(n, d, k, args.device) if "ste" in names else None,
        "out_of_memory": lost,
        "times": times(n, d, k, args.device, args.repeats, names),
        "peak_mb": {name: memory(name, n, d, k, args.device, args.threads) for name in names},
    }


def show(row):
    compared = {None: "nothing to compare with", 0: "equal indices"}
    n, ties = row["n"], row["ties"]
    print(
        f"\nN {n}, D {row['d']}, K {row['k']}: "
        + compared.get(ties, f"{ties} of {n} indices tie to rounding")
    )
    heads = ("train ms", "ratio", "cpu ms", "ratio", "eval ms", "ratio", "peak MB")
    print(" " * 26 + "".join(f"{head:>9}" for head in heads))
    for name in row["out_of_memory"]:
        print(f"  {NAMES[name]:24}{'out of memory':>18}")
    for name, peak_mb in row["peak_mb"].items():
        cells = ""
        for mode, field in (("train", "ms"), ("train", "cpu_ms"), ("eval", "ms")):
            value = row["times"][f"{name} {mode}"][field]
            cells += f"{value:9.1f}{value / row['times'][f'ours {mode}'][field]:9.1f}"
        print(f"  {NAMES[name]:24}{cells}" + ("" if peak_mb is None else f"{peak_mb:9.0f}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cases", nargs="*", help="such as 8192x64x512; all by default")
    parser.add_argument("--out", default="runs/bench/vq.json")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        print(peak(args.peak[0], *map(int, args.peak[1:]), "cpu"))
        return
    present = importlib.util.find_spec("vector_quantize_pytorch") is not None
    if not present:
        print("the peer is missing (pip install vector-quantize-pytorch==1.32.0): our own figures only")
    sizes, rows = CASES[args.device], []
    if args.cases:
        sizes = [tuple(map(int, each.split("x"))) for each in args.cases]
    for size in sizes:
        rows.append(case(*size, args, present))
        show(rows[-1])
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU thread(s)"
    about = {"device": where, "torch": torch.__version__, "dtype": "float32", "repeats": args.repeats}
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, "cases": rows}, indent=2))
    print(f"\n{where}, torch {torch.__version__}, float32, medians of {args.repeats}; written to {out}")


if __name__ == "__main__":
    main()
