"""What the tests of the objectives share: a loop by hand on the real digits, and small stand-ins."""

import functools

import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature

FRAMES = Signature(
    {
        "x": Field(kind="sequence", shape=(None, 3)),
        "other": Field(kind="image", shape=(4, 4, 1), range=(0.0, 1.0)),
    }
)
SYMBOLS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=5)})


@functools.cache
def digits():
    return rk.dataset("digits").split(seed=0)


@functools.cache
def whole(part):
    return digits()[part].batch(torch.arange(len(digits()[part])))


def fit(model, steps, lr=2e-3, size=128):
    """A bare loop with a one-cycle rate; gives the model in evaluation mode."""
    train = digits()[0]
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model.train()
    for _ in range(steps):
        batch = train.batch(torch.randint(len(train), (size,), generator=generator))
        optimizer.zero_grad()
        model(batch).total.backward()
        optimizer.step()
        schedule.step()
        model.update()
    return model.eval()


def frozen(model):
    """The model with its encoder as it was drawn: what is reached without a gradient to the encoder."""
    model.factors.requires_grad_(False)
    return model


@torch.no_grad()
def on_test(model):
    """Loss terms and metrics on the test part, as floats."""
    losses = model(whole(1))
    return {name: float(value) for name, value in {**losses.terms, **losses.metrics}.items()}


def padded(signature, lengths, seed=0):
    """Random sequences of these lengths, padded to the longest with garbage."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    field = signature["x"]
    batch = {"x_mask": torch.arange(shape[1]) < torch.tensor(lengths).unsqueeze(1)}
    if field.kind == "tokens":
        batch["x"] = torch.randint(field.vocab, shape, generator=generator)
    else:
        batch["x"] = torch.randn(*shape, field.channels, generator=generator)
    if "other" in signature:
        batch["other"] = torch.rand(len(lengths), 4, 4, 1, generator=generator)
    return batch
