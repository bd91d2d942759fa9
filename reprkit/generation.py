"""Making new data: codes from the latents' priors, and token after token from a causal decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.likelihoods import draw, tempered
from reprkit.types import Code, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.model import Model


def prior_codes(model: Model, size: int, generator: torch.Generator | None = None, length: int = 4) -> Codes:
    """Codes for ``size`` examples drawn from each factor's own prior; ``length`` where the data's lengths vary.

    Raises:
        PartArgumentError: a latent has no prior.
        BuildError: the model was built without data, so it does not know how many tokens an example has.
    """
    if model.signature is None:
        raise BuildError("sampling needs the data's signature: build the model with data=")
    example = model.to_device(model.signature.example(1, length))
    codes = {}
    for name, path in model.paths.items():
        view = path.view(example)
        count = 1 if path.pool else path.encoder.count(view)
        z = path.latent.prior((size, count), generator)
        codes[name] = Code(z=z, grid=(1,) if path.pool else path.encoder.grid(view), length=count)
    return Codes(codes)


@torch.no_grad()
def generate(
    model: Model,
    codes: Codes | None = None,
    *,
    size: int = 1,
    length: int | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Sequences drawn token after token from a causal decoder, given codes (then as many as these) or none.

    Args:
        model: a model whose decoder provides "causal".
        codes: what to decode; without them ``size`` unconditional sequences.
        size: how many sequences, without codes.
        length: tokens to draw; the data's own length when it has one.
        temperature: of the draw; 0 takes the most likely value.
        generator: of the randomness, on the model's device.

    Raises:
        BuildError: the decoder is not causal, or no length is known.
    """
    decoder = model.decoder
    if decoder is None or "causal" not in decoder.provides:
        raise BuildError(
            "generate needs a causal decoder, such as gru(causal=True) or transformer(causal=True)"
        )
    if length is None:
        known = model.signature[model.output].space[0] if model.signature else None
        if known is None:
            raise BuildError("the data's lengths vary: say how many tokens to generate, length=")
        length = known
    features = model.merge(codes) if codes else None
    count = size if features is None else features.x.shape[0]
    state = decoder.start(features, size=count, length=length)
    previous: Tensor | None = None
    values, steps = [], []
    for _ in range(length):
        step, state = decoder.step(previous, state)
        previous = draw(step.likelihood, tempered(step.likelihood, step.params, temperature), generator)
        values.append(previous)
        steps.append(step)
    params = {
        name: torch.cat(
            [each.params[name].expand(count, 1, *each.params[name].shape[2:]) for each in steps], 1
        )
        for name in steps[0].params
    }
    return Decoded(
        x=torch.cat(values, 1), likelihood=steps[0].likelihood, params=params, grid=_grid(model, length)
    )


def _grid(model: Model, length: int) -> tuple[int, ...]:
    field = model.signature[model.output] if model.signature else None
    return (length, 1) if field is not None and field.kind == "image" else (length,)
