"""Frames of clips, worked out once for each file and front end, and kept on disk.

The folder is the meeting point of everybody who works them out: processes that start at the same time go over the
missing ones in orders of their own and find what others have kept meanwhile, so nothing has to be locked.
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

from reprkit.data.corrupt_files import CorruptFiles
from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, keep
from reprkit_audio import sound
from reprkit_audio.data.clips import Clip
from reprkit_audio.frontends import FrontEnd, Sound, frontend

VERSION = 1  # of what is kept; a new number makes all anew
MIN_SECONDS = 0.1  # seconds of sound under which there is nothing to learn
PARALLEL_FROM = 600.0  # seconds of missing sound from which on other processes help
MAX_HELPERS = 16

_PARTS = ("pitch", "aperiodicity")


def cache_path(clip: Clip, front: FrontEnd, trim: bool) -> Path:
    """Where a clip's frames are kept: by the file's path, size and time, the part of it, and the front end's form."""
    state = clip.path.stat()
    what = (
        VERSION,
        str(clip.path.resolve()),
        state.st_size,
        state.st_mtime_ns,
        clip.start,
        clip.stop,
        trim,
        front.form,
    )
    name = hashlib.sha256(repr(what).encode()).hexdigest()[:32]
    return cache_folder("audio") / "features" / front.name / name[:2] / f"{name}.npz"


def load_or_analyze(clip: Clip, front: FrontEnd, trim: bool) -> tuple[Sound, float]:
    """A clip's frames, and the share of its samples that are clipped: from disk, or worked out and kept.

    Raises:
        DataError: the clip cannot be read, is silent, or is shorter than 0.1 s.
    """
    path = cache_path(clip, front, trim)
    found = _read_cached(path)
    if found is not None:
        return found
    wave = clip.wave(front.rate, trim=trim)
    if len(wave) < MIN_SECONDS * front.rate:
        raise DataError(f"it is {len(wave) / front.rate:.2f} s of sound, under {MIN_SECONDS:g} s")
    made, share = front.analyze(wave), sound.clipped_share(wave)
    file = io.BytesIO()
    others = {name: getattr(made, name).numpy() for name in _PARTS if getattr(made, name) is not None}
    np.savez(file, frames=made.frames.numpy(), clipped=np.float32(share), **others)
    keep(path, file.getvalue())
    return made, share


def load_frames(
    clips: list[Clip], front: FrontEnd, trim: bool, skips: CorruptFiles
) -> list[tuple[Clip, torch.Tensor, float]]:
    """Each clip that can be analyzed, with its frames (t c) and its clipped share; the others are added to ``skips``."""
    if not clips:
        return []
    with contextlib.suppress(OSError):  # a file that cannot be looked at is found below
        _prepare(clips, front, trim)
    read = functools.partial(load_or_analyze, front=front, trim=trim)
    with_names = {clip.name: clip for clip in clips}
    return [
        (with_names[name], made.frames, share)
        for name, (made, share) in skips.vetted(with_names, lambda name: read(with_names[name]))
    ]


def _prepare(clips: list[Clip], front: FrontEnd, trim: bool) -> None:
    """Work the missing ones out with the help of other processes, where there is enough to do."""
    missing = [clip for clip in clips if clip.path.exists() and not cache_path(clip, front, trim).exists()]
    random.Random(os.getpid()).shuffle(missing)
    helpers = min(MAX_HELPERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if helpers < 2 or _count_seconds(missing) < PARALLEL_FROM:
        _work(missing, front, trim)
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
            process.kill()  # those that still run when this one is stopped


def _work(clips: Iterable[Clip], front: FrontEnd, trim: bool) -> None:
    for clip in clips:
        with contextlib.suppress(Exception):  # found again, and named, when all are gathered
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
    """What is kept there; None where nothing is, or nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: torch.from_numpy(file[name]) for name in ("frames", *_PARTS) if name in file}
            return Sound(**kept), float(file["clipped"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _to_json(clip: Clip) -> dict[str, object]:
    return {**asdict(clip), "path": str(clip.path)}


def _main() -> None:
    """A helper: takes a job as JSON from its input, and keeps frames."""
    torch.set_num_threads(1)
    job = json.load(sys.stdin)
    clips = (Clip(**{**each, "path": Path(each["path"])}) for each in job["clips"])
    _work(clips, frontend(job["form"]), job["trim"])


if __name__ == "__main__":
    _main()
