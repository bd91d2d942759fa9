"""``reprkit voice convert`` and ``reprkit voice fetch``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, TextIO

import typer

from reprkit import ReprkitError

voice = typer.Typer(add_completion=False, no_args_is_help=True)


@voice.callback()
def _describe() -> None:
    """Convert voices, and fetch recordings that no Python package contains."""


@voice.command()
def convert(
    model: Annotated[str, typer.Argument(help="The folder of a model with a factor 'speaker'.")],
    source: Annotated[Path, typer.Argument(help="The recording to convert, of any length.")],
    target: Annotated[
        list[Path], typer.Argument(help="A recording of the target voice; for several, their mean.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write: .wav, .flac, .ogg or .opus.")
    ] = Path("converted.wav"),
    vocoder: Annotated[
        str | None,
        typer.Option(
            help="A reference such as \"neural(model='DIR')\"; by default the one that needs no training."
        ),
    ] = None,
    spread: Annotated[
        bool,
        typer.Option(
            help="Scale the envelope to the target's standard deviation, since decoded envelopes are too smooth."
        ),
    ] = True,
    neighbors: Annotated[
        int,
        typer.Option(
            help="Nearest neighbors, in content, of each moment among the target's own; their mean envelope is taken. "
            "Give a minute of the target's speech or more; 0 for none.",
            show_default=False,
        ),
    ] = 0,
    blend: Annotated[
        float, typer.Option(help="Share of the neighbors' envelope; the rest is the decoder's.")
    ] = 1.0,
    strength: Annotated[
        float,
        typer.Option(
            help="How far the envelope goes from the source's voice to the target's: 1 as decoded, more exaggerates; at most 4."
        ),
    ] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    language: Annotated[
        str | None,
        typer.Option(
            help="Language of the source, such as 'it': compared with those of the training data.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Convert a recording to the voice of another.

    Warns of recordings that differ from the training speech (language, level, bandwidth, voice, sound), and of a model with poor
    word error rate or speaker scores, where the model's folder has voices.json (recipes/voice_conversion.py writes it).

    WAV, FLAC, Ogg, Opus, MP3 or AIFF of any rate, depth and number of channels; only the first minute of each
    target is used.  Long sources are read and written block by block.
    """
    from reprkit_audio.conversion import convert_file

    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        seconds = convert_file(
            model,
            source,
            target,
            out,
            vocoder=vocoder,
            spread=spread,
            neighbors=neighbors,
            blend=blend,
            strength=strength,
            language=language,
            overwrite=overwrite,
        )
    print(f"{out}: {seconds:.1f} s")


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning without the line of code that it comes from."""
    print(f"warning: {message}", file=file or sys.stderr)


@voice.command()
def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="asterisk (11 MB a language), fillets (110 MB), tuxpaint (161 MB), hedgewars (145 MB), prompts (21 MB); "
            "voices: all of them; sounding (195 MB): pictures with sounds."
        ),
    ],
    language: Annotated[
        list[str] | None, typer.Option(help="Only this language; may be repeated.", show_default=False)
    ] = None,
    debs: Annotated[
        Path | None,
        typer.Option(
            help="A folder of packages fetched elsewhere; then nothing is downloaded.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch speech, or pictures with sounds, into the cache, without root rights.

    Asterisk: the same sentences in en, es, fr, it and ru.  Fillets: dialogues in cs and nl.  Tuxpaint: single words in nine
    languages.  Hedgewars: exclamations by 14 voices.  Prompts: telephone prompts in es, fr and it.  Sounding: pictures of things
    and their noises, in no language.  Downloaded with apt-get, unpacked next to the cache, with their licenses.  The cache is
    $REPRKIT_CACHE, or the platform's folder for caches.
    """
    from reprkit_audio.fetching import SOURCES, fetch, fetch_pairs, fetch_voices

    if what == "sounding":
        if language:
            raise ReprkitError(f"sounding has no languages: leave --language {language[0]} out")
        target, count = fetch_pairs(debs)
        print(f"{target}: {count} pictures with sounds\n  use them: sounding")
        return
    if what == "voices":
        for corpus, each, folder, clips in fetch_voices(language or None, debs):
            print(f"{folder}: {clips} recordings ({corpus}, {each})")
    else:
        for each, (folder, clips) in fetch(what, language or None, debs).items():
            print(f"{folder}: {clips} recordings ({each})")
    print(f"  use them: {'voices' if what == 'voices' else SOURCES[what].example}")
