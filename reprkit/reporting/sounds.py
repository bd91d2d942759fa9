"""Audio players on a page, with the sounds embedded in it."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import numpy as np

from reprkit.data import sound
from reprkit.errors import PartImportError


@dataclass(kw_only=True)
class Sounds:
    """A grid of sounds: one example per row, one version per column, such as source, target, converted.

    Sounds are embedded as FLAC, which is lossless and plays in every browser, if soundfile is installed, else as WAV.

    Attributes:
        rows: example -> version -> samples (t,) in [-1, 1]; values outside are clipped.
        notes: example -> version -> a line of text beneath its player; none where it is missing.
        rate: sampling rate in Hz.
    """

    title: str
    rows: Mapping[str, Mapping[str, np.ndarray]]
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
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
                if name not in row:
                    cells.append("<span>–</span>")
                    continue
                player, note = (
                    self._player(f"{example}: {name}", row[name]),
                    self.notes.get(example, {}).get(name),
                )
                text = f'<span class="label">{escape(note)}</span>' if note else ""
                cells.append(f"<span>{player}{text}</span>")
        grid = f'<div class="sounds" style="--columns:{len(versions)}">{"".join(cells)}</div>'
        return f'<div class="scroll">{grid}</div>'

    def _player(self, label: str, samples: np.ndarray) -> str:
        return f'<audio controls preload="metadata" aria-label="{escape(label)}" src="{encode_sound(samples, self.rate)}"></audio>'


def encode_sound(samples: np.ndarray, rate: int) -> str:
    """Encode a sound (t,) as the ``src`` of an <audio>: a 16-bit file in a data URL.

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
        kind, buffer = "wav", io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(whole.tobytes())
        content = buffer.getvalue()
    return f"data:audio/{kind};base64," + base64.b64encode(content).decode()
