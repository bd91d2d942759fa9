"""On a CUDA device: the same training, no step that waits for the device, bf16, resume."""

import os
import signal

import pytest
import torch

import reprkit as rk
from reprkit.errors import TrainingError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def make(digits, latent="continuous(dim=3)"):
    return rk.build(data=digits, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))")


def train(model, digits, *, spoil=None, until=None, **options):
    losses = []
    for step in rk.loop(model, digits, **{"steps": 60, "batch": 32, "lr": 1e-3, **options}):
        total = step.model(step.batch).total
        step.backward(total * float("nan") if step.index == spoil else total)
        step.update()
        losses.append(total.detach())
        if step.index + 1 == until:
            os.kill(os.getpid(), signal.SIGTERM)
    return torch.stack(losses).cpu()


def test_training_matches_the_cpu(digits):
    torch.testing.assert_close(
        train(make(digits), digits), train(make(digits), digits, device="cpu"), rtol=1e-3, atol=1e-3
    )


def test_no_step_waits_for_the_device(digits):
    """Between two looks at the losses; torch raises where anything would."""
    model = make(digits, "gaussian(dim=3)")
    try:
        for step in rk.loop(model, digits, steps=40, batch=32, log_every=0, clip=1.0, ema=0.9):
            assert step.batch["x"].is_cuda
            torch.cuda.set_sync_debug_mode("error" if 5 <= step.index < 39 else "default")
            step.backward(step.model(step.batch).total)
            step.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_non_finite_loss_is_reported_with_its_step(digits):
    with pytest.raises(TrainingError, match="the loss is nan at step 7"):
        train(make(digits), digits, spoil=7, steps=200)


def test_bf16_is_near_float32(digits):
    half = train(make(digits), digits, precision="bf16")
    torch.testing.assert_close(half, train(make(digits), digits), rtol=0.1, atol=1.0)


def test_a_resumed_run_has_the_same_random_draws(digits, tmp_path):
    whole = train(make(digits, "gaussian(dim=3)"), digits, steps=20)
    with pytest.raises(SystemExit):
        train(make(digits, "gaussian(dim=3)"), digits, steps=20, out=tmp_path, until=10)
    rest = train(make(digits, "gaussian(dim=3)"), digits, steps=20, out=tmp_path, resume=True)
    torch.testing.assert_close(rest, whole[10:], rtol=1e-3, atol=1e-3)
