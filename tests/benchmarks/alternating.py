"""What the benchmarks of a training step share: models in turns on one machine, medians, and the record of a run."""

import argparse
import contextlib
import json
import statistics
import time
from pathlib import Path

import torch


def cast_on(device):
    """The context of a forward: bf16 autocast on a GPU, nothing on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()


def alternated(models, step, device, repeats, steps):
    """Milliseconds a step of each model, in turns; ``step(name, model)``.  On a CPU processor time; the first round warms up."""

    def clock():
        if device == "cpu":
            return time.process_time(), time.perf_counter()
        torch.cuda.synchronize()
        return time.perf_counter(), time.perf_counter()

    taken = {name: [] for name in models}
    for turn in range(repeats + 1):
        for name, model in models.items():
            before = clock()
            for _ in range(steps):
                step(name, model)
            after = clock()
            if turn:
                taken[name].append([(b - a) / steps * 1e3 for a, b in zip(before, after, strict=True)])
    return {
        name: {
            "ms": statistics.median(each[0] for each in times),
            "quarters": statistics.quantiles((each[0] for each in times), n=4)[::2],
            "wall_ms": statistics.median(each[1] for each in times),
        }
        for name, times in taken.items()
    }


def main(about, cases, run, out):
    """The command line: every case that is asked for by ``run(name, case, device, repeats, steps)``, and a JSON file."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1, help="steps a measurement")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--out", type=Path, default=Path(out))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    chosen = {name: case for name, case in cases[given.device].items() if given.only in name}
    rows = [run(name, case, given.device, given.repeats, given.steps) for name, case in chosen.items()]
    cpu = f"{given.threads} CPU thread(s), processor time"
    where = torch.cuda.get_device_name() if given.device == "cuda" else cpu
    precision = "bf16 autocast" if given.device == "cuda" else "float32"
    given.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"device": where, "torch": torch.__version__, "precision": precision, "repeats": given.repeats}
    given.out.write_text(json.dumps(record | {"cases": rows}, indent=1) + "\n")
    print(
        f"\n{where}, torch {torch.__version__}, {precision}, medians of {given.repeats}; written to {given.out}"
    )
