"""Streams in shards for 1, 2 and 4 ranks: records a second, bytes that each rank reads, and the cost of a resume, beside others.

    pip install webdataset==1.0.2
    python tests/benchmarks/bench_streams.py [FOLDER] [--gb 1] [--ranks 1 2 4] [--only shards,webdataset,datasets,hub-stream]

FOLDER gets tar files of about 100 MB, in WebDataset's layout: records of 96 KiB of numbers (.npy) and a label (.cls); and, with
hub-stream, Parquet files of the same records.  They are written once and kept; without FOLDER they are temporary.  Each rank runs
in a process of its own, one after another, and reads one epoch in batches of 256 (over all ranks) without a model.  Checked first:
the records of all ranks together are all records, each once (reprkit: but for those that do not fill a batch, which it says).

- records a CPU second: of the process, user and system time, so that other work on the machine counts little.
- bytes: what the process has read by system calls (rchar of /proc/self/io), beside the size of the shards.
- resume: a process that starts after 90 % of an epoch on one rank: CPU seconds and bytes until its first batch, without making the
  data set.  webdataset has no saved position, so it reads over; datasets restores its state, without its shuffle buffer.

"tarfile" is a plain loop over the shards.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS, RECORDS, BATCH = 24_576, 1000, 256
READERS = ("shards", "webdataset", "datasets", "hub-stream", "hub-stream (all ranks read all)", "tarfile")


def write(folder: Path, gigabytes: float, parquet: bool) -> int:
    """Write the shards that are not there; return the number of records."""
    count = max(2, round(gigabytes * 1e9 / (RECORDS * NUMBERS * 4)))
    (folder / "tar").mkdir(parents=True, exist_ok=True)
    (folder / "parquet").mkdir(exist_ok=True)
    for shard in range(count):
        generator = np.random.default_rng(shard)
        values = generator.standard_normal((RECORDS, NUMBERS), dtype=np.float32)
        values[:, 0] = np.arange(shard * RECORDS, (shard + 1) * RECORDS)  # names the record
        target = folder / "tar" / f"train-{shard:05d}.tar"
        if not target.exists():
            with tarfile.open(target, "w") as tar:
                for row in range(RECORDS):
                    file = io.BytesIO()
                    np.save(file, values[row])
                    for suffix, content in (("npy", file.getvalue()), ("cls", str(row % 10).encode())):
                        member = tarfile.TarInfo(f"{shard * RECORDS + row:09d}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
        target = folder / "parquet" / f"train-{shard:05d}.parquet"
        if parquet and not target.exists():
            import pyarrow
            import pyarrow.parquet

            column = pyarrow.FixedSizeListArray.from_arrays(values.reshape(-1), NUMBERS)
            table = pyarrow.table({"x": column.cast(pyarrow.list_(pyarrow.float32()))})
            pyarrow.parquet.write_table(
                table, target, row_group_size=100, compression="none", use_dictionary=False
            )
    return count * RECORDS


def read_bytes() -> int:
    """Bytes that this process has read by system calls."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def open_reader(
    name: str, folder: Path, ranks: int, rank: int, done: int
) -> Callable[[], Iterator[np.ndarray]]:
    """Return what starts to yield the first number of each record of a rank's batches, after ``done`` records of all ranks."""
    local = BATCH // ranks
    if name in ("shards", "hub-stream", "hub-stream (all ranks read all)"):
        from reprkit.data import HubStream, TarStream, loader
        from reprkit.data.loading.stream_sampler import StreamSampler

        data: Any = (
            TarStream(folder / "tar", classes={"label": list(range(10))})
            if name == "shards"
            else HubStream(folder / "parquet", columns={"x": "x"})
        )
        records = data.shards().count
        order = data.order(BATCH, 1, ranks=ranks, rank=rank)
        if name.endswith("all)"):
            order = StreamSampler(data, BATCH, 1, ranks=ranks, rank=rank)
        batches = loader(data, order, done // BATCH, stop=records // BATCH)
        return lambda: (batch["x"][:, 0].numpy() for batch in batches)
    if name == "webdataset":
        import webdataset

        shards = sorted(map(str, (folder / "tar").glob("*.tar")))
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks))
        pipeline = webdataset.WebDataset(
            shards, nodesplitter=webdataset.split_by_node, shardshuffle=len(shards), seed=1
        )
        pipeline = pipeline.shuffle(1000 // ranks).decode().to_tuple("npy", "cls").batched(local)

        def first() -> Iterator[np.ndarray]:
            for number, (values, _) in enumerate(pipeline):
                if number * BATCH >= done:
                    yield values[:, 0]

        return first
    if name == "datasets":
        import datasets
        from datasets.distributed import split_dataset_by_node

        table = datasets.load_dataset(
            "webdataset", data_files=str(folder / "tar" / "*.tar"), split="train", streaming=True
        )
        table = table.select_columns(["npy", "cls"]).shuffle(seed=1, buffer_size=1000 // ranks)
        table = split_dataset_by_node(table, rank, ranks)
        if done:
            state = folder / f"state-{done}.json"
            table.load_state_dict(json.loads(state.read_text()))
        return lambda: (
            np.stack([np.asarray(each, dtype=np.float32) for each in batch["npy"]])[:, 0]
            for batch in table.iter(local)
        )
    return lambda: _plain(folder, ranks, rank)


def _plain(folder: Path, ranks: int, rank: int) -> Iterator[np.ndarray]:
    values: list[Any] = []
    for path in sorted((folder / "tar").glob("*.tar"))[rank::ranks]:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                content = file.read()
                if member.name.endswith("npy"):
                    values.append(np.load(io.BytesIO(content)))
                if len(values) == BATCH // ranks:
                    yield np.stack(values)[:, 0]
                    values = []
    if values:
        yield np.stack(values)[:, 0]


def measure(name: str, folder: Path, ranks: int, rank: int, done: int, first_only: bool) -> dict[str, Any]:
    """Read one rank's epoch, or its first batch, in this process."""
    made = time.process_time()
    start = open_reader(name, folder, ranks, rank, done)
    seen, cpu, before, wall = [], time.process_time(), read_bytes(), time.perf_counter()
    for values in start():
        seen.append(values.astype(np.int64))
        if first_only:
            break
    numbers = np.concatenate(seen) if seen else np.zeros(0, np.int64)
    return {
        "made": cpu - made,
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "bytes": read_bytes() - before,
        "records": len(numbers),
        "numbers": numbers.tolist() if not first_only else [],
        "digest": hashlib.sha256(numbers.tobytes()).hexdigest(),
    }


def in_process(*arguments: Any) -> dict[str, Any]:
    """Run ``measure`` in a new process."""
    command = [sys.executable, __file__, "--measure", json.dumps([str(each) for each in arguments])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def save_datasets_state(folder: Path, done: int) -> None:
    """Read with datasets up to a position and keep its state."""
    target = folder / f"state-{done}.json"
    if target.exists():
        return
    import datasets

    table = datasets.load_dataset(
        "webdataset", data_files=str(folder / "tar" / "*.tar"), split="train", streaming=True
    )
    table = table.select_columns(["npy", "cls"]).shuffle(seed=1, buffer_size=1000)
    for number, _ in enumerate(table.iter(BATCH), 1):
        if number * BATCH == done:
            target.write_text(json.dumps(table.state_dict()))
            return


def compare(folder: Path, gigabytes: float, numbers_of_ranks: list[int], names: list[str]) -> None:
    """Write the shards that are missing, measure every reader, and print a line for each."""
    began = time.perf_counter()
    count = write(folder, gigabytes, any(name.startswith("hub") for name in names))
    sizes = {kind: sum(f.stat().st_size for f in (folder / kind).glob("*")) for kind in ("tar", "parquet")}
    print(f"{count:,} records, {sizes['tar'] / 1e9:.2f} GB of tar, {sizes['parquet'] / 1e9:.2f} GB of Parquet, "
          f"written in {time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
    for name in names:
        size = sizes["parquet" if name.startswith("hub") else "tar"]
        for ranks in numbers_of_ranks:
            found = [in_process(name, folder, ranks, rank, 0, False) for rank in range(ranks)]
            numbers = np.concatenate([each["numbers"] for each in found])
            once = len(np.unique(numbers)) == len(numbers)
            cpu = sum(each["cpu"] for each in found)
            wall = sum(each["wall"] for each in found)
            shares = ", ".join(f"{each['bytes'] / size:.3f}" for each in found)
            print(
                f"{name:34} ranks {ranks}: {len(numbers):7,} of {count:,} records, {'each once' if once else 'SOME TWICE'}; "
                f"{len(numbers) / cpu:,.0f} records a CPU second, {len(numbers) / wall:,.0f} a second of one rank; "
                f"bytes a rank {shares} of the shards; made in {found[0]['made']:.2f} CPU s",
                flush=True,
            )
        if name == "tarfile":
            continue
        done = count * 9 // 10 // BATCH * BATCH
        if name == "datasets":
            save_datasets_state(folder, done)
        found = [in_process(name, folder, 1, 0, done, True)]
        until = (
            "until the first batch" if found[0]["records"] else "and no batch: what its buffer held is lost"
        )
        print(
            f"{name:34} resume at 90 %: {found[0]['cpu']:.2f} CPU s, {found[0]['bytes'] / 1e6:,.0f} MB {until}",
            flush=True,
        )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--only", default=",".join(READERS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, folder, ranks, rank, done, first_only = json.loads(given.measure)
        print(json.dumps(measure(name, Path(folder), int(ranks), int(rank), int(done), first_only == "True")))
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(given.folder or Path(temporary), given.gb, given.ranks, given.only.split(","))


if __name__ == "__main__":
    main()
