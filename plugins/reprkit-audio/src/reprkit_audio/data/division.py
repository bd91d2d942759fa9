"""Splits of speech: by utterance within each speaker, or by text where speakers share texts."""

from __future__ import annotations

import itertools
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reprkit.data.base import derive_seed, held_out_share, split_sizes
from reprkit.data.identity import split_by_identity
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Division:
    """Settings of a split.

    Attributes:
        seed: of the split.
        valid: whether there is a validation part.
        test_share: share of test.
        valid_share: share of valid.
        level: how often the clips were split before; splits by position do not depend on it.
    """

    seed: int
    valid: bool
    test_share: float
    valid_share: float
    level: int = 0


_SPEECH = 0x73706B  # separates this random stream from others of the same seed


def assign_parts(clips: Sequence[Clip], division: Division) -> list[str]:
    """Assign every clip to "train", "valid" or "test"; each speaker has clips in every part.

    Clips say the same if they have the same ``key``, or without one the same transcript, whatever its case, spaces and punctuation.
    All clips of a text are in one part.  Where speakers share texts, the shares are of texts: no test sentence was in training in
    another voice, and the test part has the same sentence in several voices.  Otherwise the shares are of each speaker's texts.
    Where a speaker would miss a part, a text moves there.  The test part does not depend on ``valid``, unless a speaker would
    have only one text outside it.

    Raises:
        DataError: shares out of range, or a speaker with too few utterances.
    """
    seed, valid = division.seed, division.valid
    test_share, valid_share = division.test_share, division.valid_share
    held_out_share(valid, test_share, valid_share)
    counts = Counter(clip.key for clip in clips if clip.key is not None)
    names = _text_names(clips)
    first = {name: number for number, name in reversed(list(enumerate(names)))}
    speakers: dict[str, set[str]] = {}
    for name, clip in zip(names, clips, strict=True):
        speakers.setdefault(name, set()).add(clip.speaker)
    shared = any(count > 1 for count in counts.values()) or any(len(each) > 1 for each in speakers.values())
    groups: dict[str | None, list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(None if shared else clip.speaker, []).append(number)
    parts = ["train"] * len(clips)
    for index, (speaker, numbers) in enumerate(sorted(groups.items(), key=lambda pair: str(pair[0]))):
        texts = [names[number] if shared else str(first[names[number]]) for number in numbers]
        kinds = sorted(set(texts))
        generator = torch.Generator().manual_seed(derive_seed(seed, _SPEECH, index))
        order = [kinds[at] for at in torch.randperm(len(kinds), generator=generator).tolist()]
        what = "texts" if shared else f"utterances of speaker {speaker!r}"
        test, held = split_sizes(len(kinds), valid, test_share, valid_share, what=what)
        part = dict.fromkeys(order[:test], "test") | dict.fromkeys(order[test : test + held], "valid")
        for number, text in zip(numbers, texts, strict=True):
            parts[number] = part.get(text, "train")
    return _cover_every_speaker(clips, names, parts, valid)


def assign_by_identity(clips: Sequence[Clip], identities: Sequence[str], division: Division) -> list[str]:
    """Assign every clip to "train", "valid" or "test" by a hash of its identity.

    Clips of equal identity (of one text) are in one part.  Further clips change no other's part, except where a speaker would
    miss a part: then clips of this speaker move there, with all that say the same.  The test part does not depend on ``valid``,
    unless a speaker would have only one text outside it.

    Raises:
        DataError: shares out of range, or a speaker with too few utterances.
    """
    valid = division.valid
    held_out_share(valid, division.test_share, division.valid_share)
    speakers: dict[str, set[str]] = {}
    for name, clip in zip(identities, clips, strict=True):
        speakers.setdefault(name, set()).add(clip.speaker)
    groups: dict[str, list[str]] = {}  # speaker -> identities; "" for those that speakers share
    sharing = set[str]()
    for name in sorted(speakers):
        several = len(speakers[name]) > 1
        sharing |= speakers[name] if several else set()
        groups.setdefault("" if several else next(iter(speakers[name])), []).append(name)
    part_of: dict[str, str] = {}
    for speaker, names in groups.items():
        if len(names) < 2 + valid and (not speaker or speaker in sharing):
            part_of |= dict.fromkeys(names, "train")
            continue
        try:
            parts = split_identities(names, division)
        except DataError as error:
            raise DataError(f"speaker {speaker!r}: {error}" if speaker else str(error)) from error
        part_of |= {names[at]: part for part, indices in parts.items() for at in indices.tolist()}
    return _cover_every_speaker(clips, identities, [part_of[name] for name in identities], valid)


def split_identities(names: Sequence[str], division: Division) -> dict[str, Tensor]:
    """Return part -> indices of the names: see ``reprkit.data.identity.split_by_identity``."""
    return split_by_identity(
        names, division.seed, division.valid, division.test_share, division.valid_share, level=division.level
    )


def text_identity(clip: Clip, root: Path) -> str:
    """Return what a clip says, its key or its transcript; without one its path below the root, and where in the file it begins."""
    text = "".join(filter(str.isalnum, clip.text.casefold())) if clip.text else ""
    if clip.key is not None or text:
        return f"key {clip.key}" if clip.key is not None else f"text {text}"
    return file_identity(clip, root) + (f" from {clip.start:g}" if clip.start else "")


def file_identity(clip: Clip, root: Path) -> str:
    """Return a clip's path below the root."""
    return Path(os.path.relpath(clip.path, root)).as_posix()


def _text_names(clips: Sequence[Clip]) -> list[str]:
    """Return a name for the text of each clip, its key or the number of the first clip that says it: "key K" or "clip N"."""
    first: dict[str, int] = {}
    names = []
    for number, clip in enumerate(clips):
        text = "".join(filter(str.isalnum, clip.text.casefold())) if clip.text else ""
        names.append(
            f"key {clip.key}"
            if clip.key is not None
            else f"clip {first.setdefault(text, number) if text else number}"
        )
    return names


def _cover_every_speaker(
    clips: Sequence[Clip], texts: Sequence[str], parts: list[str], valid: bool
) -> list[str]:
    """Move texts to the parts in which a speaker has none; a division in which nobody misses a part stays as it is.

    Raises:
        DataError: a speaker who has too few texts.
    """
    present = {(clip.speaker, part) for clip, part in zip(clips, parts, strict=True)}
    speakers = {clip.speaker for clip in clips}
    if len(present) == len(speakers) * (2 + valid):
        return parts
    said: dict[str, list[str]] = {}  # speaker -> texts, in an order that does not depend on other clips
    for speaker, text in sorted({(clip.speaker, text) for clip, text in zip(clips, texts, strict=True)}):
        said.setdefault(speaker, []).append(text)
    for own in said.values():
        own.sort(key=lambda text: zlib.crc32(text.encode()))
    # Test first, so that it does not depend on ``valid`` where speakers have texts enough.
    tested = {text: "test" if part == "test" else "train" for text, part in zip(texts, parts, strict=True)}
    _fill(said, tested, {"train": 1 + valid, "test": 1})
    if not valid:
        return [tested[text] for text in texts]
    chosen = {text for text, part in zip(texts, parts, strict=True) if part == "valid"}
    rest = {text: "valid" if text in chosen else "train" for text, part in tested.items() if part == "train"}
    left = {speaker: [text for text in own if text in rest] for speaker, own in said.items()}
    _fill(left, rest, {"train": 1, "valid": 1})
    return [rest.get(text, "test") for text in texts]


def _fill(said: Mapping[str, list[str]], part_of: dict[str, str], least: Mapping[str, int]) -> None:
    """Move texts between parts until each speaker has ``least`` in each.

    Raises:
        DataError: a speaker for whom no text can be moved without a loss for another one.
    """
    speakers: dict[str, list[str]] = {}  # text -> who says it
    held = Counter[tuple[str, str]]()  # (speaker, part) -> texts
    for speaker, own in said.items():
        for text in own:
            speakers.setdefault(text, []).append(speaker)
            held[speaker, part_of[text]] += 1
    for part, speaker in itertools.product(least, said):
        while held[speaker, part] < least[part]:
            movable = (
                text
                for text in said[speaker]
                if (found := part_of[text]) != part
                and all(held[each, found] > least[found] for each in speakers[text])
            )
            moved = next(movable, None)
            if moved is None:
                raise DataError(
                    f"speaker {speaker!r} has too few clips in the {part} part: its texts are few, or other speakers'\n"
                    "  use another seed or other shares, add clips of this speaker, or leave the speaker out (speakers=)"
                )
            for each in speakers[moved]:
                held[each, part_of[moved]] -= 1
                held[each, part] += 1
            part_of[moved] = part
