"""``reprkit text fetch`` and ``reprkit text summarize``."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

if TYPE_CHECKING:
    from reprkit.errors import DataError

text = typer.Typer(add_completion=False, no_args_is_help=True)


class Corpus(StrEnum):
    """Corpora that can be fetched."""

    debian = "debian"
    verses = "verses"


@text.callback()
def _group_help() -> None:
    """Texts: fetch corpora, and summarize documents."""


@text.command()
def fetch(
    what: Annotated[
        Corpus,
        typer.Argument(
            help="debian: the descriptions of all packages (16 MB); verses: the Bible in three translations (10 MB)."
        ),
    ],
    lists: Annotated[
        Path | None,
        typer.Option(
            help="For debian: a folder of apt's lists with Translation-en files, to use instead of downloading.",
            show_default=False,
        ),
    ] = None,
    packages: Annotated[
        Path | None,
        typer.Option(
            help="For verses: a folder with the .deb files, to use instead of downloading.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch texts into the cache, without root.

    Debian's package index is read with apt-get into a temporary folder: the system's lists are not changed.  The verses are
    read from packages that are downloaded, not installed.  The cache is $REPRKIT_CACHE, or the platform's cache folder.
    """
    from reprkit.errors import PartArgumentError
    from reprkit_text import debian_index, verse_files

    for name, value, corpus in (("lists", lists, Corpus.debian), ("packages", packages, Corpus.verses)):
        if value is not None and what is not corpus:
            raise PartArgumentError(
                f"--{name} is for {corpus.value}: reprkit text fetch {corpus.value} --{name} ..."
            )
    if what is Corpus.verses:
        path, count = verse_files.fetch(packages)
        print(f"{path}: {count:,} verses in {len(verse_files.TRANSLATIONS)} translations")
        print("  use them: verses")
        return
    path, count = debian_index.fetch(lists)
    print(f"{path}: {count:,} descriptions")
    print("  use them: debian(index='fetched')")


@text.command()
def summarize(
    model: Annotated[Path, typer.Argument(help="The folder of a model with a latent of words.")],
    batch: Annotated[int, typer.Option(help="Number of documents read at a time.", min=1)] = 64,
    length: Annotated[int, typer.Option(help="Largest number of symbols read of a document.", min=1)] = 256,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Encoding of the input without a byte-order mark, such as latin-1.", show_default="utf-8"
        ),
    ] = None,
) -> None:
    """Summarize documents: one per line of standard input; one summary per line of standard output.

    The input is UTF-8, what its byte-order mark says, or --encoding.  An empty line gives an empty line, so that line numbers
    agree.  A line that is not of its encoding ends the command with an error that names it.
    """
    import reprkit
    from reprkit_text.data.records import strip_text
    from reprkit_text.summarizing import summarize

    loaded, lines = reprkit.load(str(model)), _decode_lines(sys.stdin.buffer, encoding)
    for chunk, error in _read_chunks(lines, batch):
        documents = [line for line in chunk if strip_text(line)]
        summaries = iter(summarize(loaded, documents, batch=batch, length=length))
        for line in chunk:
            print(next(summaries) if strip_text(line) else "")
        sys.stdout.flush()
        if error is not None:
            raise error


def _read_chunks(lines: Iterator[str], size: int) -> Iterator[tuple[list[str], DataError | None]]:
    """Yield chunks of ``size`` lines, and the error after the last line, if any: lines before an error are not lost."""
    from reprkit.errors import DataError

    while True:
        chunk: list[str] = []
        try:
            chunk.extend(itertools.islice(lines, size))  # keeps the lines before an error
        except DataError as error:
            yield chunk, error
            return
        if not chunk:
            return
        yield chunk, None


def _decode_lines(raw: BinaryIO, encoding: str | None = None) -> Iterator[str]:
    """Decode the lines of a binary file, one at a time; UTF-16 and UTF-32 all at once.

    Raises:
        DataError: a line is not of the file's encoding, or has NUL characters; it is named.
        PartArgumentError: no such encoding.
    """
    from reprkit.data.formats.text_encoding import decode_text, detect_encoding, wrong_encoding
    from reprkit.errors import DataError

    first = raw.readline()
    try:
        codec, mark = detect_encoding(first, encoding)
        if codec.startswith(("utf-16", "utf-32")):
            yield from decode_text(first + raw.read(), encoding).removesuffix("\n").split("\n")
            return
    except DataError as error:
        raise DataError(f"line 1: {error}\n  on the command line: --encoding NAME") from error
    for number, line in enumerate(itertools.chain([first[mark:]] if first else [], raw), 1):
        if b"\0" in line:
            raise DataError(f"line {number} has NUL characters, so it is no text")
        try:
            yield line.decode(codec).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} is {wrong_encoding(error)}\n  on the command line: --encoding latin-1"
            ) from error
