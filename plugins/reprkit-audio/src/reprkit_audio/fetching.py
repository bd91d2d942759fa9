"""Speech, and pictures with sounds, from Debian's packages: fetched with apt-get, unpacked without root, decoded, and cached."""

from __future__ import annotations

import functools
import gzip
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprkit import ReprkitError
from reprkit.errors import nearest
from reprkit.utils import debian_packages
from reprkit_audio.data.corpus_cache import corpus_folder, write_index
from reprkit_audio.gathering import (
    HEDGEHOGS,
    PROMPTS,
    STAMPS,
    gather_hedgehogs,
    gather_prompts,
    gather_stamps,
)
from reprkit_audio.gathering_pairs import PACKAGES, gather_pairs, pairs_folder

# Language -> the folder of its voice, and the voice's name.  Allison reads English and Spanish.
ASTERISK = {
    "en": ("en_US_f_Allison", "allison"),
    "es": ("es_MX_f_Allison", "allison"),
    "fr": ("fr_CA_f_June", "june"),
    "it": ("it_IT_m_Carlo", "carlo"),
    "ru": ("ru_RU_f_IvrvoiceRU", "ivrvoice"),
}
# Tones, silence and monkeys.
_NOT_SPEECH = re.compile(
    r"silence/.*|beep|beeperr|tt-monkeys|(a|de)scending-2tone|confbridge-(join|leave)", re.IGNORECASE
)
FILLETS = ("cs", "nl")
# The second part of a line's name tells which fish speaks; other characters speak little.
_FISH = {"m": "small", "v": "big"}
_LINE = re.compile(
    r'dialogId\(\s*"(?P<name>[^"]+)"[^)]*\)\s*dialogStr\(\s*"(?P<text>(?:[^"\\]|\\.)*)"\s*\)', re.DOTALL
)


_OPTION = "--debs FOLDER"  # how a user gives the packages


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus that can be fetched.

    Attributes:
        languages: the available ones.
        packages: language -> its Debian packages.
        size: approximate size of a language's packages, in MB.
        gather: (unpacked, language, folder to fill) -> rows of the index.
        example: a reference to the data set.
    """

    languages: tuple[str, ...]
    packages: Callable[[str], tuple[str, ...]]
    size: int
    gather: Callable[[Path, str, Path], Iterator[dict[str, Any]]]
    example: str


def fetch(
    what: str, languages: Iterable[str] | None = None, debs: Path | None = None
) -> dict[str, tuple[Path, int]]:
    """Fetch speech into the cache, one language after another; an older copy is replaced when the new one is complete.

    Args:
        what: a name in ``SOURCES``: "asterisk", "fillets", "tuxpaint", "hedgewars" or "prompts".
        languages: which languages; all if None.
        debs: a folder of package files that were fetched elsewhere; then nothing is downloaded.

    Returns:
        Language -> its folder, and the number of clips in it.

    Raises:
        ReprkitError: unknown corpus or language, no apt-get or dpkg-deb, no such package, no network, no disk space, a
            package without speech, or no decoder for its files.
    """
    if what not in SOURCES:
        raise ReprkitError(
            f"unknown corpus to fetch: {what!r}.{nearest(what, SOURCES)}\n  known: {', '.join(SOURCES)}"
        )
    source = SOURCES[what]
    wanted = source.languages if languages is None else tuple(languages)
    for language in wanted:
        if language not in source.languages:
            raise ReprkitError(
                f"{what} is not in {language!r}.{nearest(language, source.languages)}\n"
                f"  known: {', '.join(source.languages)}"
            )
    if not wanted:
        return {}
    home = corpus_folder(what, wanted[0]).parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".fetching-") as folder:
            return {
                language: _fetch_language(what, source, language, debs, Path(folder)) for language in wanted
            }
    except OSError as error:
        raise ReprkitError(f"cannot write {home}: {error}") from error


def fetch_voices(
    languages: Iterable[str] | None = None, debs: Path | None = None
) -> Iterator[tuple[str, str, Path, int]]:
    """Fetch every corpus, each in those of the languages that it has: yields corpus, language, its folder and number of clips.

    Raises:
        ReprkitError: as ``fetch``; a language that no corpus has.
    """
    known = sorted({language for source in SOURCES.values() for language in source.languages})
    wanted = known if languages is None else list(languages)
    for language in wanted:
        if language not in known:
            raise ReprkitError(
                f"no corpus is in {language!r}.{nearest(language, known)}\n  known: {', '.join(known)}"
            )
    for corpus, source in SOURCES.items():
        own = [language for language in source.languages if language in wanted]
        for language, (folder, clips) in fetch(corpus, own, debs).items():
            yield corpus, language, folder, clips


def fetch_pairs(debs: Path | None = None) -> tuple[Path, int]:
    """Fetch the pairs of data set ``sounding`` into the cache; an older copy is replaced when the new one is complete.

    Args:
        debs: a folder of package files that were fetched elsewhere; then nothing is downloaded.

    Returns:
        The folder, and the number of pairs in it.

    Raises:
        ReprkitError: no apt-get or dpkg-deb, no such package, no network, no disk space, or packages without pairs.
    """
    target = pairs_folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
            work = Path(folder)
            fresh = work / "fresh"
            fresh.mkdir()
            for package in PACKAGES:
                debian_packages.unpack(package, work, given=debs, option=_OPTION)
                shutil.copy(
                    work / "unpacked/usr/share/doc" / package / "copyright", fresh / f"copyright-{package}"
                )
            pairs = gather_pairs(work / "unpacked", fresh)
            if not pairs:
                raise ReprkitError(
                    f"{' and '.join(PACKAGES)} hold no pairs in the expected folders: are they a newer version?"
                )
            if target.exists():
                target.rename(work / "old")
            fresh.rename(target)
    except OSError as error:
        raise ReprkitError(f"cannot write {target}: {error}") from error
    return target, pairs


def _fetch_language(
    what: str, source: Source, language: str, debs: Path | None, work: Path
) -> tuple[Path, int]:
    """Fetch one language; packages that languages share are fetched and unpacked once, in ``work``."""
    target, packages = corpus_folder(what, language), source.packages(language)
    unpacked = work / "+".join(packages)
    if not unpacked.exists():
        for package in packages:
            debian_packages.unpack(package, work, unpacked.name, given=debs, option=_OPTION)
    fresh = work / f"fresh-{language}"
    fresh.mkdir()
    rows = list(source.gather(unpacked, language, fresh))
    if not rows:
        raise ReprkitError(
            f"{' and '.join(packages)} hold no speech in the expected folders: are they a newer version?"
        )
    for number, file in enumerate(sorted(unpacked.rglob("copyright"))):
        shutil.copy(file, fresh / ("copyright" if not number else f"copyright-{number}"))
    write_index(fresh, rows)
    if target.exists():
        target.rename(work / f"old-{language}")
    fresh.rename(target)
    return target, len(rows)


def _gather_asterisk(unpacked: Path, language: str, fresh: Path) -> Iterator[dict[str, Any]]:
    """Convert Asterisk's core sounds from G.722 to FLAC; a text has the same key in every language."""
    from reprkit.data import sound
    from reprkit_audio import g722

    folder, speaker = ASTERISK[language]
    root = unpacked / "usr" / "share" / "asterisk" / "sounds" / folder
    texts = _read_texts(
        unpacked / "usr/share/doc" / f"asterisk-core-sounds-{language}" / f"core-sounds-{language}.txt.gz"
    )
    for file in sorted(root.rglob("*.g722")):
        key = file.relative_to(root).with_suffix("").as_posix()
        content = file.read_bytes()
        if _NOT_SPEECH.fullmatch(key) or not content:  # one Russian file is empty
            continue
        sound.write(fresh / f"{key}.flac", g722.decode(content))
        yield {
            "file": f"{key}.flac",
            "speaker": speaker,
            "language": language,
            "key": key,
            "text": texts.get(key.lower()),
        }


