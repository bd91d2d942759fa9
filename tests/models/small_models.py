"""Small parts whose outputs are easy to compute by hand, and a model of them."""

import torch
from torch import nn

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.interfaces import Decoder, Encoder, Latent, Objective
from reprkit.types import Code, Decoded, Features

PAIRS = Signature({"x": Field(kind="vector", shape=(6,)), "y": Field(kind="vector", shape=(6,))})


class Cut(Encoder):
    """A vector of 6 values as ``n`` tokens of 6 / n values, unchanged; supports keep."""

    provides = frozenset({"keep"})

    def __init__(self, n=3, *, mask=False):
        super().__init__()
        self.n, self.masked, self.out_dim, self.calls = n, mask, 6 // n, 0

    def forward(self, batch, *, keep=None):
        self.calls += 1
        x = batch["x"].unflatten(1, (self.n, -1))
        mask = batch.get("x_mask") if self.masked else None
        if keep is None:
            return Features(x=x, mask=mask, grid=(self.n,))
        return Features(x=torch.take_along_dim(x, keep.unsqueeze(-1), 1), positions=keep, length=self.n)

    def count(self, batch):
        return self.n

    def grid(self, batch):
        return (self.n,)


class Taxed(Latent):
    """The features themselves, with two losses, a metric and a cost in bits."""

    def __init__(self, dim=2, *, weights=None):
        super().__init__(in_dim=dim, out_dim=dim, weights=weights or {"tax": 0.5})

    def forward(self, features):
        size = features.x.square().sum((1, 2)).mean()
        return Code.of(
            features,
            z=features.x,
            losses={"tax": size, "toll": features.x.abs().sum((1, 2)).mean()},
            metrics={"size": size.detach()},
            bits=torch.full((len(features.x),), 7.0),
        )


class Row(Decoder):
    """The repeated sum of the tokens: (b 1 6), a Gaussian of scale 1."""

    def __init__(self, in_dim=2):
        super().__init__()
        self.in_dim = in_dim
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, features, *, teacher=None, length=None):
        mean = (self.gain * features.x.sum(1, keepdim=True)).repeat(1, 1, 6 // self.in_dim)
        return Decoded(
            x=mean,
            likelihood="gaussian",
            params={"mean": mean, "log_scale": torch.zeros(1, 1, 1)},
            grid=(1,),
        )


class Views(Objective):
    """Encode the named views and return one loss of 1."""

    needs = frozenset({"encoder"})

    def __init__(self, views):
        super().__init__()
        self.views = views

    def forward(self, model, batch, turn="main"):
        other, keep = dict(batch), torch.zeros(len(batch["x"]), 1, dtype=torch.int64)
        named = {"same": (batch, None), "other": (other, None), "keep": (batch, keep)}
        self.seen = [model.encode(named[name][0], keep=named[name][1]) for name in self.views]
        return {"one": torch.ones((), requires_grad=True)}


def make_batch(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, 6, generator=generator) for name in ("x", "y")}


def make_model(**options):
    arguments = {"data": PAIRS, "encoder": Cut(3), "latent": Taxed(2), "decoder": Row(2), **options}
    return rk.build(**arguments)
