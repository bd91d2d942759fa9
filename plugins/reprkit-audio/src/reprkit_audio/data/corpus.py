"""From clips to a data set: frames worked out or found, unreadable files left out by name, speakers held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reprkit.data.corrupt_files import CorruptFiles
from reprkit.errors import DataError
from reprkit_audio.data.clips import Clip, check_speakers, select_clips, split_clip
from reprkit_audio.data.features import load_frames
from reprkit_audio.data.recordings import Recordings, Store
from reprkit_audio.frontends import frontend as front_end

CLIPPED = 1e-3  # a larger share of clipped samples is counted in the facts

# A track's symbols (t,) for a clip and its number of frames, and the symbols' names.
Track = tuple[Callable[[Clip, int], Tensor], Sequence[str]]


class Corpus(Recordings):
    """Recordings of several speakers, by clips.

    Args:
        clips: what there is.
        name: for reports.
        frontend: what makes the frames: "world", "log-mel", with options.
        frames: length of a window; None takes utterances whole.
        stride: frames from one window to the next; None: ``frames``.
        trim: whether silence at an utterance's ends is cut off.
        seconds: longer files are cut into pieces of equal length, none longer; None leaves them.
        speakers: only these.
        speakers_held_out: these are no part of the set; ``unseen`` holds them.
        utterances: at most so many of each speaker.
        max_corrupt: the largest share of unreadable files that is left out; more is an error.
        facts: for ``describe``.
        tracks: name -> what gives the symbols of a clip's frames, and the symbols' names.

    Raises:
        DataError: nothing to read, too much that cannot be read, or speakers that are not there.
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
        tracks: Mapping[str, Track] | None = None,
    ) -> None:
        front, skips = front_end(frontend), CorruptFiles("sound files", max_corrupt)
        wanted = select_clips(clips, speakers, utterances)
        total = len(wanted)
        if seconds is not None:
            by_name = {clip.name: clip for clip in wanted}
            cut = skips.vetted(by_name, lambda each: split_clip(by_name[each], seconds))
            wanted = [piece for _, found in cut for piece in found]
        rows = load_frames(wanted, front, trim, skips)
        skips.judge(total, name)
        kept = [clip for clip, _, _ in rows]
        counts = torch.tensor([0, *(len(made) for _, made, _ in rows)])
        store = Store(
            clips=kept,
            frames=torch.cat([made for _, made, _ in rows]),
            ends=counts.cumsum(0),
            front=front,
            trim=trim,
            tracks={
                track: (torch.cat([give(clip, len(made)) for clip, made, _ in rows]), symbols)
                for track, (give, symbols) in (tracks or {}).items()
            },
        )
        loud = sum(share > CLIPPED for _, _, share in rows)
        del rows
        away = set(check_speakers(speakers_held_out, {clip.speaker for clip in kept}, "speakers_held_out"))
        seen = [number for number, clip in enumerate(kept) if clip.speaker not in away]
        if not seen:
            raise DataError(f"speakers_held_out names every speaker of {name}: nobody is left to learn from")
        known = {**(facts or {}), **_facts(store, seen), **skips.facts()}
        if loud:
            known["clipped_count"] = loud
        super().__init__(store, seen, frames=frames, stride=stride, name=name, facts=known)
        unseen = [number for number, clip in enumerate(kept) if clip.speaker in away]
        self._unseen = (
            Recordings(
                store,
                unseen,
                frames=frames,
                stride=stride,
                name=f"{name} (unseen)",
                facts=_facts(store, unseen),
            )
            if unseen
            else None
        )

    @property
    def unseen(self) -> Recordings:
        """The speakers that were held out, as a data set with labels of its own.

        Raises:
            DataError: nobody was held out.
        """
        if self._unseen is None:
            some = ", ".join(repr(each) for each in self.speakers[:2])
            raise DataError(
                f"{self.name} holds nobody out\n  name some: speakers_held_out=({some.split(', ')[0]},); its speakers: {some}, ..."
            )
        return self._unseen


def _facts(store: Store, numbers: Sequence[int]) -> dict[str, Any]:
    """Who is there, in how many languages, and for how long."""
    seconds: dict[str, float] = {}
    languages: dict[str, set[str]] = {}
    for number in numbers:
        clip = store.clips[number]
        count = int(store.ends[number + 1] - store.ends[number])
        seconds[clip.speaker] = seconds.get(clip.speaker, 0.0) + count * store.front.hop / store.front.rate
        if clip.language is not None:
            languages.setdefault(clip.speaker, set()).add(clip.language)
    minutes = {speaker: round(amount / 60, 1) for speaker, amount in sorted(seconds.items())}
    found: dict[str, Any] = {"speakers": list(minutes), "minutes": minutes}
    if languages:
        found["languages"] = {speaker: sorted(spoken) for speaker, spoken in sorted(languages.items())}
    return found
