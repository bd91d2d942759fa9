"""Base of the data sets of corpora that ``reprkit voice fetch`` has stored in the cache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count
from reprkit_audio.data.clips import Clip
from reprkit_audio.data.corpus import Corpus
from reprkit_audio.data.corpus_cache import corpus_folder, read_index
from reprkit_audio.fetching import SOURCES


class FetchedCorpus(Corpus):
    """Data set of a fetched corpus, in some of its languages; the arguments are described in the subclasses.

    Attributes:
        corpus: its name in ``reprkit_audio.fetching.SOURCES``.
    """

    corpus: ClassVar[str]

    def __init__(
        self,
        languages: str | tuple[str, ...] | None = None,
        frontend: str = "world",
        *,
        frames: Count | None = 128,
        stride: Count | None = None,
        speakers: str | tuple[str, ...] | None = None,
        speakers_held_out: str | tuple[str, ...] = (),
        utterances: Count | None = None,
    ) -> None:
        super().__init__(
            load_fetched_clips(self.corpus, languages),
            self.corpus,
            frontend=frontend,
            frames=frames,
            stride=stride,
            seconds=20.0,
            speakers=speakers,
            speakers_held_out=speakers_held_out,
            utterances=utterances,
        )


def load_fetched_clips(corpus: str, languages: Iterable[str] | str | None) -> list[Clip]:
    """Load the clips of a fetched corpus in some languages, or in all.

    Raises:
        DataError: a language that the corpus lacks, or that was not fetched yet.
    """
    source = SOURCES[corpus]
    known = ", ".join(source.languages)
    wanted = (
        [languages]
        if isinstance(languages, str)
        else list(source.languages if languages is None else languages)
    )
    if not wanted:
        raise DataError(f"{corpus}: languages= is empty; known: {known}")
    clips: list[Clip] = []
    for language in dict.fromkeys(wanted):
        if language not in source.languages:
            raise DataError(
                f"{corpus} is not in {language!r}.{nearest(str(language), source.languages)}\n  known: {known}"
            )
        folder = corpus_folder(corpus, language)
        try:
            clips += read_index(folder)
        except FileNotFoundError as error:
            raise DataError(
                f"{corpus} in {language!r} is not in {folder}\n"
                f"  fetch it (about {source.size} MB, no root rights): reprkit voice fetch {corpus}"
            ) from error
    return clips
