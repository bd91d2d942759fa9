"""Windows of waveforms beside their frames: what a vocoder learns from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature, dataset
from reprkit.data.base import Subset
from reprkit.data.batching import as_index
from reprkit.errors import DataError, PartArgumentError
from reprkit.layers.checks import whole
from reprkit.reference import Reference, parse
from reprkit_audio.data.recordings import Spoken
from reprkit_audio.frontends import frontend as front_end
from reprkit_audio.frontends.log_mel import LogMel

_FULL = 32767.0  # waveforms are kept with 16 bits


class Waves(Dataset):
    """Windows of speech, as log-mel frames and as samples.

    Fields: ``x`` sequence (frames c), how it was made in ``form``; ``wave`` sequence (frames * hop 1) in [-1, 1], the samples
    that those frames lie on; ``speaker`` label.  Frames are those of whole utterances, so a window's ends are as they are
    inside of speech.  ``split`` divides as the speech's own does: by utterance, each speaker alike.

    Frames and waveforms are kept in memory, about 3 MB a minute at 16 kHz.

    Args:
        data: a data set of speech, or a reference to one: ``"asterisk"``, ``"speech(root='DIR')"``.
        frontend: what makes the frames, a log-mel with options.
        frames: length of a window.
        stride: frames from one window to the next, None: half a window.  What is left at an utterance's end is in a last
            window that ends with it; an utterance shorter than a window is left out and counted.

    Raises:
        DataError: data that is no speech, of another rate, or no utterance as long as a window.
        PartArgumentError: ``frames`` or ``stride`` out of range, or a front end that is no log-mel.
    """

    def __init__(
        self, data: str | Spoken, frontend: str = "log-mel", *, frames: int = 64, stride: int | None = None
    ) -> None:
        whole("frames", frames)
        step = max(1, frames // 2) if stride is None else stride
        whole("stride", step)
        front = front_end(frontend)
        if not isinstance(front, LogMel):
            raise PartArgumentError(f"data set waves: frontend is a log-mel, not {frontend!r}")
        self.source, self._steps, self._hop = _speech(data, front), frames, front.hop
        sounds, waves, owners, firsts, start = [], [], list[int](), list[int](), 0
        for number in range(len(self.source.clips)):
            spoken = self.source.utterance(number)
            if spoken.rate != front.rate:
                raise DataError(
                    f"{self.source.name} is of {spoken.rate} Hz, and {front.form} reads {front.rate}"
                )
            made = front.analyse(spoken.wave).frames
            last = len(made) - frames
            starts = list(range(0, last + 1, step))
            if starts and starts[-1] < last:
                starts.append(last)
            if not starts:
                continue
            owners += [number] * len(starts)
            firsts += [start + each for each in starts]
            start += len(made)
            sounds.append(made)
            padded = F.pad(spoken.wave, (0, len(made) * front.hop - len(spoken.wave)))
            waves.append((padded.clamp(-1, 1) * _FULL).round().to(torch.int16))
        if not owners:
            raise DataError(
                f"none of the {len(self.source.clips)} utterances of {self.source.name} is as long as frames={frames} "
                f"({frames * front.hop / front.rate:.2f} s)"
            )
        self._frames, self._wave = torch.cat(sounds), torch.cat(waves)
        self._owner, self._first = torch.tensor(owners), torch.tensor(firsts)
        names = self.source.speakers
        self._labels = torch.tensor([names.index(clip.speaker) for clip in self.source.clips])
        self.signature = Signature(
            {
                "x": Field(kind="sequence", shape=(frames, front.channels), form=front.form),
                "wave": Field(kind="sequence", shape=(frames * front.hop, 1), range=(-1.0, 1.0)),
                "speaker": Field(kind="label", shape=(), vocab=len(names)),
            }
        )
        short = len(self.source.clips) - len(set(owners))
        self.facts: dict[str, Any] = {**self.source.facts, **({"short_count": short} if short else {})}

    def __len__(self) -> int:
        """How many windows."""
        return len(self._owner)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One window; a negative index counts from the end."""
        return {name: value[0] for name, value in self.batch([range(len(self))[index]]).items()}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The windows of these indices (b,), in one look-up a field."""
        index = as_index(indices)
        rows = self._first[index].unsqueeze(1) + torch.arange(self._steps)
        samples = self._wave.view(-1, self._hop)[rows].flatten(1)
        return {
            "x": self._frames[rows],
            "wave": (samples.float() / _FULL).unsqueeze(-1),
            "speaker": self._labels[self._owner[index]],
        }

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Subset, ...]:
        """The parts of the speech's own ``split``, in windows.

        Raises:
            DataError: as there, or a part without a window.
        """
        made = []
        for part in self.source.split(seed, valid=valid, test_share=test_share, valid_share=valid_share):
            wanted = {clip.name for clip in part.clips}
            there = torch.tensor([clip.name in wanted for clip in self.source.clips])
            made.append(self.subset(there[self._owner].nonzero()[:, 0], part=part.part))
            made[-1].origin.update(part.origin)
        return tuple(made)

    @property
    def name(self) -> str:
        """A short name for reports."""
        return f"waves of {self.source.name}"


def _speech(data: str | Spoken, front: LogMel) -> Spoken:
    """The speech; a reference's front end and windows are set where it leaves them open, so that nothing is worked out twice.

    Raises:
        DataError: the data is no speech.
    """
    if isinstance(data, str):
        named = parse(data)
        usual = {"frontend": front.form, "frames": None}
        found: Dataset = dataset(str(Reference(named.name, {**usual, **named.arguments}, named.distribution)))
    else:
        found = data
    if not isinstance(found, Spoken):
        raise DataError(f"data set waves reads speech (utterances with a speaker), not {type(found).__name__}")
    return found
