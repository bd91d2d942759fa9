"""Helpers for checkpoint tests: a small model of the digits, and a comparison of two models."""

import torch

import reprkit as rk


def make(digits, latent="continuous(dim=4)", **more):
    options = {
        "encoder": "mlp(widths=(16,))",
        "decoder": "mlp(widths=(16,))",
        "objective": "reconstruction",
        **more,
    }
    return rk.build(data=digits, latent=latent, **options)


def same(one, other, batch):
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    one.eval()
    codes, again = one.encode(batch), other.encode(batch)
    assert all(torch.equal(codes[name].z, again[name].z) for name in codes)
    if one.decoder is not None:
        assert torch.equal(one.decode(codes).x, other.decode(again).x)
