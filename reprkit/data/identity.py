"""Splits by what each example is: a hash of its identity decides its part, whatever other examples there are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.errors import DataError

_UNSIGNED = 2**64 - 1


def split_by_identity(
    identities: Sequence[str],
    seed: int,
    valid: bool,
    test_share: float,
    valid_share: float,
    *,
    level: int = 0,
) -> dict[str, Int[Tensor, " m"]]:
    """Return part -> indices of its examples; examples of equal identity are in one part.

    Each identity has a place in [0, 1) that depends on it, ``seed`` and ``level`` alone: the places below ``test_share`` are
    test, the next ``valid_share`` valid, the others train.  So added or removed examples change no other's part, and the
    shares hold on average.  Where a part would be empty, the identity of the nearest place goes there; the test part does not
    depend on ``valid``.  A part is in the order of the places of another hash, since reports show the first examples.

    Args:
        identities: of the examples (n,).
        seed: of the split.
        valid: whether there is a validation part; if not, its places are train.
        test_share: share of test.
        valid_share: share of valid.
        level: how often the examples were split before, so that the split of a part is not that of the whole.

    Raises:
        DataError: fewer identities than parts.
    """
    names, member = np.unique(np.asarray(identities, dtype=object).astype(str), return_inverse=True)
    parts = ("train", "valid", "test") if valid else ("train", "test")
    if len(names) < len(parts):
        what = (
            "examples"
            if len(names) == len(member)
            else f"groups that stay together (of {len(member)} examples)"
        )
        raise DataError(
            f"{len(names)} {what} are too few for {', '.join(parts)}\n"
            "  add data, or choose the parts yourself: data.subset(indices)"
        )
    salt = str(seed) if level == 0 else f"{seed}/{level}"
    place = np.array([_place(salt, name) for name in names])
    # In the order of the places test comes first, then valid, then train.
    count = len(names)
    test = int(np.clip((place < test_share).sum(), 1, max(1, count - 2)))
    held_out = int((place < test_share + valid_share).sum()) - test
    held_out = int(np.clip(held_out, 1, count - test - 1)) if valid else 0
    part_of = np.full(count, "train", dtype=object)
    nearest_first = np.argsort(place)
    part_of[nearest_first[:test]] = "test"
    part_of[nearest_first[test : test + held_out]] = "valid"
    order = np.argsort(np.array([_place(f"{salt}/order", name) for name in names])[member], kind="stable")
    return {part: torch.from_numpy(order[part_of[member[order]] == part]) for part in parts}


def content_hash(content: bytes) -> int:
    """Return a hash of an example's content, a signed number of 8 bytes."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def hash_names(hashes: Iterable[int]) -> list[str]:
    """Return hashes as identities."""
    return [f"{value & _UNSIGNED:016x}" for value in hashes]


def _place(salt: str, name: str) -> float:
    """Return a number in [0, 1) that depends on salt and name alone."""
    digest = hashlib.blake2b(f"{salt}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
