"""Helpers for tests of old folders: build, train and use a model through the public interface only.

``tests/checkpoints/fixtures/make_old_folders.py`` recorded the expected values with these functions, so their results must not
change.
"""

import os
import random
import signal

import numpy as np
import torch

import reprkit as rk


def built(build, data, start=None):
    """Build a model from the references that a fixture stores as JSON."""
    given = dict(build)
    if "factors" in given:
        given["factors"] = {name: rk.factor(**each) for name, each in given["factors"].items()}
    return rk.build(data=data, start=start, **given)


def used(model, batch, teacher=None):
    """Return what a model in evaluation mode computes for a batch: codes, representation, output and losses by name.

    Values named ``seeded...`` depend on random draws: two seeds gave different values.
    """
    model.eval()
    found = {}
    with torch.no_grad():
        codes = model.encode(batch)
        for name, code in codes.items():
            found[f"codes.{name}.z"] = code.z
            if code.indices is not None:
                found[f"codes.{name}.indices"] = code.indices
        found["represent"] = model.represent(batch)
        if model.decoder is not None:
            given = {} if teacher is None else {"teacher": batch[teacher].unsqueeze(-1)}
            found["decoded"] = model.decode(codes, length=model.output_length(batch), **given).x
    for turn in model.objective.turns:
        one, other = losses(model, batch, turn, 0), losses(model, batch, turn, 1)
        kind = "losses" if all(torch.equal(one[name], other[name]) for name in one) else "seeded"
        found.update({f"{kind}.{turn}.{name}": value for name, value in one.items()})
    return {name: value.detach().contiguous().clone() for name, value in found.items()}


def losses(model, batch, turn, seed):
    torch.manual_seed(seed)
    result = model(batch, turn)
    return {
        "total": result.total.detach(),
        **{f"terms.{name}": value for name, value in result.terms.items()},
    }


def trained(recipe, out, stop=None, resume=False):
    """Run a recipe of several stages; in the last stage it is stopped by SIGTERM after step ``stop``.

    Returns the last model and the teacher that was trained with it.
    """
    torch.set_num_threads(1)
    train, valid, _ = rk.dataset(recipe["data"]).subset(range(recipe["examples"])).split(seed=1, valid=True)
    model = None
    for number, stage in enumerate(recipe["stages"]):
        model = built(stage["build"], train, start=model)
        torch.manual_seed(7)
        teacher = torch.nn.Linear(3, 3)
        for step in rk.loop(
            model, train, out=out, resume=resume, progress=False, device="cpu", extras={"teacher": teacher}, **stage["loop"]
        ):  # fmt: skip
            for turn in model.objective.turns[::-1]:
                output = step.model(step.batch, turn)
                step.backward(output.total)
                step.update(turn)
            with torch.no_grad():
                teacher.weight.add_(torch.rand(3, 3) * random.random() * np.random.rand())
            if step.every(stage["evaluate_every"]):
                with step.averaged():
                    step.log(
                        output, rk.evaluate(model, valid, "reconstruction"), teacher=teacher.weight.sum()
                    )
            if step.index == stop and number == len(recipe["stages"]) - 1:
                os.kill(os.getpid(), signal.SIGTERM)
    return model, teacher


def final(model, teacher):
    """Return the final state that a resumed run must reproduce."""
    more = {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    return {name: value.detach().contiguous().clone() for name, value in (model.state_dict() | more).items()}
