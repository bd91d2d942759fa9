"""Files of word pairs and analogies, of one's own or of an installed gensim."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from reprkit.errors import DataError

GENSIM = {
    "wordsim353": "wordsim353.tsv",
    "simlex999": "simlex999.txt",
    "questions-words": "questions-words.txt",
}


def find_file(source: str) -> Path:
    """Return the path of a test: a file, or one of the test data of gensim, which is not imported.

    Raises:
        DataError: no such file, or gensim or its test data is not installed.
    """
    if source not in GENSIM:
        path = Path(source).expanduser()
        if not path.is_file():
            raise DataError(
                f"no file {source!r} (looked in {Path.cwd()}), and no test of that name: {', '.join(GENSIM)}"
            )
        return path
    found = importlib.util.find_spec("gensim")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    paths = [Path(folder) / "test" / "test_data" / GENSIM[source] for folder in folders]
    path_in_gensim = next((path for path in paths if path.is_file()), None)
    if path_in_gensim is None:
        raise DataError(
            f"{source} is among gensim's test data, and "
            + (
                "gensim is not installed"
                if found is None
                else f"the installed gensim has no {GENSIM[source]}"
            )
            + "\n  pip install 'reprkit-text[words]', or give the path of the file"
        )
    return path_in_gensim


def read_pairs(path: Path) -> list[tuple[str, str, float]]:
    """Read lines of two words and a score, separated by tabs; lines that begin with # are left out.

    Raises:
        DataError: a line of another form, or no pairs.
    """
    pairs = list[tuple[str, str, float]]()
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            first, second, score = line.split("\t")
            pairs.append((first.strip().lower(), second.strip().lower(), float(score)))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: expected two words and a score, separated by tabs, not {line[:40]!r}"
            ) from error
    if not pairs:
        raise DataError(f"{path} holds no pairs of words")
    return pairs


def read_analogies(path: Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """Read sections ``: name`` of lines of four words, in lower case.

    Raises:
        DataError: a line without four words, one before the first section, or no analogies.
    """
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    name = None
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith(":"):
            name = line[1:].strip()
            sections.setdefault(name, [])
        elif line.strip():
            words = line.lower().split()
            if name is None or len(words) != 4:
                raise DataError(f"{path}, line {number}: expected a section, ': name', or four words")
            sections[name].append((words[0], words[1], words[2], words[3]))
    if not any(sections.values()):
        raise DataError(f"{path} holds no analogies")
    return sections
