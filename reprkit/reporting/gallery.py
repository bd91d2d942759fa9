"""Example outputs of a model, as plain arrays for the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.models.grid import from_tokens
from reprkit.models.isolation import isolate, unwrap
from reprkit.reporting.describe_model import describe_model
from reprkit.runs.results import Gallery, Results
from reprkit.types import Code, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.models.output import Output

DEVIATION_EXAMPLES = 256  # examples for the standard deviations of a traversal
DIMENSIONS = 8  # maximum number of traversed dimensions, those that vary most
_STILL = 1e-6  # standard deviation up to which a dimension counts as constant
STEPS = 9  # of a traversal, from -2 to 2 standard deviations
LARGEST = 160  # pixels of an image's longer side
LONGEST = 128  # maximum number of tokens generated one by one for a sample


@torch.no_grad()
def galleries(model: Model, data: Dataset, examples: int = 16, *, seed: int = 0) -> dict[str, Gallery]:
    """Create a gallery of each output on the first ``examples`` of the data, by name; that of a single output is called "".

    {} if the model has no decoder or signature.  The model must be in evaluation mode.
    """
    names = list(model.outputs)
    found = {
        name if len(names) > 1 else "": gallery(model, data, examples, seed=seed, output=name)
        for name in names
    }
    return {name: each for name, each in found.items() if each is not None}


@torch.no_grad()
def gallery(
    model: Model, data: Dataset, examples: int = 16, *, seed: int = 0, output: str | None = None
) -> Gallery | None:
    """Create the gallery of one output on the first ``examples`` of the data; None without a decoder, signature or point estimate.

    The model must be in evaluation mode.

    Raises:
        BuildError: the model has several outputs, and none was named.
    """
    if model.signature is None or examples < 1 or not model.outputs or model.objective.decodes != "the data":
        return None
    to = model.get_output(output)
    count = min(examples, len(data))
    batch = model.to_device(data.batch(range(count)))
    mask = batch.get(f"{to.field_name}_mask")
    decoded = model.score(batch, output=output).decoded
    if not decoded.has_point:
        return None
    result = Gallery(
        field=to.field,
        inputs=fit_for_page(batch[to.field_name], to.field),
        outputs=_output_array(to, decoded),
        lengths=None if mask is None or to.field.kind == "vector" else mask.sum(-1).cpu().numpy(),
    )
    _sample(result, model, to, count, seed)
    _traverse(result, model, to, data)
    return result


def _output_array(output: Output, decoded: Decoded) -> np.ndarray:
    return fit_for_page(from_tokens(decoded.x, decoded.grid or (1,), output.field), output.field)


def fit_for_page(x: Tensor, field: Field) -> np.ndarray:
    """Convert to an array; large images are downsampled by an integer factor, to save memory and page size."""
    x = x.float() if x.is_floating_point() else x
    if field.kind == "image" and max(x.shape[1:3]) > LARGEST:
        factor = -(-max(x.shape[1:3]) // LARGEST)
        x = torch.nn.functional.avg_pool2d(x.movedim(-1, 1), factor, ceil_mode=True).movedim(1, -1)
    return x.cpu().numpy()


def _sample(result: Gallery, model: Model, output: Output, count: int, seed: int) -> None:
    if any(member.generates for member in model.objective.members):
        result.notes.append(
            "No samples: the objective has a sampler of its own; use model.sample(size, like=batch)."
        )
        return
    lacking = [name for name in output.reads if not model.latent(name).has_prior]
    if lacking:
        names = "the latent" if len(model.factors) == 1 else f"the latent of {', '.join(lacking)}"
        result.notes.append(f"No samples: {names} has no prior; a second model can learn one over its codes.")
        return
    steps = result.field.steps
    if steps is None:
        result.notes.append("No samples: the data's lengths vary; use model.generate(length=...).")
        return
    if "causal" in output.decoder.provides and steps > LONGEST:
        result.notes.append(
            f"No samples: generating {steps:,} tokens one by one takes long; use model.generate()."
        )
        return
    generator = torch.Generator(model.device).manual_seed(seed)
    result.samples = _output_array(output, model.sample(count, generator, output=output.name))


def _traverse(result: Gallery, model: Model, output: Output, data: Dataset) -> None:
    """Move the first example's code along the dimensions that vary most, all tokens alike."""
    continuous = [name for name in output.reads if model.latent(name).vocab is None]
    if not continuous or "causal" in output.decoder.provides:
        return
    codes = model.encode(data.batch(range(min(DEVIATION_EXAMPLES, len(data)))), factors=output.reads)
    scale = torch.linspace(-2, 2, STEPS, device=model.device)
    first = Codes({name: _first(code) for name, code in codes.items()})
    for name in continuous:
        z = codes[name].point
        valid = z.flatten(0, 1) if codes[name].mask is None else z[codes[name].mask]
        deviation = valid.std(0, correction=0)
        width, alive = len(deviation), int((deviation > _STILL).sum())
        if alive > DIMENSIONS:
            of = f" of {name}" if len(model.factors) > 1 else ""
            result.notes.append(f"Traversals: the {DIMENSIONS} of {width} dimensions{of} that vary most.")
        for dimension in deviation.argsort(descending=True)[:DIMENSIONS].sort().values.tolist():
            if deviation[dimension] <= _STILL:
                continue
            move = torch.zeros(STEPS, 1, z.shape[-1], device=z.device, dtype=z.dtype)
            move[:, 0, dimension] = scale * deviation[dimension]
            moved = {other: _repeat(code, STEPS) for other, code in first.items()}
            moved[name] = Code.of(moved[name], z=moved[name].point + move)
            label = f"{name} {dimension}" if len(model.factors) > 1 else f"dimension {dimension}"
            decoded = model.decode(moved, output=output.name)
            result.traversals[label] = _output_array(output, decoded)


def _first(code: Code) -> Code:
    return _map_tensors(code, lambda value: value[:1])


def _repeat(code: Code, times: int) -> Code:
    return _map_tensors(code, lambda value: value.expand(times, *value.shape[1:]))


def _map_tensors(code: Code, change: Any) -> Code:
    """Apply a function to every tensor over examples of a code; drop losses and metrics."""
    names = ("z", "mean", "deviation", "indices", "log_prob", "bits", "mask", "positions", "parents")
    changed = {name: change(getattr(code, name)) for name in names if getattr(code, name) is not None}
    return replace(code, losses={}, metrics={}, **changed)


def add_gallery(results: Results, model: Model, data: Dataset, examples: int = 16, seed: int = 0) -> Results:
    """Add the gallery and the model's description to results that lack them, such as results read from a file."""
    model = unwrap(model)
    with torch.no_grad(), isolate(model, seed):
        results.galleries = results.galleries or galleries(model, data, examples, seed=seed)
        results.about = {**describe_model(model, data), **results.about}
    return results
