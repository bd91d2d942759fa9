"""Reading pages by tesseract, a program that Debian has as tesseract-ocr."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence

import numpy as np
from PIL import Image

from reprkit.errors import ReprkitError


def has_tesseract() -> bool:
    """Whether tesseract is installed: ``apt-get install tesseract-ocr``."""
    return shutil.which("tesseract") is not None


def read_pages(pages: np.ndarray) -> list[str]:
    """Read pages (n h w 1) in [0, 1], twice enlarged, each as one block of English text.

    Raises:
        ReprkitError: tesseract is not installed, or fails.
    """
    if not has_tesseract():
        raise ReprkitError(
            "pages are read by tesseract, which is not installed: apt-get install tesseract-ocr"
        )
    return [_read(page[..., 0]) for page in pages]


def _read(page: np.ndarray) -> str:
    image = Image.fromarray((page.clip(0, 1) * 255).round().astype(np.uint8))
    size = (2 * image.width, 2 * image.height)
    image = image.resize(size, Image.Resampling.BICUBIC)
    header = f"P5 {size[0]} {size[1]} 255\n".encode()
    command = ["tesseract", "stdin", "stdout", "--psm", "6", "-l", "eng"]
    environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
    done = subprocess.run(command, input=header + image.tobytes(), capture_output=True, env=environment)
    if done.returncode:
        raise ReprkitError(f"tesseract failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode(errors="replace")


def wrong_words(read: Sequence[str], written: Sequence[str]) -> float:
    """Return the substituted, missing and added words over those written; letters' case and punctuation do not count."""
    from torchmetrics.functional.text import word_error_rate

    return float(word_error_rate(*([_plain(text) for text in texts] for texts in (read, written))))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
