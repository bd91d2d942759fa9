"""Data set from clips: frames computed or read from the cache, unreadable files reported, speakers held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reprkit.data.corrupt_files import CorruptFiles
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip, check_speakers, select_clips, split_clip
from reprkit_audio.data.features import load_frames
from reprkit_audio.data.recordings import Recordings, Store, speech_facts
from reprkit_audio.frontends import frontend as front_end

CLIPPED = 1e-3  # recordings with a larger share of clipped samples are counted in the facts

# Function from a clip and its number of frames to the symbols (t,), and the symbols' names.
Track = tuple[Callable[[Clip, int], Tensor], Sequence[str]]


class Corpus(Recordings):
    """Data set of the recordings of several speakers.

    Args:
        clips: the recordings.
        name: name of the data set in reports.
        frontend: what makes the frames: "world", "log-mel", with options.
        frames: length of a window; if None, whole utterances.
        stride: frames from one window to the next; None: ``frames``.
        trim: whether to cut silence at an utterance's ends.
        seconds: longer files are cut into pieces of equal length, at most this long; never if None.
        speakers: use only these speakers.
        speakers_held_out: speakers that are left out; ``unseen`` is a data set of them.
        utterances: at most this many of each speaker.
        max_corrupt: the largest share of unreadable files that may be left out; a larger one is an error.
        facts: for ``describe``.
        unreadable: (name, reason) of files that were found unreadable before they were opened.
        label: name of the field of the speakers (or other classes); None for no such field.
        tracks: name -> function that gives the symbols of a clip's frames, and the symbols' names.

    Raises:
        DataError: no clips, too many unreadable files, or unknown speakers.
        PartArgumentError: a front end's settings, ``frames`` or ``stride`` out of range.
    """

    def __init__(
        self,
        clips: Iterable[Clip],
        name: str,
        *,
        frontend: str = "world",
        frames: int | None = 128,
        stride: int | None = None,
        trim: bool = True,
        seconds: float | None = None,
        speakers: Iterable[str] | None = None,
        speakers_held_out: Iterable[str] = (),
        utterances: int | None = None,
        max_corrupt: float = 0.01,
        facts: Mapping[str, Any] | None = None,
        unreadable: Iterable[tuple[str, str]] = (),
        label: str | None = "speaker",
        tracks: Mapping[str, Track] | None = None,
    ) -> None:
        front, skips = front_end(frontend), CorruptFiles("sound files", max_corrupt)
        wanted = select_clips(clips, speakers, utterances)
        skips.add_entries(unreadable)
        total = len(wanted) + skips.count
        if seconds is not None:
            by_name = {clip.name: clip for clip in wanted}
            cut = skips.iter_readable(by_name, lambda each: split_clip(by_name[each], seconds))
            wanted = [piece for _, parts in cut for piece in parts]
        rows = load_frames(wanted, front, trim, skips)
        skips.check_share(total, name)
        clips_read = [clip for clip, _, _ in rows]
        counts = torch.tensor([0, *(len(values) for _, values, _ in rows)])
        store = Store(
            clips=clips_read,
            frames=torch.cat([values for _, values, _ in rows]),
            ends=counts.cumsum(0),
            front=front,
            trim=trim,
            label=label,
            tracks={
                track: (torch.cat([label(clip, len(values)) for clip, values, _ in rows]), symbols)
                for track, (label, symbols) in (tracks or {}).items()
            },
        )
        clipped = sum(share > CLIPPED for _, _, share in rows)
        del rows
        held_out = set(
            check_speakers(speakers_held_out, {clip.speaker for clip in clips_read}, "speakers_held_out")
        )
        seen = [number for number, clip in enumerate(clips_read) if clip.speaker not in held_out]
        if not seen:
            raise DataError(f"speakers_held_out names every speaker of {name}, so no training data is left")
        known = {**(facts or {}), **speech_facts(store, seen), **skips.facts()}
        if clipped:
            known["clipped_count"] = clipped
        super().__init__(store, seen, frames=frames, stride=stride, name=name, facts=known)
        unseen = [number for number, clip in enumerate(clips_read) if clip.speaker in held_out]
        self._unseen = (
            Recordings(
                store,
                unseen,
                frames=frames,
                stride=stride,
                name=f"{name} (unseen)",
                facts=speech_facts(store, unseen),
            )
            if unseen
            else None
        )

    @property
    def unseen(self) -> Recordings:
        """The held-out speakers, as a data set with labels of its own.

        Raises:
            DataError: no speaker is held out.
        """
        if self._unseen is None:
            some = ", ".join(repr(each) for each in self.speakers[:2])
            raise DataError(
                f"{self.name} holds out no speaker\n  pass speakers_held_out=({some.split(', ')[0]},); its speakers: {some}, ..."
            )
        return self._unseen
