"""Players on a page: sounds written into it, so that they play wherever the page goes."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np

from reprkit.data import sound
from reprkit.errors import PartImportError


@dataclass(kw_only=True)
class Sounds:
    """Sounds to listen to, an example a row and a version a column: source, target, converted.

    They are kept as FLAC where soundfile is installed, which every browser plays and which loses nothing, and else as WAV.

    Attributes:
        rows: example -> version -> samples (t,) in [-1, 1]; what is beyond is cut off.
        rate: samples a second, in Hz.
    """

    title: str
    rows: Mapping[str, Mapping[str, np.ndarray]]
    rate: int = 16000
    caption: str = ""
    wide: bool = True

    def html(self) -> str:
        """A grid of players."""
        versions = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        cells = ["<span></span>", *(f'<span class="label">{escape(name)}</span>' for name in versions)]
        for example, row in self.rows.items():
            cells.append(f'<span class="label">{escape(example)}</span>')
            for name in versions:
                cells.append(
                    self._player(f"{example}: {name}", row[name]) if name in row else "<span>–</span>"
                )
        grid = f'<div class="sounds" style="--columns:{len(versions)}">{"".join(cells)}</div>'
        return f'<div class="scroll">{grid}</div>'

    def _player(self, label: str, samples: np.ndarray) -> str:
        return f'<audio controls preload="metadata" aria-label="{escape(label)}" src="{spoken(samples, self.rate)}"></audio>'


def spoken(samples: np.ndarray, rate: int) -> str:
    """One sound (t,) as the ``src`` of an <audio>: a file of 16 bits written into the page.

    Raises:
        ValueError: the samples are not one row of numbers.
    """
    values = np.asarray(samples, np.float64)
    if values.ndim != 1:
        raise ValueError(f"a sound on a page is one row of samples, not {values.shape}")
    whole = (np.clip(np.nan_to_num(values), -1, 1) * 32767).round().astype("<i2")
    try:
        kind, content = "flac", sound.encode(whole, rate, suffix=".flac")
    except PartImportError:
        kind, written = "wav", io.BytesIO()
        with wave.open(written, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(whole.tobytes())
        content = written.getvalue()
    return f"data:audio/{kind};base64," + base64.b64encode(content).decode()
