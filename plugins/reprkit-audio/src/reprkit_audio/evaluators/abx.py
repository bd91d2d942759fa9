"""ABX discrimination: whether a segment is nearer to one of its own phone than to one of another phone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from reprkit_audio.distortion import dtw_path
from reprkit_audio.evaluators.phone_items import angular

MAX_FRAMES = 40  # at most this many frames of a segment are compared


@dataclass(frozen=True)
class Segment:
    """A segment of frames of one phone.

    Attributes:
        frames: their representation (t d).
        phone: index of the phone.
        speaker: label of the speaker.
    """

    frames: Float[np.ndarray, "t d"]
    phone: int
    speaker: int


def segments(
    frames: Float[np.ndarray, "t d"],
    phones: np.ndarray,
    speaker: int,
    leave_out: frozenset[int],
    least: int = 3,
) -> list[Segment]:
    """Runs of equal phones (t,) of at least ``least`` frames in an example; those at its ends may be cut off and are left out."""
    edges = np.flatnonzero(np.diff(phones)) + 1
    runs = []
    for start, stop in itertools.pairwise(edges):
        phone = int(phones[start])
        if stop - start >= least and phone not in leave_out:
            runs.append(Segment(frames[start:stop][:MAX_FRAMES], phone, speaker))
    return runs


def distance(one: Float[np.ndarray, "n d"], two: Float[np.ndarray, "m d"]) -> float:
    """Mean angle between frames along the best path of dynamic time warping, in [0, 1] (1: opposite).

    Schatz et al. 2013 (Interspeech, "Evaluating speech features with the minimal-pair ABX task"), section 2.2.
    """
    costs = angular(one[None], two[None])[0]
    path = dtw_path(costs)
    return float(costs[path[:, 0], path[:, 1]].mean())


def abx(pool: list[Segment], triples: int, seed: int, *, across: bool) -> float | None:
    """ABX error: share of triples in which X is nearer to B, of another phone, than to A, of its own; a tie counts half.

    A and B are of one speaker; X is of the same (``across=False``) or of another.  None if there is no triple.
    """
    generator = np.random.default_rng(seed)
    groups: dict[tuple[int, int], list[int]] = {}
    for number, each in enumerate(pool):
        groups.setdefault((each.speaker, each.phone), []).append(number)
    wrong, count = 0.0, 0
    for _ in range(20 * triples):
        if count == triples:
            break
        x = int(generator.integers(len(pool))) if pool else -1
        if x < 0:
            return None
        phone, own = pool[x].phone, pool[x].speaker
        speakers = sorted({s for s, p in groups if p == phone and (s != own) == across})
        if not speakers:
            continue
        speaker = int(generator.choice(speakers))
        same = [each for each in groups[speaker, phone] if each != x]
        others = sorted(p for s, p in groups if s == speaker and p != phone)
        if not same or not others:
            continue
        a = pool[int(generator.choice(same))]
        b = pool[int(generator.choice(groups[speaker, int(generator.choice(others))]))]
        near, far = distance(a.frames, pool[x].frames), distance(b.frames, pool[x].frames)
        wrong += 1.0 if near > far else 0.5 if near == far else 0.0
        count += 1
    return wrong / count if count else None
