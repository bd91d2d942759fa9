"""``reprkit voice convert`` and ``reprkit voice fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

voice = typer.Typer(add_completion=False, no_args_is_help=True)


@voice.callback()
def _describe() -> None:
    """Voices: convert recordings, fetch speech that no Python package brings."""


@voice.command()
def convert(
    model: Annotated[str, typer.Argument(help="The folder of a model with a factor 'speaker'.")],
    source: Annotated[Path, typer.Argument(help="The recording whose words are kept, of any length.")],
    target: Annotated[
        list[Path], typer.Argument(help="A recording of the voice that it gets; of several, their mean.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write: .wav, .flac, .ogg or .opus.")
    ] = Path("converted.wav"),
    vocoder: Annotated[
        str | None,
        typer.Option(help="Such as \"neural(model='DIR')\"; else the one that needs no training."),
    ] = None,
    spread: Annotated[
        bool,
        typer.Option(help="Give the envelope the target's deviation: a decoder's is smoother than speech."),
    ] = True,
) -> None:
    """Say what one recording says in the voice of another.

    WAV, FLAC, Ogg, Opus, MP3 or AIFF of any rate, depth and number of channels; the first minute of each target is
    listened to.  Long sources are read and written block by block.
    """
    from reprkit_audio.conversion import convert_file

    seconds = convert_file(model, source, target, out, vocoder=vocoder, spread=spread)
    print(f"{out}: {seconds:.1f} s")


@voice.command()
def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="asterisk (11 MB a language) or fillets (110 MB): recordings from Debian's packages."
        ),
    ],
    language: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be given several times.", show_default=False)
    ] = None,
    debs: Annotated[
        Path | None,
        typer.Option(
            help="A folder of packages fetched elsewhere; nothing is downloaded then.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch speech into the cache, without root.

    Asterisk: the same sentences in en, es, fr, it and ru.  Fillets: dialogues in cs and nl.  Downloaded with apt-get,
    unpacked beside the cache, with their licences.  The cache is $REPRKIT_CACHE, or the platform's folder for caches.
    """
    from reprkit_audio.fetching import SOURCES, fetch

    for each, (folder, clips) in fetch(what, language or None, debs).items():
        print(f"{folder}: {clips} recordings ({each})")
    print(f"  use them: {SOURCES[what].example}")
