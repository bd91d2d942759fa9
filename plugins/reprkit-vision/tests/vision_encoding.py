"""Helpers of the encoder tests: images, their signatures, and an encoder for them."""

import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature


def images(height, width=None, channels=3, span=(0.0, 1.0)):
    return Signature({"x": Field(kind="image", shape=(height, width or height, channels), range=span)})


def encoder(reference, data=None):
    torch.manual_seed(0)
    return rk.create("encoder", f"reprkit-vision/{reference}", data=data or images(32))


def batch(size, height, width=None, channels=3):
    generator = torch.Generator().manual_seed(1)
    return {"x": torch.rand(size, height, width or height, channels, generator=generator)}