def _read_texts(path: Path) -> Mapping[str, str]:
    """Read Asterisk's transcripts: ``key: text`` per line, ``;`` begins a comment; keys are lower-cased."""
    if not path.is_file():
        return {}
    lines = gzip.decompress(path.read_bytes()).decode("utf-8-sig", errors="replace").splitlines()
    pairs = (line.partition(":") for line in lines if not line.startswith(";"))
    return {key.strip().lower(): text.strip() for key, colon, text in pairs if colon and text.strip()}


def _gather_fillets(unpacked: Path, language: str, fresh: Path) -> Iterator[dict[str, Any]]:
    """Copy Fish Fillets' dialogues of the small and the big fish (Ogg Vorbis); texts come from the game's scripts."""
    root = unpacked / "usr" / "share" / "games" / "fillets-ng"
    for file in sorted((root / "sound").rglob(f"{language}/*.ogg")):
        level, name = file.parent.parent.relative_to(root / "sound"), file.stem
        fish = _FISH.get([*name.split("-"), ""][1])
        if fish is None:
            continue
        (fresh / level).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, fresh / level / file.name)
        # Lines that occur in many levels have their sounds and texts in `share`, by topic.
        scripts = root / "script" / level.parts[0]
        texts: dict[str, str] = {}
        for script in sorted(scripts.glob(f"*dialogs_{language}.lua")):
            texts.update(_read_dialogues(script))
        yield {
            "file": (level / file.name).as_posix(),
            "speaker": f"{language}-{fish}",
            "language": language,
            "key": (level / name).as_posix(),
            "text": texts.get(name),
        }


@functools.lru_cache(maxsize=16)  # sounds come level by level
def _read_dialogues(path: Path) -> Mapping[str, str]:
    """Read the lines of a level: name -> text."""
    if not path.is_file():
        return {}
    matches = _LINE.finditer(path.read_text("utf-8", errors="replace"))
    return {
        line["name"]: re.sub(r"\\(.)", r"\1", line["text"]).strip()
        for line in matches
        if line["text"].strip()
    }


SOURCES = {
    "asterisk": Source(
        languages=tuple(ASTERISK),
        packages=lambda language: (
            f"asterisk-core-sounds-{language}-g722",
            f"asterisk-core-sounds-{language}",
        ),
        size=11,
        gather=_gather_asterisk,
        example="asterisk(languages=('en', 'es'))",
    ),
    "fillets": Source(
        languages=FILLETS,
        packages=lambda language: (f"fillets-ng-data-{language}", "fillets-ng-data"),
        size=110,
        gather=_gather_fillets,
        example="fillets(languages=('cs',))",
    ),
    "tuxpaint": Source(
        languages=STAMPS,
        packages=lambda language: ("tuxpaint-stamps-default",),
        size=161,
        gather=gather_stamps,
        example="voices(corpora='tuxpaint')",
    ),
    "hedgewars": Source(
        languages=tuple(HEDGEHOGS),
        packages=lambda language: ("hedgewars-data",),
        size=145,
        gather=gather_hedgehogs,
        example="voices(corpora='hedgewars')",
    ),
    "prompts": Source(
        languages=tuple(PROMPTS),
        packages=lambda language: (PROMPTS[language][0],),
        size=19,
        gather=gather_prompts,
        example="voices(corpora=('asterisk', 'prompts'), band=3600)",
    ),
}
