"""Data sets of recordings in memory: windows of frames for training, whole utterances for everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Subset
from reprkit.data.base import derive_seed, split_settings
from reprkit.data.collation import to_index
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip, Utterance
from reprkit_audio.data.division import PARTS, Division, assign_by_identity, assign_parts
from reprkit_audio.data.features import load_or_analyze
from reprkit_audio.frontends import FrontEnd, Sound


@dataclass(frozen=True, kw_only=True)
class Store:
    """Frames of a corpus in memory, shared by all its data sets.

    Attributes:
        clips: the recordings.
        frames: those of all clips, concatenated (T c), float32.
        ends: where each clip's frames end (n + 1), beginning with 0.
        front: the front end of the frames.
        trim: whether silence at the ends was cut.
        tracks: name -> one symbol per frame (T,), such as phones, and the symbols' names.
        label: name of the field of the speakers (or other classes); None for no such field.
    """

    clips: Sequence[Clip]
    frames: Float[Tensor, "t c"]
    ends: Int[Tensor, " n"]
    front: FrontEnd
    trim: bool
    tracks: Mapping[str, tuple[Int[Tensor, " t"], Sequence[str]]] = field(default_factory=dict)
    label: str | None = "speaker"


class UtteranceDataset(Dataset):
    """A data set of utterances, or a part of one, with access to each example's utterance.

    Attributes:
        recordings: the whole data set, itself or the one it is a part of.
        owner: each example's utterance (m,), an index for ``utterance``.
        speakers: names, in the order of the labels of field ``speaker``.
    """

    recordings: Recordings
    owner: Int[Tensor, " m"]
    _numbers: list[int]

    @property
    def speakers(self) -> list[str]:
        """Names, in the order of the labels of field ``speaker``; for a part, those of the whole set."""
        return self.recordings.names

    @property
    def frontend(self) -> FrontEnd:
        """The front end of the frames; its ``form`` is that of field ``x``."""
        return self.recordings.store.front

    @property
    def clips(self) -> list[Clip]:
        """The utterances without their waveforms, in order of their numbers."""
        return [self.recordings.store.clips[number] for number in self._numbers]

    def utterance(self, index: int) -> Utterance:
        """Read a whole utterance with its waveform: ``index`` counts utterances (``len(data.clips)``), not examples.

        Raises:
            IndexError: past the end.
            DataError: its file can no longer be read.
        """
        store = self.recordings.store
        clip = store.clips[self._numbers[index]]
        return Utterance(
            path=clip.path,
            speaker=clip.speaker,
            label=self.speakers.index(clip.speaker),
            text=clip.text,
            key=clip.key,
            language=clip.language,
            wave=clip.wave(store.front.rate, trim=store.trim),
            rate=store.front.rate,
        )

    def sound(self, index: int) -> Sound:
        """Load the front end's analysis of an utterance: frames and, depending on the front end, pitch and aperiodicity."""
        store = self.recordings.store
        return load_or_analyze(store.clips[self._numbers[index]], store.front, store.trim)[0]

    def by_key(self) -> dict[str, list[int]]:
        """Text key -> numbers of the utterances with that text; utterances without a key are left out."""
        numbers: dict[str, list[int]] = {}
        for number, clip in enumerate(self.clips):
            if clip.key is not None:
                numbers.setdefault(clip.key, []).append(number)
        return numbers

    def whole(self) -> Recordings:
        """The same utterances as whole examples of varying length, in order of their numbers."""
        own = self.recordings
        return Recordings(
            own.store, self._numbers, frames=None, name=self.name, names=own.names, facts=own.facts
        )

    def hold_out_speakers(
        self, count: int, seed: int = 0, *, least: int = 10
    ) -> tuple[Recordings, Recordings]:
        """Hold out some speakers, drawn at random: the data of the others, and theirs, each with labels of its own.

        Args:
            count: how many.
            seed: of the draw.
            least: speakers with fewer utterances are not drawn.

        Raises:
            DataError: too few speakers with enough utterances, or fewer than two would be left.
        """
        own = self.recordings
        counts = Counter(clip.speaker for clip in self.clips)
        able = sorted(name for name, number in counts.items() if number >= least)
        if not 0 < count <= len(able) or len(counts) - count < 2:
            raise DataError(
                f"cannot hold out {count} of the {len(counts)} speakers of {self.name}: {len(able)} have {least} utterances or "
                "more, and two must be left"
            )
        order = torch.randperm(len(able), generator=torch.Generator().manual_seed(derive_seed(seed, 2)))
        drawn = {able[place] for place in order[:count].tolist()}
        parts = []
        for inside, name in ((False, self.name), (True, f"{self.name} (held-out speakers)")):
            numbers = [n for n in self._numbers if (own.store.clips[n].speaker in drawn) == inside]
            parts.append(
                Recordings(
                    own.store,
                    numbers,
                    frames=own._steps,
                    stride=own._stride,
                    name=name,
                    facts={**own.facts, **speech_facts(own.store, numbers)},
                )
            )
        return parts[0], parts[1]

    def renumber_classes(self, numbers: Mapping[str, list[int]], classes: Mapping[str, list[str]]) -> Dataset:
        """Return the data set with the speakers in the order of ``classes``, which may have more of them."""
        own = self.recordings
        if own.store.label is None or set(classes) != {own.store.label}:
            return super().renumber_classes(numbers, classes)
        renumbered = Recordings(
            own.store,
            own._numbers,
            frames=own._steps,
            stride=own._stride,
            name=own.name,
            names=classes[own.store.label],
            facts=own.facts,
        )
        if not isinstance(self, Part):
            return renumbered
        part = renumbered.subset(self.indices, part=self.part)
        part.origin.update(self.origin)
        return part

    def subset(self, indices: Int[Tensor, " m"] | Iterable[int], part: str = "subset") -> Part:
        """Select the examples of these indices (m,) as a part."""
        return Part(self, indices, part=part)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Part, ...]:
        """Split into train and test, or train, valid and test: by utterance, or by text where speakers share texts.

        Every speaker is in every part, with about the same share.  The test part does not depend on ``valid``, unless a speaker
        would have only one text outside it.

        Raises:
            DataError: shares out of range, or a speaker with too few utterances.
        """
        division = Division(seed, valid, test_share, valid_share, self.split_level())
        of_clip = self.recordings.divide(self.clips, division)
        generator = torch.Generator().manual_seed(derive_seed(seed, 1))
        order = torch.randperm(len(self), generator=generator)  # reports show the first examples
        part_of = torch.tensor([PARTS.index(name) for name in of_clip])[self.owner[order]]
        settings = split_settings(seed, valid, test_share, valid_share)
        subsets = []
        for index, name in enumerate(PARTS):
            if valid or name != "valid":
                subsets.append(self.subset(order[part_of == index], part=name))
                subsets[-1].origin.update(settings)
        return tuple(subsets)


