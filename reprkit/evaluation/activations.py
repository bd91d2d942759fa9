"""The outputs of an encoder's layers over a data set, one vector an example and layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches
from reprkit.models.factor import masked_mean, resolve_factor
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


@torch.no_grad()
def activations(
    model: Model, data: Dataset, factor: str | None = None
) -> dict[str, Float[np.ndarray, "n d"]]:
    """Return what each layer of an encoder computes for every example, averaged over its tokens: layer -> (n d), float32.

    The layers are those of ``Encoder.named_layers``, in the order of its dict, then "features", the encoder's output, and "code",
    ``Code.point``.  Padded tokens do not count where a layer has the encoder's tokens.

    Args:
        model: the model; used in evaluation mode.
        data: the data set.
        factor: the factor whose encoder is meant; the only one by default.

    Raises:
        BuildError: no such factor, or a layer that the encoder does not call.
        DataError: the data set is empty.
    """
    name = resolve_factor(model.factors, factor, "activations")
    path = model.factors[name]
    layers = path.encoder.named_layers()
    rows: dict[str, list[np.ndarray]] = {}
    with eval_mode(model), recorded_outputs({**layers, "features": path.encoder}) as seen:
        for batch in batches(data, "reading activations"):
            seen.clear()
            code = model.encode(batch, factors=[name])[name]
            features = seen["features"]
            for layer in layers:
                if layer not in seen:
                    raise BuildError(
                        f"{path.encoder.qualified or type(path.encoder).__name__} did not call its layer {layer!r}: named_layers() "
                        "must name modules that its forward calls"
                    )
                rows.setdefault(layer, []).append(pool_tokens(seen[layer], features.mask))
            rows.setdefault("features", []).append(pool_tokens(features.x, features.mask))
            rows.setdefault("code", []).append(pool_tokens(code.point, code.mask))
    return {layer: np.concatenate(parts) for layer, parts in rows.items()}


@contextmanager
def recorded_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Context whose value holds the latest output of each layer that was called, of several the first, by the layer's name."""
    outputs: dict[str, Any] = {}

    def recorder(layer: str) -> Any:
        def record(module: Any, inputs: Any, output: Any) -> None:
            outputs[layer] = output[0] if isinstance(output, tuple) else output

        return record

    with ExitStack() as hooks:
        for layer, module in layers.items():
            hooks.callback(module.register_forward_hook(recorder(layer)).remove)
        yield outputs


def pool_tokens(x: Tensor, mask: Tensor | None) -> Float[np.ndarray, "b d"]:
    """Average a layer's output over tokens: (b d), (b n d), or of a convolution over images (b d h w)."""
    if x.ndim == 4:
        x = x.flatten(2).mT
    if x.ndim == 3:
        x = masked_mean(x, mask if mask is not None and mask.shape == x.shape[:2] else None)
    return x.float().cpu().numpy()
