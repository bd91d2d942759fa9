"""Data set of waveform windows with their frames, for training vocoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature, dataset
from reprkit.data.base import Subset
from reprkit.data.collation import to_index
from reprkit.errors import DataError, PartArgumentError
from reprkit.registry.constraints import Count
from reprkit.registry.references import Reference, parse_sum
from reprkit_audio.data.recordings import UtteranceDataset, window_starts
from reprkit_audio.frontends import frontend as front_end
from reprkit_audio.frontends.log_mel import LogMel

_FULL_SCALE = 32767.0  # waveforms are stored with 16 bits


class Waves(Dataset):
    """Windows of speech, as log-mel frames and as samples.

    Fields: ``x`` sequence (frames c), its front end in ``form``; ``wave`` sequence (frames * hop 1) in [-1, 1], the samples
    of those frames; ``speaker`` label.  Frames are computed on whole utterances, so that a window's ends have real context.
    ``split`` follows the speech data set's: by utterance, with equal shares for each speaker.

    Frames and waveforms are held in memory, about 3 MB a minute at 16 kHz.

    Args:
        data: a data set of speech, a reference to one (``"speech(root='DIR')"``), or a sum (``"asterisk + fillets"``), with
            all speakers of its terms.
        frontend: the front end of the frames, a log-mel with options.
        frames: length of a window.
        stride: frames from one window to the next, half a window if None.  The remainder at an utterance's end is covered by
            a last window that ends with it; an utterance shorter than a window is left out and counted.

    Raises:
        DataError: data that is not speech, another sampling rate, or no utterance as long as a window.
        PartArgumentError: ``frames`` or ``stride`` out of range, or a front end that is not log-mel.
    """

    def __init__(
        self,
        data: str | UtteranceDataset,
        frontend: str = "log-mel",
        *,
        frames: Count = 64,
        stride: Count | None = None,
    ) -> None:
        step = max(1, frames // 2) if stride is None else stride
        front = front_end(frontend)
        if not isinstance(front, LogMel):
            raise PartArgumentError(f"data set waves: frontend must be a log-mel, not {frontend!r}")
        self.sources, self._steps, self._hop = _utterance_datasets(data, front), frames, front.hop
        names = sorted({name for each in self.sources for name in each.speakers})
        sounds, waves, total = list[Tensor](), list[Tensor](), 0
        owners, firsts, labels = list[int](), list[int](), list[int]()
        for source, number in self._utterances():
            utterance = source.utterance(number)
            if utterance.rate != front.rate:
                raise DataError(
                    f"{source.name} has {utterance.rate} Hz, and {front.form} needs {front.rate} Hz"
                )
            labels.append(names.index(utterance.speaker))
            values = front.analyze(utterance.wave).frames
            starts = window_starts(len(values), frames, step)
            if not starts:
                continue
            owners += [len(labels) - 1] * len(starts)
            firsts += [total + each for each in starts]
            total += len(values)
            sounds.append(values)
            padded = F.pad(utterance.wave, (0, len(values) * front.hop - len(utterance.wave)))
            waves.append((padded.clamp(-1, 1) * _FULL_SCALE).round().to(torch.int16))
        if not owners:
            raise DataError(
                f"none of the {len(labels)} utterances of {self.name} is as long as frames={frames} "
                f"({frames * front.hop / front.rate:.2f} s)"
            )
        self._frames, self._wave = torch.cat(sounds), torch.cat(waves)
        self._owner, self._first = torch.tensor(owners), torch.tensor(firsts)
        self.speakers, self._labels = names, torch.tensor(labels)
        self.signature = Signature(
            {
                "x": Field(kind="sequence", shape=(frames, front.channels), form=front.form),
                "wave": Field(kind="sequence", shape=(frames * front.hop, 1), range=(-1.0, 1.0)),
                "speaker": Field(kind="label", shape=(), vocab=len(names), classes=tuple(names)),
            }
        )
        short = len(labels) - len(set(owners))
        self.facts: dict[str, Any] = {} if len(self.sources) > 1 else dict(self.sources[0].facts)
        self.facts |= {"short_count": short} if short else {}

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._owner)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one window; a negative index counts from the end."""
        return {name: value[0] for name, value in self.batch([range(len(self))[index]]).items()}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the windows of these indices (b,), in one look-up per field."""
        index = to_index(indices)
        rows = self._first[index].unsqueeze(1) + torch.arange(self._steps)
        samples = self._wave.view(-1, self._hop)[rows].flatten(1)
        return {
            "x": self._frames[rows],
            "wave": (samples.float() / _FULL_SCALE).unsqueeze(-1),
            "speaker": self._labels[self._owner[index]],
        }

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Subset, ...]:
        """Split into the windows of the parts of the speech data set's ``split``.

        Raises:
            DataError: as there, or a part without a window.
        """
        shares = {"test_share": test_share, "valid_share": valid_share}
        subsets = []
        for parts in zip(*(each.split(seed, valid=valid, **shares) for each in self.sources), strict=True):
            wanted = [{clip.name for clip in part.clips} for part in parts]
            inside = [
                clip.name in names
                for source, names in zip(self.sources, wanted, strict=True)
                for clip in source.clips
            ]
            subsets.append(self.subset(torch.tensor(inside)[self._owner].nonzero()[:, 0], part=parts[0].part))
            subsets[-1].origin.update(parts[0].origin)
        return tuple(subsets)

    def _utterances(self) -> Iterator[tuple[UtteranceDataset, int]]:
        """All utterances of all sources, in order."""
        return ((source, number) for source in self.sources for number in range(len(source.clips)))

    @property
    def name(self) -> str:
        """A short name for reports."""
        return f"waves of {' + '.join(each.name for each in self.sources)}"


def _utterance_datasets(data: str | UtteranceDataset, front: LogMel) -> list[UtteranceDataset]:
    """Build the speech data sets; front end and windows default to those needed here, so that frames are computed once.

    Raises:
        DataError: the data is not speech, or a sum has weights.
    """
    data_sets: list[Dataset] = [] if isinstance(data, str) else [data]
    for weight, reference in parse_sum(data) if isinstance(data, str) else ():
        if weight != 1:
            raise DataError(f"data set waves needs a sum without weights of data sets, not {data!r}")
        defaults = {"frontend": front.form, "frames": None}
        data_sets.append(
            dataset(
                str(Reference(reference.name, {**defaults, **reference.arguments}, reference.distribution))
            )
        )
    speech = [each for each in data_sets if isinstance(each, UtteranceDataset)]
    if len(speech) < len(data_sets):
        other = next(each for each in data_sets if not isinstance(each, UtteranceDataset))
        raise DataError(
            f"data set waves reads speech (utterances with a speaker), not {type(other).__name__}"
        )
    return speech
