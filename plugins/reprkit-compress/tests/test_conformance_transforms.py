"""The kit's checks of the transforms and latents."""

import pytest

from reprkit import Field, Signature
from reprkit.testing import DecoderConformance, EncoderConformance, LatentConformance

IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0))})

pytestmark = pytest.mark.slow  # of each part some dozens of checks


class TestStridedEncoder(EncoderConformance):
    part = "reprkit-compress/strided(width=8, depth=2)"
    data = IMAGES


class TestBlocksEncoder(EncoderConformance):
    part = "reprkit-compress/blocks(width=8, depth=2)"
    data = IMAGES


class TestStridedDecoder(DecoderConformance):
    part = "reprkit-compress/strided(width=8, depth=2)"
    data = IMAGES


class TestBlocksDecoderOfAnotherGrid(DecoderConformance):
    part = "reprkit-compress/blocks(width=8, depth=1, likelihood='laplace')"
    data = IMAGES


class TestHyperprior(LatentConformance):
    part = "reprkit-compress/hyperprior(dim=3, side=4, hidden=8)"


class TestHyperpriorOfSeveralRates(LatentConformance):
    part = "reprkit-compress/hyperprior(dim=3, side=4, hidden=8, betas=(0.5, 2))"


class TestContext(LatentConformance):
    part = "reprkit-compress/context(dim=3, limit=6)"
