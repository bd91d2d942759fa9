"""Curves of rate and distortion of single pictures, and comparison at equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reprkit_compress.evaluators.quality import psnr
from reprkit_compress.evaluators.standard_codecs import code


@dataclass(frozen=True)
class Point:
    """A picture at one rate.

    Attributes:
        bytes: size of its file or string, with all headers.
        payload: bytes without the header of reprkit's string; those of a codec's file are not told apart.
        psnr: dB.
        ms_ssim: None where it was not computed, and for a picture that is too small.
    """

    bytes: int
    payload: int
    psnr: float
    ms_ssim: float | None = None


def codec_points(picture: np.ndarray, codec: str, qualities: Iterable[int]) -> list[Point]:
    """Return a picture's points under a codec, by rising size and PSNR.

    Of the codec's options the best one counts at each size: a point with more bytes and no higher PSNR than another is left out.
    """
    coded = [each for quality in qualities for each in code(picture, codec, quality)]
    measured = sorted((each.size, psnr(each.decoded, picture)) for each in coded)
    points: list[Point] = []
    for size, decibels in measured:
        if points and points[-1].psnr >= decibels:
            continue
        if points and points[-1].bytes == size:
            points.pop()
        points.append(Point(size, size, decibels))
    return points


def psnr_at(points: Sequence[Point], size: int) -> float | None:
    """Return the PSNR of a curve at a number of bytes, linear in the logarithm of the bytes; None outside of the curve."""
    sizes = [point.bytes for point in points]
    if not sizes or not sizes[0] <= size <= sizes[-1]:
        return None
    return float(np.interp(np.log(size), np.log(sizes), [point.psnr for point in points]))
