"""A few examples of what a model does, kept as plain arrays for the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.runs.results import Gallery
from reprkit.types import Code, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

SPREAD = 256  # examples over which a dimension's deviation is taken for its traversal
DIMENSIONS = 8  # traversed at most, those that vary most
STEPS = 9  # of a traversal, from -2 to 2 deviations
LARGEST = 160  # pixels of a kept picture's longer side
LONGEST = 128  # tokens that are generated one by one for a sample, at most


@torch.no_grad()
def gallery(model: Model, data: Dataset, examples: int = 16, *, seed: int = 0) -> Gallery | None:
    """The model's gallery on the first ``examples`` of the data; None where it has no decoder or signature.

    The model must be in evaluation mode.
    """
    if model.decoder is None or model.signature is None or examples < 1:
        return None
    field = model.signature[model.output]
    shown = min(examples, len(data))
    batch = model.to_device(data.batch(range(shown)))
    mask = batch.get(f"{model.output}_mask")
    kept = Gallery(
        field=field,
        inputs=fit_for_page(batch[model.output], field),
        outputs=_output_array(model, model.score(batch).decoded),
        lengths=None if mask is None else mask.sum(-1).cpu().numpy(),
    )
    _sample(kept, model, shown, seed)
    _traverse(kept, model, data)
    return kept


def _output_array(model: Model, decoded: Decoded) -> np.ndarray:
    return fit_for_page(model.to_batch(decoded)[model.output], model.output_field)


def fit_for_page(x: Tensor, field: Field) -> np.ndarray:
    """As an array; large pictures shrunk by a whole factor, as neither page nor memory has room for them."""
    x = x.float() if x.is_floating_point() else x
    if field.kind == "image" and max(x.shape[1:3]) > LARGEST:
        factor = -(-max(x.shape[1:3]) // LARGEST)
        x = torch.nn.functional.avg_pool2d(x.movedim(-1, 1), factor, ceil_mode=True).movedim(1, -1)
    return x.cpu().numpy()


def _sample(kept: Gallery, model: Model, count: int, seed: int) -> None:
    assert model.decoder is not None
    without = [name for name in model.factors if not model.latent(name).has_prior]
    if without:
        names = "the latent" if len(model.factors) == 1 else f"the latent of {', '.join(without)}"
        kept.notes.append(
            f"No samples: {names} has no prior of its own; a second model can learn one over its codes."
        )
        return
    steps = kept.field.space[0]
    if steps is None:
        kept.notes.append("No samples: the data's lengths vary; model.generate(length=...) draws some.")
        return
    if "causal" in model.decoder.provides and steps > LONGEST:
        kept.notes.append(
            f"No samples: {steps:,} tokens one after another take long; model.generate() draws some."
        )
        return
    generator = torch.Generator(model.device).manual_seed(seed)
    kept.samples = _output_array(model, model.sample(count, generator))


def _traverse(kept: Gallery, model: Model, data: Dataset) -> None:
    """Move the first example's code along the dimensions that vary most, all its tokens alike."""
    assert model.decoder is not None
    smooth = [name for name in model.factors if model.latent(name).vocab is None]
    if not smooth or "causal" in model.decoder.provides:
        return
    codes = model.encode(data.batch(range(min(SPREAD, len(data)))))
    scale = torch.linspace(-2, 2, STEPS, device=model.device)
    first = Codes({name: _first(code) for name, code in codes.items()})
    for name in smooth:
        z = codes[name].point
        valid = z.flatten(0, 1) if codes[name].mask is None else z[codes[name].mask]
        deviation = valid.std(0, correction=0)
        for dimension in deviation.argsort(descending=True)[:DIMENSIONS].sort().values.tolist():
            if deviation[dimension] <= 1e-6:
                continue
            move = torch.zeros(STEPS, 1, z.shape[-1], device=z.device, dtype=z.dtype)
            move[:, 0, dimension] = scale * deviation[dimension]
            moved = {other: _repeat(code, STEPS) for other, code in first.items()}
            moved[name] = Code.of(moved[name], z=moved[name].point + move)
            label = f"{name} {dimension}" if len(model.factors) > 1 else f"dimension {dimension}"
            kept.traversals[label] = _output_array(model, model.decode(moved))


def _first(code: Code) -> Code:
    return _map_tensors(code, lambda value: value[:1])


def _repeat(code: Code, times: int) -> Code:
    return _map_tensors(code, lambda value: value.expand(times, *value.shape[1:]))


def _map_tensors(code: Code, change: Any) -> Code:
    """The code with every tensor over examples changed, and without losses and metrics."""
    names = ("z", "mean", "indices", "log_prob", "bits", "mask", "positions")
    changed = {name: change(getattr(code, name)) for name in names if getattr(code, name) is not None}
    return replace(code, losses={}, metrics={}, **changed)
