"""Helpers for the tests of objectives: a plain training loop on the digits, and small random batches."""

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
def full_batch(part):
    return digits()[part].batch(torch.arange(len(digits()[part])))


def fit(model, steps, lr=2e-3, size=128):
    """Train with a plain loop and a one-cycle learning rate; return the model in evaluation mode."""
    train = digits()[0]
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=lr)
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


def freeze_encoder(model):
    """Freeze the encoders at their initial weights, as a baseline without gradients to the encoder."""
    model.factors.requires_grad_(False)
    return model


@torch.no_grad()
def evaluate_on_test(model):
    """Return loss terms and metrics on the test set, as floats."""
    losses = model(full_batch(1))
    return {name: float(value) for name, value in {**losses.terms, **losses.metrics}.items()}


def padded_batch(signature, lengths, seed=0):
    """Generate random sequences of these lengths, padded to the longest with random values."""
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