def speech_facts(store: Store, numbers: Sequence[int]) -> dict[str, Any]:
    """Speakers, their minutes of speech, and their languages."""
    seconds: dict[str, float] = {}
    languages: dict[str, set[str]] = {}
    for number in numbers:
        clip = store.clips[number]
        count = int(store.ends[number + 1] - store.ends[number])
        seconds[clip.speaker] = seconds.get(clip.speaker, 0.0) + count * store.front.hop / store.front.rate
        if clip.language is not None:
            languages.setdefault(clip.speaker, set()).add(clip.language)
    minutes = {speaker: round(amount / 60, 1) for speaker, amount in sorted(seconds.items())}
    if store.label != "speaker":
        classes = {} if store.label is None else {"classes": list(minutes)}
        return {**classes, "minutes": round(sum(seconds.values()) / 60, 1)}
    facts: dict[str, Any] = {"speakers": list(minutes), "minutes": minutes}
    if languages:
        facts["languages"] = {speaker: sorted(names) for speaker, names in sorted(languages.items())}
    return facts


class Recordings(UtteranceDataset):
    """Utterances of a store, as windows of one length or whole.

    Fields: ``x`` sequence (frames c), or of varying length; ``speaker`` label; a ``tokens`` field for each track.

    Args:
        store: the frames.
        numbers: indices of the clips to use.
        frames: length of a window; if None, whole utterances.
        stride: frames from one window to the next; if None, ``frames``.  The remainder at an utterance's end is covered by a
            last window that ends with it.  Utterances shorter than a window are left out.
        name: name of the data set in reports.
        names: the speakers; if None, those of the clips, sorted.
        facts: for ``describe``.

    Raises:
        PartArgumentError: ``frames`` or ``stride`` out of range.
        DataError: no utterance is as long as a window.
    """

    def __init__(
        self,
        store: Store,
        numbers: Sequence[int],
        *,
        frames: int | None,
        stride: int | None = None,
        name: str = "speech",
        names: Sequence[str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.store, self._name, self.recordings = store, name, self
        counted = (store.ends[1:] - store.ends[:-1]).tolist()
        self._numbers, owners, firsts = list[int](), list[int](), list[int]()
        for number in numbers:
            starts = [0] if frames is None else window_starts(counted[number], frames, stride or frames)
            if starts:
                owners += [len(self._numbers)] * len(starts)
                firsts += [int(store.ends[number]) + start for start in starts]
                self._numbers.append(number)
        if not owners:
            second = (frames or 0) * store.front.hop / store.front.rate
            raise DataError(
                f"none of the {len(numbers)} utterances of {name} is as long as frames={frames} ({second:.2f} s)\n"
                "  use fewer frames, or frames=None for whole utterances"
            )
        self.owner, self._first, self._steps = torch.tensor(owners), torch.tensor(firsts), frames
        self._stride = stride
        self.names = sorted({clip.speaker for clip in self.clips}) if names is None else list(names)
        label_of = {speaker: number for number, speaker in enumerate(self.names)}
        self._labels = torch.tensor([label_of[clip.speaker] for clip in self.clips])
        self._lengths = torch.tensor([counted[number] for number in self._numbers])
        fields = {
            "x": Field(kind="sequence", shape=(frames, store.frames.shape[1]), form=store.front.form),
        }
        if store.label is not None:
            fields[store.label] = Field(
                kind="label", shape=(), vocab=len(self.names), classes=tuple(self.names)
            )
        for track, (_, symbols) in store.tracks.items():
            fields[track] = Field(kind="tokens", shape=(frames,), vocab=len(symbols))
        self.signature = Signature(fields)
        self.facts = dict(facts or {})
        if len(numbers) > len(self._numbers):
            self.facts["short_count"] = len(numbers) - len(self._numbers)

    def clip_identities(self, clips: Sequence[Clip]) -> list[str] | None:
        """Return what each clip is, by which ``divide`` assigns it; None: its position."""
        return None

    def identities(self) -> list[str] | None:
        """Return what the clip of each example is; None where clips are divided by position."""
        names = self.clip_identities(self.clips)
        return None if names is None else [names[owner] for owner in self.owner.tolist()]

    def divide(self, clips: Sequence[Clip], division: Division) -> list[str]:
        """Assign every clip to "train", "valid" or "test", for ``split``.

        By identity where clips have one, see ``assign_by_identity``; else by position, see ``assign_parts``.
        """
        names = self.clip_identities(clips)
        return assign_parts(clips, division) if names is None else assign_by_identity(clips, names, division)

    def __len__(self) -> int:
        """Number of windows, or of utterances."""
        return len(self.owner)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one window or utterance; a negative index counts from the end."""
        position = range(len(self))[index]
        first, owner = int(self._first[position]), int(self.owner[position])
        rows = slice(first, first + (self._steps or int(self._lengths[owner])))
        example = {"x": self.store.frames[rows]}
        if self.store.label is not None:
            example[self.store.label] = self._labels[owner]
        return example | {track: symbols[rows] for track, (symbols, _) in self.store.tracks.items()}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples of these indices (b,): windows in one look-up, utterances padded with ``x_mask``."""
        index = to_index(indices)
        if self._steps is None:
            return super().batch(index)
        rows = self._first[index].unsqueeze(1) + torch.arange(self._steps)
        example = {"x": self.store.frames[rows]}
        if self.store.label is not None:
            example[self.store.label] = self._labels[self.owner[index]]
        return example | {track: symbols[rows] for track, (symbols, _) in self.store.tracks.items()}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Number of frames of every utterance; empty for windows, which have one length."""
        varying = [name for name, each in self.signature.items() if None in each.shape]
        return {name: self._lengths[self.owner] for name in varying}

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self._name


class Part(UtteranceDataset, Subset):
    """Some examples of a data set of utterances, with those utterances."""

    def __init__(
        self, data: UtteranceDataset, indices: Tensor | Iterable[int], *, part: str = "subset"
    ) -> None:
        super().__init__(data, indices, part=part)
        if isinstance(data, Part):  # one look-up for any depth of nesting
            self.data, self.indices = data.data, data.indices[self.indices]
            self.origin["within"] = {"part": data.part, **data.origin}
        self.recordings = data.recordings
        mine = self.recordings.owner[self.indices]
        present, self.owner = torch.unique(mine, return_inverse=True)
        self._numbers = [self.recordings._numbers[number] for number in present.tolist()]


def check_several_speakers(data: UtteranceDataset, least: int = 2) -> list[str]:
    """Check that there are at least ``least`` speakers, as voice conversion needs, and return their names.

    Raises:
        DataError: fewer speakers.
    """
    present = sorted({clip.speaker for clip in data.clips})
    if len(present) < least:
        raise DataError(
            f"{data.name} holds {len(present)} speaker ({', '.join(present)}); voice conversion needs at least "
            f"{least}\n  put each speaker's files into a separate folder below root"
        )
    return data.speakers


def window_starts(length: int, frames: int, stride: int) -> list[int]:
    """First frames of the windows of an utterance; none if it is shorter than a window."""
    starts = list(range(0, length - frames + 1, stride))
    if starts and starts[-1] + frames < length:
        starts.append(length - frames)
    return starts
