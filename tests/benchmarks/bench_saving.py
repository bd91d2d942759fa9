"""The stall of a save: how long a step waits, with gathered, synchronous sharded, and asynchronous sharded saves.

    python tests/benchmarks/bench_saving.py [--processes 4] [--parameters 200] [--saves 5] [--between 6]
                                            [--strategies ddp fsdp] [--ways gathered waited sharded]
                                            [--folder DIR] [--out runs/bench/saving.json]

A model of 200 million parameters with AdamW (2.4 GB of weights and moments) on four processes of one thread over gloo.  Each
strategy is one run, in which the ways of saving take turns, so that a machine that becomes busy is so for all; medians are
printed.  "stall" is the time from the end of a step's update until the next step may begin, on the slowest rank.  "slower steps"
is what the steps take longer while the thread writes, summed until the state is visible.  The synchronous sharded save writes
the same files and is waited for.  The first round warms up, and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import reprkit as rk
from reprkit.testing.processes import ranks
from reprkit.training.resume import state
from reprkit.training.resume.background import BackgroundSaver

WAYS = ("gathered", "waited", "sharded")  # waited: a sharded save that is waited for
BATCH = 1  # examples a process: a step's length does not matter to the stall


def measured(
    rank: int,
    strategy: str,
    ways: Sequence[str],
    parameters: int,
    saves: int,
    between: int,
    folder: Path,
) -> dict[str, Any]:
    """Seconds of each way of saving, of one rank; and of a step without one."""
    torch.set_num_threads(1)
    width = 4096
    depth = max(1, round((parameters * 1e6 / 2 - 2 * 64 * width) / width**2))
    data = rk.dataset(torch.rand(64, 64, generator=torch.Generator().manual_seed(0)))
    widths = f"mlp(widths={(width,) * (depth + 1)})"
    model = rk.build(data=data, encoder=widths, latent="continuous(dim=16)", decoder=widths)
    size = sum(parameter.numel() for parameter in model.parameters())
    steps = 2 + len(ways) * (saves + 1) * between
    world = dist.get_world_size()
    given = {"batch": BATCH * world, "device": "cpu", "strategy": strategy, "log_every": 0, "progress": False}
    stalls: dict[str, list[float]] = {way: [] for way in ways}
    written: list[float] = []
    slower: list[list[float]] = []
    plain: list[float] = []
    saver: BackgroundSaver | None = None
    way, since, busy = "", 0, []  # type: str, int, list[float]
    began = time.perf_counter()
    for step in rk.loop(model, data, steps=steps, **given):
        if saver is None:
            train_state = step._train_state
            saver = BackgroundSaver(folder / "sharded", 1, train_state.device, rank, world)
        began = time.perf_counter()
        step.backward(step.model(step.batch).total)
        step.update()
        dist.barrier()
        taken = time.perf_counter() - began
        if saver.in_flight:
            busy.append(taken)
            if saver.written:
                written.append(saver.finish().seconds)
                slower.append(busy)
        elif since > 1:
            plain.append(taken)
        since += 1
        if step.index == 1:
            saver.reserve(train_state.capture(whole=False), model)
        if step.index < 2 or (step.index - 2) % between:
            continue
        if saver.in_flight:
            written.append(saver.finish().seconds)
            slower.append(busy)
        dist.barrier()
        way = ways[(step.index - 2) // between % len(ways)]
        metadata = {"seconds": 0.0, "options": {"data": {}}}
        since, busy = 0, []
        dist.barrier()
        began = time.perf_counter()
        train_state.non_finite_tensors(buffers_only=way != "gathered")  # as the loop does before each save
        if way == "gathered":
            captured = train_state.capture() if rank == 0 or strategy == "fsdp" else {}
            if rank == 0:
                state.save(folder / "gathered", step.index, metadata, captured)
            dist.barrier()
        else:
            captured = train_state.capture(whole=False)
            saver.start(step.index, metadata, captured, model)
            if way == "waited":
                saver.finish()
        stalls[way].append(time.perf_counter() - began)
        dist.barrier()
    assert saver is not None
    saver.finish()
    saver.close()
    rounds = {name: each[1:] for name, each in stalls.items()}
    return {"stalls": rounds, "written": written[1:], "busy": slower[1:], "plain": plain, "size": size}


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--parameters", type=int, default=200, help="millions")
    parser.add_argument("--saves", type=int, default=5, help="of each way")
    parser.add_argument("--between", type=int, default=6, help="steps between two saves")
    parser.add_argument("--strategies", nargs="+", default=["ddp", "fsdp"], choices=["ddp", "fsdp"])
    parser.add_argument(
        "--ways", nargs="+", default=list(WAYS), choices=WAYS, help="gathered needs most memory"
    )
    parser.add_argument("--folder", type=Path, help="the disk to write to; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    for strategy in asked.strategies:
        folder = Path(tempfile.mkdtemp(dir=asked.folder))
        try:
            told = ranks(
                asked.processes,
                measured,
                strategy,
                asked.ways,
                asked.parameters,
                asked.saves,
                asked.between,
                folder,
                timeout=3600,
            )
        finally:
            shutil.rmtree(folder)
        stalls = {
            way: [max(each) for each in zip(*(rank["stalls"][way] for rank in told), strict=True)]
            for way in asked.ways
        }
        rows.append({"strategy": strategy, "stalls": stalls, "ranks": told})
    size = rows[0]["ranks"][0]["size"]
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, {size / 1e6:.0f} M parameters, "
    )
    print(f"{asked.processes} processes of one thread, {asked.saves} saves of each way\n")
    print(
        "| strategy | gathered | sharded, waited for | stall of sharded | share of waited for | share of gathered | written after "
        "| slower steps |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        gathered, waited, stall = (statistics.median(row["stalls"].get(way, [float("nan")])) for way in WAYS)
        first = row["ranks"][0]
        plain, written = statistics.median(first["plain"]), statistics.median(first["written"])
        slower = statistics.median(sum(each) - len(each) * plain for each in first["busy"])
        print(
            f"| {row['strategy']} | {gathered:.2f} s | {waited:.2f} s | {stall:.3f} s | {stall / waited:.1%} "
            f"| {stall / gathered:.1%} | {written:.1f} s | {slower:.1f} s |"
        )
        spread = {way: [f"{min(each):.2f}", f"{max(each):.2f}"] for way, each in row["stalls"].items()}
        print(f"<!-- a step without saving: {plain:.2f} s; least and most: {spread} -->")
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        settings = {key: str(value) for key, value in vars(asked).items()}
        asked.out.write_text(
            json.dumps({"settings": settings, "torch": torch.__version__, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
