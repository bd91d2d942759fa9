"""Several rates of one model: a setting of its latents that changes rate and distortion after training.

A latent that has one is ``rate``, a number that may be set; ``rates`` are the values that it was trained for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from reprkit import Model
from reprkit.errors import BuildError


def rates_of(model: Model) -> tuple[float, ...]:
    """Return the rates at which the model was made to work: ``rates`` of its latents; () where they have none."""
    for factor in model.factors.values():
        rates = getattr(factor.latent, "rates", ())
        if rates:
            return tuple(rates)
    return ()


@contextmanager
def at_rate(model: Model, rate: Any) -> Iterator[None]:
    """Set ``rate`` of every latent that has one, and put the former value back; None leaves the model as it is.

    Raises:
        BuildError: a rate for a model whose latents have none.
    """
    if rate is None:
        yield
        return
    latents: list[Any] = [
        factor.latent for factor in model.factors.values() if hasattr(factor.latent, "rate")
    ]
    if not latents:
        raise BuildError("rates= is for latents whose rate can be set, such as jpeg, and this model has none")
    former = [latent.rate for latent in latents]
    for latent in latents:
        latent.rate = rate
    try:
        yield
    finally:
        for latent, value in zip(latents, former, strict=True):
            latent.rate = value


@torch.no_grad()
def with_step(model: Model, factor: float) -> Model:
    """Return a copy of a model whose quantization steps are ``factor`` times as large: several rates from one training.

    The linear maps before each latent are divided by ``factor``, and those after it multiplied by it.  So it is for latents that
    round numbers, such as ``rounded``; symbols are counted anew (``model.fit_frequencies``), and the copy's strings are of
    another model.

    Raises:
        BuildError: a decoder without a linear map before it.
    """
    changed = copy.deepcopy(model)
    for name, path in changed.factors.items():
        before = path.adapter
        after = [output.adapters[name] for output in changed.outputs.values() if name in output.reads]
        linear = [each for each in after if isinstance(each, nn.Linear)]
        if not isinstance(before, nn.Linear) or not linear or len(linear) < len(after):
            raise BuildError(
                f"with_step scales the linear maps around latents, and factor {name} has none before a decoder"
            )
        before.weight.div_(factor)
        if before.bias is not None:
            before.bias.div_(factor)
        for each in linear:
            each.weight.mul_(factor)
    return changed
