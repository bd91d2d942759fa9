"""Use a model without side effects: the model inside of wrappers, in evaluation mode, with generators of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from reprkit.errors import BuildError
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.models.model import Model


def unwrap(model: Any) -> Model:
    """Return the model inside of DistributedDataParallel or torch.compile."""
    while not hasattr(model, "represent"):
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if inner is None:
            raise BuildError(f"this takes a model from rk.build or rk.load, not {type(model).__name__}")
        model = inner
    return model


@contextmanager
def isolate(model: nn.Module, seed: int) -> Iterator[Any]:
    """Context with evaluation mode and seeded generators; restores modes and generators afterwards."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()

    def reseed() -> None:
        torch.default_generator.manual_seed(seed)
        for cuda in devices:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)

    with torch.random.fork_rng(devices=devices), eval_mode(model):
        try:
            yield reseed
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
