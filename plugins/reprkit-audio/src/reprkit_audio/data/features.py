"""Cache of clips' frames, computed once per file and front end.

Processes share work through the cache folder: those that start at the same time go through the missing clips in different
random orders and read what others have stored meanwhile, so no locks are needed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from reprkit.data import sound
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_audio.data.clips import Clip
from reprkit_audio.frontends import FrontEnd, Sound, frontend
from reprkit_audio.waveforms import clipped_share

VERSION = 1  # of the cached files; a new number invalidates them
MIN_SECONDS = 0.1  # seconds; shorter sounds are refused
PARALLEL_FROM = 600.0  # seconds of missing sound from which on several processes are used
MAX_HELPERS = 16

_PARTS = ("pitch", "aperiodicity")


def cache_path(clip: Clip, front: FrontEnd, trim: bool) -> Path:
    """Cache path of a clip's frames: by the file's path, size, time and section, and the front end's form."""
    state = clip.path.stat()
    key = (
        VERSION,
        str(clip.path.resolve()),
        state.st_size,
        state.st_mtime_ns,
        clip.start,
        clip.stop,
        trim,
        front.form,
        *([] if clip.loudness is None and clip.band is None else [clip.loudness, clip.band]),
    )
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    return cache_folder("audio") / "features" / front.name / name[:2] / f"{name}.npz"


def load_or_analyze(clip: Clip, front: FrontEnd, trim: bool) -> tuple[Sound, float]:
    """Load a clip's frames and its share of clipped samples from the cache, or compute and store them.

    Raises:
        DataError: the clip cannot be read, is silent, or is shorter than 0.1 s.
    """
    path = cache_path(clip, front, trim)
    cached = _read_cached(path)
    if cached is not None:
        return cached
    wave = clip.wave(front.rate, trim=trim)
    if len(wave) < MIN_SECONDS * front.rate:
        raise DataError(f"it is {len(wave) / front.rate:.2f} s of sound, under {MIN_SECONDS:g} s")
    analyzed, share = front.analyze(wave), clipped_share(wave)
    file = io.BytesIO()
    others = {name: getattr(analyzed, name).numpy() for name in _PARTS if getattr(analyzed, name) is not None}
    np.savez(file, frames=analyzed.frames.numpy(), clipped=np.float32(share), **others)
    write_cached(path, file.getvalue())
    return analyzed, share


def load_frames(
    clips: list[Clip], front: FrontEnd, trim: bool, skips: CorruptFiles
) -> list[tuple[Clip, torch.Tensor, float]]:
    """Load frames (t c) and clipped share of every clip that can be analyzed; the others are added to ``skips``."""
    if not clips:
        return []
    with contextlib.suppress(OSError):  # an unreadable file is reported below
        _compute_missing(clips, front, trim)
    read = functools.partial(load_or_analyze, front=front, trim=trim)
    with_names = {clip.name: clip for clip in clips}
    return [
        (with_names[name], analyzed.frames, share)
        for name, (analyzed, share) in skips.iter_readable(with_names, lambda name: read(with_names[name]))
    ]


def _compute_missing(clips: list[Clip], front: FrontEnd, trim: bool) -> None:
    """Compute the missing frames, with helper processes if there are many."""
    missing = [clip for clip in clips if clip.path.exists() and not cache_path(clip, front, trim).exists()]
    random.Random(os.getpid()).shuffle(missing)
    helpers = min(MAX_HELPERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if helpers < 2 or _count_seconds(missing) < PARALLEL_FROM:
        _compute(missing, front, trim)
        return
    running = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for number in range(helpers):
        job = {
            "form": front.form,
            "trim": trim,
            "clips": [_to_json(clip) for clip in missing[number::helpers]],
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "reprkit_audio.data.features"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as job_file:
            json.dump(job, job_file)
        running.append(process)
    try:
        for process in running:
            process.wait()
    finally:
        for process in running:
            process.kill()  # those still running if this process is interrupted


def _compute(clips: Iterable[Clip], front: FrontEnd, trim: bool) -> None:
    for clip in clips:
        with contextlib.suppress(Exception):  # reported when all clips are collected
            load_or_analyze(clip, front, trim)


def _count_seconds(clips: Iterable[Clip]) -> float:
    total = 0.0
    for clip in clips:
        with contextlib.suppress(DataError):
            total += (clip.stop or sound.duration(clip.path)) - clip.start
        if total >= PARALLEL_FROM:
            break
    return total


def _read_cached(path: Path) -> tuple[Sound, float] | None:
    """Read a cached analysis; None if it is missing or unreadable."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in ("frames", *_PARTS) if name in file}
            return Sound(**arrays), float(file["clipped"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _to_json(clip: Clip) -> dict[str, object]:
    return {**asdict(clip), "path": str(clip.path)}


def _main() -> None:
    """Run as helper process: read a job as JSON from standard input, and store frames in the cache."""
    torch.set_num_threads(1)
    job = json.load(sys.stdin)
    clips = (Clip(**{**each, "path": Path(each["path"])}) for each in job["clips"])
    _compute(clips, frontend(job["form"]), job["trim"])


if __name__ == "__main__":
    _main()
