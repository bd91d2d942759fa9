"""How long a folder of 100,000 files takes to list and to read, beside pathlib, torchvision and Hugging Face datasets.

    python tests/benchmarks/bench_folders.py [--files 100000] [--pictures 2000] [--recordings 200] [--only list|pictures|recordings]

- list: empty files in folders of 100, on a warm disk; seconds, and the peak of Python's memory beside that of the sorted list of
  paths alone.
- pictures: JPEG files of 500 x 375 in 10 classes, decoded to 64 x 64 by one process: reprkit's data set ``images`` (each file read
  at every access, and once more when the data set is made), torchvision's ImageFolder with the same crop and size, and the
  ``imagefolder`` of datasets with the same transform.
- recordings: WAV files of 5 s, 16 bits, 16 kHz: reprkit's ``audio``, the log-mel frames of ``sound-folder``, soundfile, and the
  ``audiofolder`` of datasets, which decodes by soundfile before version 4, and by torchcodec with FFmpeg since.  All give equal
  samples, which is checked first.  Other versions are put before the installed ones by PYTHONPATH:

      pip install --no-deps --target hf3 'datasets<4' librosa numba llvmlite pooch soxr audioread lazy_loader msgpack decorator \\
          'fsspec<=2025.3.0' dill multiprocess xxhash
      PYTHONPATH=hf3 python tests/benchmarks/bench_folders.py --only recordings
      pip install --no-deps --target hf4 torchcodec

Speeds are of the process's own time (user and system), so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDERS = 1000


def own_time(call: Callable[[], Any]) -> float:
    """Processor seconds of this process during a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def peak(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Peak and final size of Python's memory during a call, in MB, and its result."""
    tracemalloc.start()
    result = call()
    size, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6, size / 1e6, result


def bench_listing(root: Path, count: int) -> dict[str, float]:
    """List ``count`` files."""
    from reprkit.data.folders import count_suffixes, find_files

    for number in range(count):
        folder = root / f"{number % FOLDERS:04}"
        if number < FOLDERS:
            folder.mkdir()
        (folder / f"{number:06}.png").touch()
    rows = {
        "find_files": lambda: find_files(root, {".png"}, "images").names,
        "count_suffixes": lambda: count_suffixes(root),
        "sorted(Path.rglob), is_file": lambda: sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
        ),
        "os.walk": lambda: sorted(
            os.path.relpath(os.path.join(folder, name), root)
            for folder, _, names in os.walk(root)
            for name in names
        ),
    }
    for call in rows.values():
        call()  # warm
        break
    found = {}
    for name, call in rows.items():
        found[name] = seconds = min(timed(call)[0] for _ in range(3))
        most, size, _ = peak(call)
        print(
            f"{name}: {count:,} files in {seconds:.2f} s; peak {most:.1f} MB, result {size:.1f} MB",
            flush=True,
        )
    return found


