"""The kit's checks of the transforms of pictures, codecs, counted contexts and the evaluator."""

import pytest

from reprkit import Field, Signature
from reprkit.testing import (
    DecoderConformance,
    EncoderConformance,
    EvaluatorConformance,
    LatentConformance,
)

IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0))})

pytestmark = pytest.mark.slow  # of each part some dozens of checks


class TestCosineEncoder(EncoderConformance):
    part = "reprkit-compress/cosine(side=4, inner=8)"
    data = IMAGES


class TestCosineDecoder(DecoderConformance):
    part = "reprkit-compress/cosine(side=4, inner=8, width=8)"
    data = IMAGES


class TestCompactEncoder(EncoderConformance):
    part = "reprkit-compress/compact(scale=4, width=8, blocks=1)"
    data = IMAGES


class TestRestoreDecoder(DecoderConformance):
    part = "reprkit-compress/restore(scale=4, width=8, blocks=1)"
    data = IMAGES


class TestJpeg(LatentConformance):
    part = "reprkit-compress/jpeg(channels=3, quality=70, beta=0.1)"


class TestGrayWebp(LatentConformance):
    part = "reprkit-compress/webp(channels=1)"


class TestContextTables(LatentConformance):
    part = "reprkit-compress/context-tables(dim=4, limit=40)"


class TestRateDistortion(EvaluatorConformance):
    part = "reprkit-compress/rate-distortion(qualities=(20, 80), codecs=('jpeg',), examples=1)"
    data = IMAGES
