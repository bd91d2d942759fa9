"""A step: its calls to the engine, and its state after the loop."""

import gc
import sys
import weakref
from pathlib import Path

import pytest
import torch
from loop_helpers import make

import reprkit as rk
from reprkit.errors import TrainingError

PACKAGE = Path(rk.__file__).parent
OPTIONS = {"steps": 2, "batch": 32, "device": "cpu", "progress": False}


def files_between(call):
    """The files of reprkit whose functions are on the stack when ``call`` runs its argument."""
    seen = []

    def here(*_):
        frame = sys._getframe()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if PACKAGE in path.parents:
                seen.append((path.name, frame.f_code.co_name))
            frame = frame.f_back

    call(here)
    return seen[::-1]


def test_backward_and_update_call_train_state_and_engine_only(digits):
    model = make(digits)
    for step in rk.loop(model, digits, **OPTIONS):
        total = step.model(step.batch).total

        def backward(here, step=step, total=total):
            total.register_hook(here)
            step.backward(total)

        def update(here, step=step):
            held = model.update
            model.update = here
            step.update()
            model.update = held

        assert files_between(backward) == [
            ("step.py", "backward"),
            ("train_state.py", "backward"),
            ("engine.py", "backward"),
        ]
        assert files_between(update) == [("step.py", "update"), ("train_state.py", "update")]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_step_is_refused_after_its_loop_and_holds_no_optimizer_state(digits, ema):
    model = make(digits)
    for step in rk.loop(model, digits, ema=ema, optimizer="adam", **OPTIONS):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        held = weakref.ref(step._train_state.optimizers["main"])
    gc.collect()
    assert held() is None
    for late in (
        lambda: step.model(step.batch),
        lambda: step.backward(torch.ones(1, requires_grad=True).sum()),
        lambda: step.update(),
        lambda: step.lr,
        lambda: step.averaged(),
        lambda: step.log(),
    ):
        with pytest.raises(TrainingError, match="the loop is not running"):
            late()
