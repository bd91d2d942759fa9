"""Data set of parallel utterances, warped to each other's time: for regressions from one voice's frames to another's."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Dataset, Field, Signature, dataset
from reprkit.data.base import Subset
from reprkit.data.collation import to_index
from reprkit.errors import DataError
from reprkit.registry.constraints import Count
from reprkit_audio.data.recordings import UtteranceDataset, window_starts
from reprkit_audio.distortion import dtw_path


class AlignedSpeech(Dataset):
    """Windows of one speaker's frames, with the same words by another speaker, frame by frame.

    Fields: ``x`` sequence (frames c), of the source; ``y`` sequence (frames c), of the target speaker, at the frames that dynamic
    time warping pairs with those of ``x``; ``prompt`` sequence (frames c), of another utterance by the target speaker; ``speaker``
    and ``target``, labels of both.  Every ordered pair of speakers that say the same words in the same language is used, so the
    data needs parallel utterances.  The warping path is the cheapest by Euclidean distance of the frames, without the level and
    standardized over each utterance; of several frames of the target that belong to one of the source, it is the middle one.

    ``split`` follows the speech data set's: by text.  Frames are held in memory, three times those of the speech for two speakers.

    Args:
        data: a data set of utterances, or a reference to one: ``"parallel-speech(voices=('rms', 'slt'))"``.
        frames: length of a window; shorter utterances are left out and counted.
        stride: frames from one window to the next; if None, ``frames``.

    Raises:
        DataError: data without utterances or without parallel ones as long as a window.
        PartArgumentError: ``frames`` or ``stride`` out of range.
    """

    def __init__(
        self, data: str | UtteranceDataset, *, frames: Count = 128, stride: Count | None = None
    ) -> None:
        source = dataset(data) if isinstance(data, str) else data
        if not isinstance(source, UtteranceDataset):
            raise DataError(
                f"data set aligned-speech reads utterances, and {source.name} has none: use parallel-speech, ..."
            )
        self.source, self._steps = source, frames
        pairs = parallel_pairs(source)
        own: dict[int, Tensor] = {
            number: source.sound(number).frames for number in sorted({n for pair in pairs for n in pair})
        }
        self._own = list(own.values())
        places = {number: place for place, number in enumerate(own)}
        shape = source.frontend.shape or slice(None)
        self._paths: list[Int[Tensor, " t"]] = []
        self._pairs: list[tuple[int, int]] = []
        windows: list[tuple[int, int]] = []
        short = 0
        for one, two in pairs:
            starts = window_starts(len(own[one]), frames, stride or frames)
            if not starts or len(own[two]) < frames:
                short += 1
                continue
            windows += [(len(self._pairs), start) for start in starts]
            self._paths.append(warping(own[one][:, shape], own[two][:, shape]))
            self._pairs.append((places[one], places[two]))
        if not windows:
            raise DataError(
                f"{source.name} has no two speakers who say the same words in one language for {frames} frames: use "
                "parallel-speech, or fewer frames"
            )
        self._windows = torch.tensor(windows)
        names = source.speakers
        self._speaker = torch.tensor([names.index(source.clips[number].speaker) for number in own])
        self._text = [source.clips[number].name for number in own]
        spoken = [
            [place for place, label in enumerate(self._speaker) if label == who] for who in range(len(names))
        ]
        # Of each pair: the target's next utterance that is long enough, and not of the same words.
        self._prompts = [self._next_prompt(spoken[int(self._speaker[two])], two) for _, two in self._pairs]
        field = source.signature["x"]
        sequence = Field(kind="sequence", shape=(frames, *field.shape[1:]), form=field.form)
        label = Field(kind="label", shape=(), vocab=len(names), classes=tuple(names))
        self.signature = Signature(
            {"x": sequence, "y": sequence, "prompt": sequence, "speaker": label, "target": label}
        )
        self.facts = {**source.facts, **({"short_count": short} if short else {})}

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one window; a negative index counts from the end."""
        pair, start = self._windows[range(len(self))[index]].tolist()
        one, two = self._pairs[pair]
        other = self._own[self._prompts[pair]]
        place = start % (len(other) - self._steps + 1)
        return {
            "x": self._own[one][start : start + self._steps],
            "y": self._own[two][self._paths[pair][start : start + self._steps]],
            "prompt": other[place : place + self._steps],
            "speaker": self._speaker[one],
            "target": self._speaker[two],
        }

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the windows of these indices (b,)."""
        rows = [self[index] for index in to_index(indices).tolist()]
        return {name: torch.stack([row[name] for row in rows]) for name in self.signature}

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Subset, ...]:
        """Split into the windows of the parts of the speech data set's ``split``: no two parts share a text.

        Raises:
            DataError: as there.
        """
        subsets = []
        for part in self.source.split(seed, valid=valid, test_share=test_share, valid_share=valid_share):
            names = {clip.name for clip in part.clips}
            inside = torch.tensor([self._text[one] in names for one, _ in self._pairs])
            subsets.append(self.subset(inside[self._windows[:, 0]].nonzero()[:, 0], part=part.part))
            subsets[-1].origin.update(part.origin)
        return tuple(subsets)

    @property
    def name(self) -> str:
        """A short name for reports."""
        return f"aligned {self.source.name}"

    def _next_prompt(self, places: list[int], own: int) -> int:
        """The utterance after ``own`` of the same speaker, of at least a window; ``own`` if there is no other."""
        at = places.index(own)
        later = [place for place in places[at + 1 :] + places[:at] if len(self._own[place]) >= self._steps]
        return later[0] if later else own


def parallel_pairs(data: UtteranceDataset) -> list[tuple[int, int]]:
    """Ordered pairs of utterances of the same words in the same language by different speakers, by their numbers.

    The words are the same if the clips have the same key, or without one the same transcript, whatever its case, spaces and
    punctuation.
    """
    same_words: dict[tuple[str, str | None], list[int]] = {}
    for number, clip in enumerate(data.clips):
        words = clip.key or "".join(filter(str.isalnum, (clip.text or "").casefold()))
        if words:
            same_words.setdefault((words, clip.language), []).append(number)
    return [
        (one, two)
        for numbers in same_words.values()
        for one, two in itertools.permutations(numbers, 2)
        if data.clips[one].speaker != data.clips[two].speaker
    ]


def warping(one: Float[Tensor, "t c"], two: Float[Tensor, "u c"]) -> Int[Tensor, " t"]:
    """For each frame of ``one`` the frame of ``two`` that dynamic time warping pairs with it, the middle one of several (t,)."""
    costs = torch.cdist(_standardize(one), _standardize(two)).double().numpy()
    path = dtw_path(costs)
    bounds = np.searchsorted(path[:, 0], np.arange(len(one) + 1))
    return torch.from_numpy(path[(bounds[:-1] + bounds[1:] - 1) // 2, 1].copy())


def _standardize(frames: Float[Tensor, "t c"]) -> Float[Tensor, "t c"]:
    return (frames - frames.mean(0)) / frames.std(0, correction=0).clamp(min=1e-3)