def bench_pictures(root: Path, count: int) -> dict[str, float]:
    """Decode JPEG files."""
    from PIL import Image
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from reprkit.data.formats import images

    drawn = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % 10}"
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(drawn.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)
    images.MEMORY, memory = 0, images.MEMORY  # each file is decoded at every access
    made, data = timed(lambda: images.Images(root, 64, labels=True))
    images.MEMORY = memory
    kept_made, kept = timed(lambda: images.Images(root, 64, labels=True))
    transform = v2.Compose(
        [
            v2.CenterCrop(375),
            v2.Resize(64, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    theirs = ImageFolder(root, transform)
    rows: dict[str, Callable[[], Any]] = {
        "reprkit images, decoded at each access": lambda: [
            data.batch(range(i, i + 50)) for i in range(0, count, 50)
        ],
        "reprkit images, kept in memory": lambda: [kept.batch(range(i, i + 50)) for i in range(0, count, 50)],
        "torchvision ImageFolder": lambda: [
            torch.stack([theirs[place][0] for place in range(i, i + 50)]) for i in range(0, count, 50)
        ],
    }
    try:
        from datasets import load_dataset

        table = load_dataset(
            "imagefolder", data_dir=str(root), split="train", cache_dir=str(root.parent / "cache")
        )
        rows["datasets imagefolder"] = lambda: [
            torch.stack([transform(row.convert("RGB")) for row in table[i : i + 50]["image"]])
            for i in range(0, count, 50)
        ]
    except ImportError:
        print("datasets is not installed")
    print(f"making the data set: {made:.2f} s, with the pictures in memory {kept_made:.2f} s")
    found = {}
    for name, call in rows.items():
        seconds = [own_time(call) for _ in range(3)]
        found[name] = count / statistics.median(seconds)
        print(
            f"{name}: {count / min(seconds):,.0f} pictures a second ({count / max(seconds):,.0f})", flush=True
        )
    return found


def bench_recordings(root: Path, count: int) -> dict[str, float]:
    """Decode WAV files."""
    import soundfile

    import reprkit as rk
    from reprkit.data.formats.audio import Audio

    os.environ["REPRKIT_CACHE"] = str(root.parent / "cache")
    root.mkdir()
    for number in range(count):
        wave = 0.1 * np.random.default_rng(number).standard_normal(80_000).astype(np.float32)
        soundfile.write(root / f"{number:04}.wav", wave, 16_000)
    seconds_of_sound = 5.0 * count
    made, data = timed(lambda: Audio(root))
    first, frames = timed(lambda: rk.dataset(root, frames=None))
    again, _ = timed(lambda: rk.dataset(root, frames=None))
    rows: dict[str, Callable[[], Any]] = {
        "reprkit audio": lambda: [data[place] for place in range(count)],
        "reprkit sound-folder (frames in memory)": lambda: [frames[place] for place in range(count)],
        "soundfile.read": lambda: [soundfile.read(root / name, dtype="float32")[0] for name in data.files],
    }
    rows |= datasets_audio(root, data)
    print(f"making: audio {made:.2f} s, sound-folder {first:.2f} s, again from its cache {again:.2f} s")
    found = {}
    for name, call in rows.items():
        seconds = [own_time(call) for _ in range(3)]
        found[name] = seconds_of_sound / statistics.median(seconds)
        fastest, slowest = (seconds_of_sound / each for each in (min(seconds), max(seconds)))
        print(f"{name}: {fastest:,.0f} seconds of sound a second ({slowest:,.0f})", flush=True)
    return found


def datasets_audio(root: Path, data: Any) -> dict[str, Callable[[], Any]]:
    """Return the reader of Hugging Face datasets, after checking that it gives the samples of ``data``."""
    try:
        import datasets
    except ImportError:
        print("datasets is not installed")
        return {}
    table = datasets.load_dataset(
        "audiofolder", data_dir=str(root), split="train", cache_dir=str(root.parent / "cache")
    )

    def wave(place: int) -> np.ndarray:
        return np.asarray(table[place]["audio"]["array"], np.float32)

    decoder = "soundfile"
    if int(datasets.__version__.partition(".")[0]) >= 4:
        import torchcodec

        decoder = f"torchcodec {torchcodec.__version__}"
    for place in range(3):
        assert np.array_equal(wave(place), data[place]["x"].numpy().reshape(-1)), "the samples differ"
    name = f"datasets {datasets.__version__} audiofolder ({decoder})"
    return {name: lambda: [wave(place) for place in range(len(table))]}


def main() -> None:
    """Print all figures, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--recordings", type=int, default=200)
    parser.add_argument("--only", choices=["list", "pictures", "recordings"])
    parser.add_argument("--out", type=Path, default=Path("runs/bench/folders.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    import PIL
    import soundfile
    import torchvision

    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, Pillow {PIL.__version__}, "
        f"torchvision {torchvision.__version__}, soundfile {soundfile.__version__}"
    )
    benches = {
        "list": (bench_listing, given.files),
        "pictures": (bench_pictures, given.pictures),
        "recordings": (bench_recordings, given.recordings),
    }
    rates = {}
    for name, (bench, count) in benches.items():
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "set"
                if name != "recordings":
                    root.mkdir()
                rates[name] = bench(root, count)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"torch": torch.__version__, "rates": rates}, indent=1) + "\n")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
