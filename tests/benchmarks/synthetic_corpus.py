"""A folder of synthetic speech with texts, for ``speech(root=DIR, language='en')``: sentences of WordNet in several voices.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python tests/benchmarks/synthetic_corpus.py runs/synthetic --wordnet wordnet/usr/share/wordnet

The sentences are WordNet's examples of usage (Miller 1995) of 6 to 12 words, each of which occurs in at least ``--common`` of
all examples: a recognizer of open vocabulary hears rare words wrongly in any voice.  Every voice says every sentence, as
DIR/VOICE/NUMBER.wav with its text beside it.

Needs: reprkit-audio, and the synthesizers of the voices (``reprkit_audio.data.engines``).
"""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from reprkit_audio.data.engines import synthesize

from reprkit.data import sound
from reprkit.errors import DataError

VOICES = ["rms", "slt", "awb", "kal16"]
RATE = 16000  # Hz


def examples(folder, common):
    """WordNet's examples of usage that are sentences of common words, in the order of its files."""
    files = sorted(folder.glob("data.*"))
    if not files:
        raise DataError(f"no files data.noun, data.verb, ... of WordNet in {folder}")
    glosses = [line.partition("| ")[2] for file in files for line in file.read_text("utf-8").splitlines()]
    said = dict.fromkeys(each for gloss in glosses for each in re.findall(r'"([^"]+)"', gloss))
    words = {each: re.findall(r"[a-z']+", each.lower()) for each in said}
    occurs = Counter(word for each in words.values() for word in set(each))
    return [
        each
        for each in said
        if re.fullmatch(r"[A-Za-z][a-z ,]+", each)
        and 6 <= len(words[each]) <= 12
        and all(occurs[word] >= common for word in words[each])
    ]


def main(
    folder: Path,
    wordnet: Annotated[Path, typer.Option(help="the folder of data.noun and the other files")],
    voice: Annotated[list[str], typer.Option(help="repeat the flag for more")] = VOICES,
    sentences: int = 180,
    common: int = 25,
) -> None:
    known = examples(wordnet, common)
    if len(known) < sentences:
        raise DataError(f"only {len(known)} sentences of words that occur {common} times: lower --common")
    chosen = [known[number * len(known) // sentences] for number in range(sentences)]
    for each in voice:
        (folder / each).mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(chosen):
            wave, _ = synthesize(each, text)
            sound.write(folder / each / f"{number:03}.wav", wave, RATE)
            (folder / each / f"{number:03}.txt").write_text(text + "\n", "utf-8")
        print(f"{each}: {sentences} sentences", flush=True)


if __name__ == "__main__":
    typer.run(main)
