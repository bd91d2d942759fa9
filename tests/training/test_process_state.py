"""Training leaves the process as it was: generators, default dtype, threads, signal handlers, deterministic algorithms."""

import random
import signal

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.sklearn import Representation


def make(digits):
    return rk.build(
        data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))"
    )


def settings():
    """All settings of the process that training may change, and the next draws of all generators."""
    draws = random.random(), float(np.random.random()), float(torch.rand(()))
    return {
        "draws": draws,
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "handlers": {
            number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        },
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "precision": torch.get_float32_matmul_precision(),
    }


def seed():
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)


def loop(digits, tmp_path):
    for step in rk.loop(make(digits), digits, steps=2, batch=8, out=tmp_path):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        random.random(), np.random.random(), torch.rand(())
        torch.set_default_dtype(torch.float32)
        step.update()


def broken(digits, tmp_path):
    for step in rk.loop(make(digits), digits, steps=5, batch=8, out=tmp_path):
        step.update()
        torch.set_default_dtype(torch.float64)
        break


def failing(digits, tmp_path):
    def train():
        for step in rk.loop(make(digits), digits, steps=5, batch=8, out=tmp_path):
            step.update()
            torch.set_num_threads(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


def refused(digits, tmp_path):
    (tmp_path / "results.json").write_text('{"knn": {"accuracy": 0.5}}')
    with pytest.raises(TrainingError, match="holds a run"):
        rk.fit(make(digits), digits, steps=2, batch=8, out=tmp_path)
    with pytest.raises(rk.ReprkitError, match="no optimizer"):
        rk.fit(make(digits), digits, steps=2, batch=8, optimizer="adamm")


def fit(digits, tmp_path):
    few = digits.subset(range(40))
    rk.fit(
        make(digits), digits, steps=2, batch=8, out=tmp_path, valid=few, evaluators=("reconstruction", "knn")
    )


def representation(digits, tmp_path):
    rows = digits.batch(range(40))["x"].flatten(1).numpy()
    Representation(steps=2, batch=8, random_state=0).fit(rows)


@pytest.mark.parametrize("train", [loop, broken, failing, refused, fit, representation])
def test_the_process_is_left_as_it_was(digits, tmp_path, train):
    seed()
    before = settings()
    seed()
    train(digits, tmp_path)
    assert settings() == before


def test_a_random_search_tries_different_values(digits):
    """The generators used to stand at the same point after each run."""
    tried = set()
    for _ in range(3):
        tried.add((random.random(), float(np.random.random()), float(torch.rand(()))))
        rk.fit(make(digits), digits, steps=1, batch=8)
    assert len({python for python, _, _ in tried}) == 3
    assert len({numpy for _, numpy, _ in tried}) == len({torch for _, _, torch in tried}) == 3
