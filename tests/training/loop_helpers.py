"""Helpers of the loop's tests: a small model of the digits and a training loop."""

import json

import torch

import reprkit as rk

OPTIONS = {"steps": 12, "batch": 32, "lr": 1e-2}


def make(digits, latent="gaussian(dim=3)", **more):
    parts = {"encoder": "mlp(widths=(16,))", "decoder": "mlp(widths=(16,))", "objective": "reconstruction"}
    return rk.build(data=digits, latent=latent, **{**parts, **more})


def run(model, data, **options):
    """Train; return the losses."""
    found = []
    for step in rk.loop(model, data, **{**OPTIONS, **options}):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        found.append(float(losses.total.detach()))
    return found


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_states_close(one, other, tolerance=1e-6):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


def leaves(tree, name=""):
    """Yield every leaf of nested dicts and lists, with its path."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{name}/{key}")
    else:
        yield name, tree


def assert_same(one, other):
    """Check that two trees have equal leaves in the same places, tensors bit by bit."""
    one, other = dict(leaves(one)), dict(leaves(other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert same, name


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
