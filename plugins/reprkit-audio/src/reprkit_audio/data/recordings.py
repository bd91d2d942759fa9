"""Recordings in memory as a data set: windows of frames for training, whole utterances for everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Subset
from reprkit.data.base import mixed
from reprkit.data.collate import as_index
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip, Utterance
from reprkit_audio.data.division import PARTS, assign_parts
from reprkit_audio.data.features import load_or_analyze
from reprkit_audio.frontends import FrontEnd, Sound


@dataclass(frozen=True, kw_only=True)
class Store:
    """Everything that was read of a corpus, once, however many data sets look at it.

    Attributes:
        clips: the recordings.
        frames: of all of them, one after another (T c), float32.
        ends: where each one's frames end (n + 1), from 0.
        front: what made the frames.
        trim: whether silence at the ends was cut off before.
        tracks: name -> one symbol a frame (T,) and the symbols' names, such as phones.
    """

    clips: Sequence[Clip]
    frames: Float[Tensor, "t c"]
    ends: Int[Tensor, " n"]
    front: FrontEnd
    trim: bool
    tracks: Mapping[str, tuple[Int[Tensor, " t"], Sequence[str]]] = field(default_factory=dict)


class UtteranceDataset(Dataset):
    """A data set of utterances, or a part of one: who says what beside each example.

    Attributes:
        recordings: the data set that this is, or is a part of.
        owner: which utterance each example is of (m,), a number for ``utterance``.
        speakers: names, in the order of the labels of field ``speaker``.
    """

    recordings: Recordings
    owner: Int[Tensor, " m"]
    _numbers: list[int]

    @property
    def speakers(self) -> list[str]:
        """Names, in the order of the labels of field ``speaker``; those of the whole set also for a part."""
        return self.recordings.names

    @property
    def frontend(self) -> FrontEnd:
        """What made the frames; its ``form`` is that of field ``x``."""
        return self.recordings.store.front

    @property
    def clips(self) -> list[Clip]:
        """The utterances without their sound, in the order of their numbers."""
        return [self.recordings.store.clips[number] for number in self._numbers]

    def utterance(self, index: int) -> Utterance:
        """An utterance with its sound, whole: ``index`` counts utterances (``len(data.clips)``), not examples.

        Raises:
            IndexError: past the end.
            DataError: its file was readable when the set was made, and no longer is.
        """
        clip = self.clips[index]
        store = self.recordings.store
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
        """What the front end found in an utterance: frames, and where it says so pitch and aperiodicity."""
        return load_or_analyze(self.clips[index], self.frontend, self.recordings.store.trim)[0]

    def by_key(self) -> dict[str, list[int]]:
        """The numbers of the utterances that say the same: text key -> numbers; without those that have no key."""
        found: dict[str, list[int]] = {}
        for number, clip in enumerate(self.clips):
            if clip.key is not None:
                found.setdefault(clip.key, []).append(number)
        return found

    def whole(self) -> Recordings:
        """The same utterances whole: one example each, in the order of their numbers, of varying length."""
        own = self.recordings
        return Recordings(
            own.store, self._numbers, frames=None, name=self.name, names=own.names, facts=own.facts
        )

    def subset(self, indices: Int[Tensor, " m"] | Iterable[int], part: str = "subset") -> Part:
        """The examples of these indices (m,) as a part."""
        return Part(self, indices, part=part)

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Part, ...]:
        """Train and test, or train, valid and test: by utterance, or by text where several speakers say the same.

        Every speaker is in every part, with about the same share.  The test part does not depend on ``valid``.

        Raises:
            DataError: shares out of range, or a speaker with too few utterances.
        """
        of_clip = assign_parts(self.clips, seed, valid, test_share, valid_share)
        generator = torch.Generator().manual_seed(mixed(seed, 1))
        order = torch.randperm(len(self), generator=generator)  # a report shows the first ones
        places = torch.tensor([PARTS.index(name) for name in of_clip])[self.owner[order]]
        how = {"seed": seed, "test_share": test_share, **({"valid_share": valid_share} if valid else {})}
        made = []
        for place, name in enumerate(PARTS):
            if valid or name != "valid":
                made.append(self.subset(order[places == place], part=name))
                made[-1].origin.update(how)
        return tuple(made)


class Recordings(UtteranceDataset):
    """Utterances of a store: windows of one length, or whole.

    Fields: ``x`` sequence (frames c), or of varying length; ``speaker`` label; a ``tokens`` field for each track.

    Args:
        store: what was read.
        numbers: which of its clips.
        frames: length of a window; None takes utterances whole.
        stride: frames from one window to the next, None: ``frames``.  What is left at an utterance's end is in a last
            window that ends with it.  Utterances shorter than a window have none and are left out.
        name: for reports.
        names: the speakers; None takes those of the clips, sorted.
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
            starts = [0] if frames is None else _window_starts(counted[number], frames, stride or frames)
            if starts:
                owners += [len(self._numbers)] * len(starts)
                firsts += [int(store.ends[number]) + start for start in starts]
                self._numbers.append(number)
        if not owners:
            second = (frames or 0) * store.front.hop / store.front.rate
            raise DataError(
                f"none of the {len(numbers)} utterances of {name} is as long as frames={frames} ({second:.2f} s)\n"
                "  take fewer frames, or frames=None for whole utterances"
            )
        self.owner, self._first, self._steps = torch.tensor(owners), torch.tensor(firsts), frames
        self.names = sorted({clip.speaker for clip in self.clips}) if names is None else list(names)
        place = {speaker: number for number, speaker in enumerate(self.names)}
        self._labels = torch.tensor([place[clip.speaker] for clip in self.clips])
        self._lengths = torch.tensor([counted[number] for number in self._numbers])
        fields = {
            "x": Field(kind="sequence", shape=(frames, store.frames.shape[1]), form=store.front.form),
            "speaker": Field(kind="label", shape=(), vocab=len(self.names)),
        }
        for track, (_, symbols) in store.tracks.items():
            fields[track] = Field(kind="tokens", shape=(frames,), vocab=len(symbols))
        self.signature = Signature(fields)
        self.facts = dict(facts or {})
        if len(numbers) > len(self._numbers):
            self.facts["short_count"] = len(numbers) - len(self._numbers)

    def __len__(self) -> int:
        """How many windows, or utterances."""
        return len(self.owner)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One window or utterance; a negative index counts from the end."""
        place = range(len(self))[index]
        first, owner = int(self._first[place]), int(self.owner[place])
        rows = slice(first, first + (self._steps or int(self._lengths[owner])))
        made = {"x": self.store.frames[rows], "speaker": self._labels[owner]}
        return made | {track: symbols[rows] for track, (symbols, _) in self.store.tracks.items()}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices (b,): windows in one look-up, utterances padded under ``x_mask``."""
        index = as_index(indices)
        if self._steps is None:
            return super().batch(index)
        rows = self._first[index].unsqueeze(1) + torch.arange(self._steps)
        made = {"x": self.store.frames[rows], "speaker": self._labels[self.owner[index]]}
        return made | {track: symbols[rows] for track, (symbols, _) in self.store.tracks.items()}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Frames of every utterance; windows have one length."""
        varying = [name for name, each in self.signature.items() if None in each.shape]
        return {name: self._lengths[self.owner] for name in varying}

    @property
    def name(self) -> str:
        """A short name for reports."""
        return self._name


class Part(UtteranceDataset, Subset):
    """Some examples of recordings, and the utterances that they are of."""

    def __init__(
        self, data: UtteranceDataset, indices: Tensor | Iterable[int], *, part: str = "subset"
    ) -> None:
        super().__init__(data, indices, part=part)
        if isinstance(data, Part):  # one look-up however deep the nesting
            self.data, self.indices = data.data, data.indices[self.indices]
            self.origin["within"] = {"part": data.part, **data.origin}
        self.recordings = data.recordings
        mine = self.recordings.owner[self.indices]
        there, self.owner = torch.unique(mine, return_inverse=True)
        self._numbers = [self.recordings._numbers[number] for number in there.tolist()]


def check_several_speakers(data: UtteranceDataset, least: int = 2) -> list[str]:
    """The speakers' names, for whoever converts voices.

    Raises:
        DataError: fewer than ``least``.
    """
    if len(data.speakers) < least:
        raise DataError(
            f"{data.name} holds {len(data.speakers)} speaker ({', '.join(data.speakers)}); converting voices needs at least "
            f"{least}\n  put each speaker's files into a folder of their own below root"
        )
    return data.speakers


def _window_starts(length: int, frames: int, stride: int) -> list[int]:
    """Where the windows of an utterance begin."""
    starts = list(range(0, length - frames + 1, stride))
    if starts and starts[-1] + frames < length:
        starts.append(length - frames)
    return starts
