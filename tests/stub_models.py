"""Stub encoders and latents whose codes equal their input, as fixtures for several folders of tests."""

import pytest
import torch

import reprkit as rk
from reprkit.data import Tensors


class Reads(rk.Encoder):
    """Field x as features: a vector (b d) is one token, a sequence (b t c) is t tokens."""

    def __init__(self, width):
        super().__init__()
        self.out_dim = width

    def forward(self, batch, *, keep=None):
        x = batch["x"]
        x = x.unsqueeze(1) if x.ndim == 2 else x
        return rk.Features(x=x, mask=batch.get("x_mask"), grid=(x.shape[1],), length=x.shape[1])

    def count(self, batch):
        return 1 if batch["x"].ndim == 2 else batch["x"].shape[1]

    def grid(self, batch):
        return (self.count(batch),)


class Plain(rk.Latent):
    """The features themselves."""

    def __init__(self, width):
        super().__init__(in_dim=width, out_dim=width)

    def forward(self, features):
        return rk.Code.of(features, z=features.x)


class Given(rk.Latent):
    """The features, rounded, as indices: one slot a dimension."""

    def __init__(self, vocab, priced=True):
        super().__init__(in_dim=len(vocab), out_dim=len(vocab), vocab=vocab)
        self.priced = priced

    def forward(self, features):
        indices = features.x.round().long()
        bits = torch.full((len(indices),), 3.0) if self.priced else None
        return rk.Code.of(features, z=indices.float(), indices=indices, bits=bits)


class Nothing(rk.Objective):
    """Asks for nothing and loses nothing."""

    needs = frozenset({"encoder"})

    def forward(self, model, batch, turn="main"):
        return {"nothing": model.encode(batch).z.sum() * 0}


@pytest.fixture(scope="session")
def reader():
    """reader(data, latent=None) -> a model whose code is field x."""

    def make(data, latent=None):
        width = data.signature["x"].shape[-1]
        return rk.build(data=data, encoder=Reads(width), latent=latent or Plain(width), objective=Nothing())

    make.Given, make.Plain, make.Reads, make.Nothing = Given, Plain, Reads, Nothing
    return make


@pytest.fixture(scope="session")
def table():
    """table(x, label=None, mask=None) -> a data set of vectors, or of sequences with a mask."""

    def make(x, label=None, mask=None):
        x = torch.as_tensor(x, dtype=torch.float32)
        length = None if mask is not None else x.shape[1]
        kind, shape = ("vector", (x.shape[1],)) if x.ndim == 2 else ("sequence", (length, x.shape[2]))
        fields = {"x": rk.Field(kind=kind, shape=shape)}
        values = {"x": x}
        if mask is not None:
            values["x_mask"] = torch.as_tensor(mask)
        if label is not None:
            values["label"] = torch.as_tensor(label)
            fields["label"] = rk.Field(kind="label", shape=(), vocab=int(values["label"].max()) + 1)
        return Tensors(values, rk.Signature(fields))

    return make


@pytest.fixture(scope="session")
def digits():
    """Train and test parts of 500 real digits."""
    whole = rk.dataset("digits").subset(range(500))
    return whole.split(seed=0)
