"""The outputs of an encoder's layers over a data set, one vector an example and layer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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
    rows: dict[str, list[np.ndarray]] = {}
    with eval_mode(model):
        for batch in batches(data, "reading activations"):
            seen: dict[str, Any] = {}
            with ExitStack() as hooks:
                for layer, module in {**path.encoder.named_layers(), "features": path.encoder}.items():
                    hooks.callback(module.register_forward_hook(_recorder(layer, seen)).remove)
                code = model.encode(batch, factors=[name])[name]
            features = seen.pop("features")
            for layer in path.encoder.named_layers():
                if layer not in seen:
                    raise BuildError(
                        f"{path.encoder.qualified or type(path.encoder).__name__} did not call its layer {layer!r}: named_layers() "
                        "must name modules that its forward calls"
                    )
                rows.setdefault(layer, []).append(pool_tokens(seen[layer], features.mask))
            rows.setdefault("features", []).append(pool_tokens(features.x, features.mask))
            rows.setdefault("code", []).append(pool_tokens(code.point, code.mask))
    return {layer: np.concatenate(parts) for layer, parts in rows.items()}


def _recorder(layer: str, seen: dict[str, Any]) -> Any:
    def record(module: Any, inputs: Any, output: Any) -> None:
        seen[layer] = output[0] if isinstance(output, tuple) else output

    return record


def pool_tokens(x: Tensor, mask: Tensor | None) -> Float[np.ndarray, "b d"]:
    """Average a layer's output over tokens: (b d), (b n d), or of a convolution over images (b d h w)."""
    if x.ndim == 4:
        x = x.flatten(2).mT
    if x.ndim == 3:
        x = masked_mean(x, mask if mask is not None and mask.shape == x.shape[:2] else None)
    return x.float().cpu().numpy()
