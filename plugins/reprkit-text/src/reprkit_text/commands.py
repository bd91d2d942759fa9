"""``reprkit text fetch``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

text = typer.Typer(add_completion=False, no_args_is_help=True)


class Corpus(StrEnum):
    """What can be fetched."""

    debian = "debian"


@text.callback()
def _about() -> None:
    """Texts: fetch what no Python package brings."""


@text.command()
def fetch(
    what: Annotated[Corpus, typer.Argument(help="debian: the descriptions of all packages (16 MB).")],
    lists: Annotated[
        Path | None,
        typer.Option(
            help="A folder of apt's lists with Translation-en files; nothing is downloaded then.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch texts into the cache, without root.

    Debian's package index is read with apt-get into a folder of its own: the system's lists stay as they are.  The cache is
    $REPRKIT_CACHE, or the platform's folder for caches.
    """
    from reprkit_text import debian_index

    path, count = debian_index.fetch(lists)
    print(f"{path}: {count:,} descriptions")
    print("  use them: debian(index='fetched')")
