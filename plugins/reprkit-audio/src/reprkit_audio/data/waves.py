"""Windows of waveforms beside their frames: what a vocoder learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature, dataset
from reprkit.data.base import Subset
from reprkit.data.collate import as_index
from reprkit.errors import DataError, PartArgumentError
from reprkit.registry.constraints import Count
from reprkit.registry.references import Reference, parse_sum
from reprkit_audio.data.recordings import UtteranceDataset
from reprkit_audio.frontends import frontend as front_end
from reprkit_audio.frontends.log_mel import LogMel

_FULL_SCALE = 32767.0  # waveforms are kept with 16 bits


class Waves(Dataset):
    """Windows of speech, as log-mel frames and as samples.

    Fields: ``x`` sequence (frames c), how it was made in ``form``; ``wave`` sequence (frames * hop 1) in [-1, 1], the samples
    that those frames lie on; ``speaker`` label.  Frames are those of whole utterances, so a window's ends are as they are
    inside of speech.  ``split`` divides as the speech's own does: by utterance, each speaker alike.

    Frames and waveforms are kept in memory, about 3 MB a minute at 16 kHz.

    Args:
        data: a data set of speech, a reference to one (``"speech(root='DIR')"``), or a sum (``"asterisk + fillets"``): then all
            speakers of all of them.
        frontend: what makes the frames, a log-mel with options.
        frames: length of a window.
        stride: frames from one window to the next, None: half a window.  What is left at an utterance's end is in a last
            window that ends with it; an utterance shorter than a window is left out and counted.

    Raises:
        DataError: data that is no speech, of another rate, or no utterance as long as a window.
        PartArgumentError: ``frames`` or ``stride`` out of range, or a front end that is no log-mel.
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
            raise PartArgumentError(f"data set waves: frontend is a log-mel, not {frontend!r}")
        self.sources, self._steps, self._hop = _utterance_datasets(data, front), frames, front.hop
        names = sorted({name for each in self.sources for name in each.speakers})
        sounds, waves, total = list[Tensor](), list[Tensor](), 0
        owners, firsts, labels = list[int](), list[int](), list[int]()
        for source, number in self._numbered():
            spoken = source.utterance(number)
            if spoken.rate != front.rate:
                raise DataError(f"{source.name} is of {spoken.rate} Hz, and {front.form} reads {front.rate}")
            labels.append(names.index(spoken.speaker))
            made = front.analyze(spoken.wave).frames
            starts = list(range(0, len(made) - frames + 1, step))
            if not starts:
                continue
            starts += [] if starts[-1] == len(made) - frames else [len(made) - frames]
            owners += [len(labels) - 1] * len(starts)
            firsts += [total + each for each in starts]
            total += len(made)
            sounds.append(made)
            padded = F.pad(spoken.wave, (0, len(made) * front.hop - len(spoken.wave)))
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
                "speaker": Field(kind="label", shape=(), vocab=len(names)),
            }
        )
        short = len(labels) - len(set(owners))
        self.facts: dict[str, Any] = {} if len(self.sources) > 1 else dict(self.sources[0].facts)
        self.facts |= {"short_count": short} if short else {}

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
            "wave": (samples.float() / _FULL_SCALE).unsqueeze(-1),
            "speaker": self._labels[self._owner[index]],
        }

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Subset, ...]:
        """The parts of the speech's own ``split``, in windows.

        Raises:
            DataError: as there, or a part without a window.
        """
        how = {"test_share": test_share, "valid_share": valid_share}
        made = []
        for parts in zip(*(each.split(seed, valid=valid, **how) for each in self.sources), strict=True):
            wanted = [{clip.name for clip in part.clips} for part in parts]
            there = [
                source.clips[number].name in names
                for source, names in zip(self.sources, wanted, strict=True)
                for number in range(len(source.clips))
            ]
            made.append(self.subset(torch.tensor(there)[self._owner].nonzero()[:, 0], part=parts[0].part))
            made[-1].origin.update(parts[0].origin)
        return tuple(made)

    def _numbered(self) -> Iterator[tuple[UtteranceDataset, int]]:
        """Every utterance of every source, in order."""
        return ((source, number) for source in self.sources for number in range(len(source.clips)))

    @property
    def name(self) -> str:
        """A short name for reports."""
        return f"waves of {' + '.join(each.name for each in self.sources)}"


def _utterance_datasets(data: str | UtteranceDataset, front: LogMel) -> list[UtteranceDataset]:
    """The speech; a reference's front end and windows are set where it leaves them open, so that nothing is worked out twice.

    Raises:
        DataError: the data is no speech, or a sum has weights.
    """
    found: list[Dataset] = [] if isinstance(data, str) else [data]
    for weight, named in parse_sum(data) if isinstance(data, str) else ():
        if weight != 1:
            raise DataError(f"data set waves takes a plain sum of data sets, not {data!r}")
        usual = {"frontend": front.form, "frames": None}
        found.append(dataset(str(Reference(named.name, {**usual, **named.arguments}, named.distribution))))
    speech = [each for each in found if isinstance(each, UtteranceDataset)]
    if len(speech) < len(found):
        other = next(each for each in found if not isinstance(each, UtteranceDataset))
        raise DataError(
            f"data set waves reads speech (utterances with a speaker), not {type(other).__name__}"
        )
    return speech
