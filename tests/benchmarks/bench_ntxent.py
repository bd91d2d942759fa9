"""NT-Xent beside lightly 1.6.0's NTXentLoss: forward and backward, same views, threads and dtype.

    python tests/benchmarks/bench_ntxent.py [--device cuda] [--threads 1] [--repeats 15] [--out FILE.json]

Both normalize the rows and take the mean over both views.  Before any time is taken the values are compared
(to 1e-5), and the gradients.  A third way stands beside them: equation 1 as one would write it with autograd,
one product of the stacked views.  Runs alternate; figures are medians in milliseconds, the ratio is of
medians.  Memory is the peak beyond what was there before the step: on the CPU the growth of the resident set
of a fresh process (``VmHWM`` after ``clear_refs``), on CUDA what the caching allocator counted.  ``accuracy``
is ours with the share of nearest positives, which the objective records.

Needs: pip install lightly==1.6.0 (without it, on CUDA only, equation 1 is the peer)
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F

from reprkit.kernels.ntxent import ntxent, ntxent_and_accuracy

DIM, TEMPERATURE = 128, 0.5
COPIES = 5  # of the logits that a step of a peer holds at its peak
CASES = {"cpu": (256, 512, 1024, 2048, 4096, 8192, 16384), "cuda": (1024, 8192, 32768)}
WAYS = {
    "lightly": "lightly",
    "plain": "equation 1, autograd",
    "ours": "reprkit",
    "accuracy": "reprkit, accuracy",
}


def plain(a, b):
    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(a)))


def make(way):
    if way == "lightly":
        from lightly.loss import NTXentLoss

        return NTXentLoss(TEMPERATURE)
    return {
        "plain": plain,
        "ours": lambda a, b: ntxent(a, b, TEMPERATURE),
        "accuracy": lambda a, b: ntxent_and_accuracy(a, b, TEMPERATURE)[0],
    }[way]


def views(size, device):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(size, DIM, generator=generator)
    b = a + torch.randn(size, DIM, generator=generator)
    return a.to(device).requires_grad_(), b.to(device).requires_grad_()


def step(loss, a, b):
    a.grad = b.grad = None
    value = loss(a, b)
    value.backward()
    return value


def same(ways, size, device):
    """Compare value and gradients with the first way; the largest differences."""
    a, b = views(size, device)
    seen = []
    for way in ways:
        value = step(make(way), a, b)
        seen.append((float(value.detach()), torch.cat([a.grad, b.grad])))
    gaps = [abs(value - seen[0][0]) for value, _ in seen]
    assert max(gaps) < 1e-5, f"values differ: {[value for value, _ in seen]}"
    largest = seen[0][1].abs().max()
    apart = [float((gradient - seen[0][1]).abs().max() / largest) for _, gradient in seen]
    assert max(apart) < 1e-4, f"gradients differ, relative to the largest entry: {apart}"
    return max(gaps), max(apart)


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def times(ways, size, device, repeats):
    a, b = views(size, device)
    losses = {way: make(way) for way in ways}
    for loss in list(losses.values()) * 2:
        step(loss, a, b)
    taken = {way: [] for way in ways}
    for _ in range(repeats):
        for way, loss in losses.items():
            wait(device)
            begin, busy = time.perf_counter(), time.process_time()
            step(loss, a, b)
            wait(device)
            taken[way].append(((time.perf_counter() - begin) * 1e3, (time.process_time() - busy) * 1e3))
    return {
        way: {
            "ms": statistics.median(wall for wall, _ in each),
            "cpu_ms": statistics.median(busy for _, busy in each),
            "fastest_ms": min(wall for wall, _ in each),
        }
        for way, each in taken.items()
    }


def status(field):
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(field))
    return int(line.split()[1]) / 1024


def peak(way, size, device):
    """MB that one step needs beyond its inputs."""
    loss = make(way)
    a, b = views(size, device)
    step(loss, *views(8, device))  # libraries and their workspaces
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(loss, a, b)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    step(loss, a, b)
    return status("VmHWM") - before


def memory(way, size, device, threads):
    if device == "cuda":
        return peak(way, size, device)
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", way, str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def fits(way, size, device):
    """Whether a step of this size fits into the device's memory; on the CPU by the 2N x 2N logits that a peer holds."""
    if device == "cpu":
        peer = way in ("lightly", "plain")
        return not peer or 4 * COPIES * (2 * size) ** 2 < psutil.virtual_memory().available
    try:
        step(make(way), *views(size, device))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True


def peers(device):
    try:
        import lightly.loss  # noqa: F401
    except ImportError as error:
        if device == "cpu":
            raise SystemExit(f"{error}\nThe peer is missing: pip install lightly==1.6.0") from error
        print(f"{error}: equation 1 stands in for the peer")
        return ["plain", "ours", "accuracy"]
    return list(WAYS)


def report(ways, figures, megabytes):
    print(f"  {'':24}{'ms':>10}{'ratio':>8}{'cpu ms':>10}{'ratio':>8}{'peak MB':>10}")
    ours = figures["ours"]
    for way in ways:
        if way not in figures:
            print(f"  {WAYS[way]:24}out of memory")
            continue
        each, used = figures[way], megabytes[way]
        print(
            f"  {WAYS[way]:24}{each['ms']:10.2f}{each['ms'] / ours['ms']:8.2f}"
            f"{each['cpu_ms']:10.2f}{each['cpu_ms'] / ours['cpu_ms']:8.2f}"
            + ("" if used is None else f"{used:10.1f}")
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sizes", nargs="*", type=int, help="batches; all by default")
    parser.add_argument("--out", default="runs/bench/ntxent.json")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        print(peak(args.peak[0], int(args.peak[1]), "cpu"))
        return
    ways, rows = peers(args.device), []
    for size in args.sizes or CASES[args.device]:
        here = [way for way in ways if fits(way, size, args.device)]
        value, gradient = same(here, size, args.device)
        # Short steps are measured more often, long ones at least three times: medians of short ones are noisier.
        figures = times(here, size, args.device, max(3, args.repeats * 2048 // size))
        megabytes = {way: memory(way, size, args.device, args.threads) for way in here}
        print(f"\nbatch {size}, D {DIM}: values within {value:.1e}, gradients within {gradient:.1e}")
        report(ways, figures, megabytes)
        rows.append(
            {"batch": size, "dim": DIM, "value_gap": value, "gradient_gap": gradient, "times": figures}
            | {"peak_mb": megabytes, "out_of_memory": [way for way in ways if way not in here]}
        )
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} CPU thread(s)"
    record = {"device": where, "torch": torch.__version__, "dtype": "float32", "temperature": TEMPERATURE}
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record | {"repeats": args.repeats, "cases": rows}, indent=2))
    print(f"\n{where}, torch {torch.__version__}, float32, medians of {args.repeats}; written to {out}")


if __name__ == "__main__":
    main()
