"""``reprkit text fetch`` and ``reprkit text summarize``."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reprkit.errors import DataError

text = typer.Typer(add_completion=False, no_args_is_help=True)


class Corpus(StrEnum):
    """What can be fetched."""

    debian = "debian"


@text.callback()
def _group_help() -> None:
    """Texts: fetch what no Python package brings, and summarise documents."""


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


@text.command()
def summarize(
    model: Annotated[Path, typer.Argument(help="The folder of a model with a latent of words.")],
    batch: Annotated[int, typer.Option(help="Documents that are read at a time.", min=1)] = 64,
    length: Annotated[int, typer.Option(help="Symbols of a document that are read at most.", min=1)] = 256,
) -> None:
    """Summarise documents: one a line of standard input, in UTF-8; one summary a line of standard output.

    An empty line gives an empty line, so that lines stay beside each other.  A line that is no UTF-8 ends it with an error that
    names it.
    """
    import reprkit
    from reprkit_text.data.records import strip_text
    from reprkit_text.summarizing import summarize

    loaded, lines = reprkit.load(str(model)), _decode_lines(sys.stdin.buffer)
    for chunk, error in _read_chunks(lines, batch):
        made = iter(
            summarize(loaded, [each for each in chunk if strip_text(each)], batch=batch, length=length)
        )
        for each in chunk:
            print(next(made) if strip_text(each) else "")
        sys.stdout.flush()
        if error is not None:
            raise error


def _read_chunks(lines: Iterator[str], size: int) -> Iterator[tuple[list[str], DataError | None]]:
    """So many lines at a time, and what went wrong after the last of them: what was read before it is not lost."""
    from reprkit.errors import DataError

    while True:
        chunk: list[str] = []
        try:
            chunk.extend(itertools.islice(lines, size))  # keeps what came before an error
        except DataError as error:
            yield chunk, error
            return
        if not chunk:
            return
        yield chunk, None


def _decode_lines(raw: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file of bytes.

    Raises:
        DataError: one is no valid UTF-8; it is named.
    """
    from reprkit.errors import DataError

    for number, line in enumerate(raw, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} is no valid UTF-8: {error.reason} at byte {error.start} of the line\n"
                "  convert it first: iconv -f latin1 -t utf-8"
            ) from error
