"""Speech synthesizers that may be installed, with their phone timings."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from reprkit.data import sound
from reprkit.errors import DataError, nearest

# Phones, each with the second at which it ends.
Phones = list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A speech synthesizer program.

    Attributes:
        program: its command.
        package: the Debian package that contains it.
        voices: its English voices.
        speak: (voice, text, sound file to write) -> the phones, or None if it reports none.
    """

    program: str
    package: str
    voices: tuple[str, ...]
    speak: Callable[[str, str, Path], Phones | None]


def synthesize(voice: str, text: str) -> tuple[Float[Tensor, " samples"], Phones | None]:
    """Synthesize a text in a voice: the waveform (samples,) at 16 kHz, and the phones with their ends.

    Raises:
        DataError: no such voice, or its program is not installed or wrote no sound.
    """
    engine, name = engine_of(voice)
    if shutil.which(engine.program) is None:
        raise DataError(
            f"voice {voice!r} needs {engine.program}, which is not installed\n"
            f"  install it (Debian: apt-get install {engine.package}), or use other voices: {', '.join(VOICES)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        phones = engine.speak(name, text, file)
        if not file.is_file():
            raise DataError(f"{engine.program} wrote no sound for {text!r} in voice {voice!r}")
        return sound.read(file), phones


def engine_of(voice: str) -> tuple[Engine, str]:
    """Find the engine of a voice, and the engine's name for it.

    Raises:
        DataError: no such voice.
    """
    head, _, variant = voice.partition("-")
    if head == "espeak" and variant:
        return ESPEAK, variant
    if voice not in VOICES:
        raise DataError(
            f"no synthetic voice {voice!r}.{nearest(voice, VOICES)}\n"
            f"  known: {', '.join(VOICES)}, and espeak-VARIANT (espeak-ng --voices=variant lists them)"
        )
    return VOICES[voice], voice


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        message = " ".join(done.stderr.split())[-300:]
        raise DataError(f"{command[0]} failed (code {done.returncode}): {message or 'no error message'}")
    return done.stdout


def _run_flite(voice: str, text: str, file: Path) -> Phones:
    """Run Flite, which prints each phone with the second at which it ends."""
    output = _run("flite", "-voice", voice, "-psdur", "-t", text, "-o", str(file))
    pairs = (each.rpartition(":") for each in output.split())
    return [(phone, float(end)) for phone, colon, end in pairs if colon]


def _run_festival(voice: str, text: str, file: Path) -> Phones:
    """Run Festival, which writes a label file: end, a number, phone."""
    labels = file.with_suffix(".segs")
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    script = file.with_suffix(".scm")
    script.write_text(
        f"(voice_{voice}_diphone)\n"
        f'(set! said (utt.synth (Utterance Text "{quoted}")))\n'
        f'(utt.save.wave said "{file}" \'riff)\n(utt.save.segs said "{labels}")\n',
        "utf-8",
    )
    _run("festival", "-b", str(script))
    lines = labels.read_text("utf-8").partition("#\n")[2].splitlines()
    return [(phone, float(end)) for end, _, phone in (line.split() for line in lines)]


def _run_espeak(variant: str, text: str, file: Path) -> None:
    """Run espeak-ng, whose phones have no durations."""
    _run("espeak-ng", "-v", f"en-us+{variant}", "-w", str(file), text)


FLITE = Engine(program="flite", package="flite", voices=("rms", "slt", "awb", "kal16"), speak=_run_flite)
FESTIVAL = Engine(
    program="festival",
    package="festival festvox-kallpc16k festvox-kdlpc16k",
    voices=("ked",),
    speak=_run_festival,
)
ESPEAK = Engine(program="espeak-ng", package="espeak-ng", voices=(), speak=_run_espeak)
VOICES = {voice: engine for engine in (FLITE, FESTIVAL) for voice in engine.voices}
