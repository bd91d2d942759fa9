"""Baselines that every learned code should beat, as models: every evaluator can measure them.

::

    rk.evaluate("pca(dim=16)", test, "reconstruction", "linear-probe", fit_on=train)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.errors import BuildError, DataError, UnknownPartError, nearest
from reprkit.evaluation.encoding import batches
from reprkit.interfaces import Decoder, Encoder, require
from reprkit.likelihoods.gaussian import Gaussian
from reprkit.models.grid import to_tokens
from reprkit.registry.references import parse
from reprkit.types import Batch, Decoded, Features

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

BASELINES = ("pca", "raw")


class CenteredEncoder(Encoder):
    """The values less their mean: one token per example.  The core's adapter after it projects them."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.arguments = {}  # tensors are not literals; the baseline's own reference is used instead
        self.out_dim = len(mean)
        self.mean = nn.Parameter(mean)

    def forward(self, batch: Batch, *, keep: Tensor | None = None) -> Features:
        """Return features (b 1 p)."""
        x = batch["x"].flatten(1).to(self.mean.dtype) - self.mean
        return Features(x=x.unsqueeze(1), grid=(1,), length=1)

    def count(self, batch: Batch) -> int:
        """One token."""
        return 1

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """One token."""
        return (1,)


class LinearDecoder(Decoder):
    """Linear decoder, mean + z @ components, with a Gaussian likelihood of one scale, as in probabilistic PCA.

    Mean and components are those of the encoder and of the adapter after it, so they count once among the model's parameters.
    """

    needs_adapter = False

    def __init__(self, mean: nn.Parameter, dim: int, scale: float, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.arguments = {}
        self.in_dim = dim
        self.out_grid = grid
        self.likelihood = Gaussian()
        self.mean, self.components = mean, nn.Parameter(torch.zeros(dim, len(mean)))
        self.log_scale = nn.Parameter(torch.full((1, 1, 1), math.log(scale)))

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the data given the code (b 1 d)."""
        if features is None:
            raise BuildError("a linear baseline decodes codes, but got none")
        x = features.x @ self.components + self.mean
        return Decoded(
            x=x,
            likelihood=self.likelihood,
            params={"mean": x, "log_scale": self.log_scale},
            grid=self.out_grid,
        )


def baseline(reference: str, fit_on: Dataset | None) -> Model:
    """Create a baseline as a model of one factor, fitted on field ``x`` of ``fit_on``.

    ``pca(dim=16)``: principal components (scikit-learn).  ``raw``: the values themselves, for probes.

    Raises:
        UnknownPartError: the baseline is unknown.
        DataError: no ``fit_on``, or its values are not real numbers of one shape.
        PartArgumentError: an unknown argument, or ``dim`` is larger than the data allows.
    """
    parsed = parse(reference)
    if parsed.qualified not in BASELINES:
        raise UnknownPartError(
            f"no baseline named {parsed.qualified!r}.{nearest(parsed.qualified, BASELINES)}\n"
            f"  known: {', '.join(BASELINES)}\n"
            "  for a saved model, pass rk.load(folder)"
        )
    known = {"dim"} if parsed.name == "pca" else set()
    for name in parsed.arguments:
        require(
            name in known,
            f"baseline {parsed.name} has no argument {name!r}; its arguments: {', '.join(known) or 'none'}",
        )
    if fit_on is None:
        raise DataError(f"baseline {reference} is fitted on examples: pass evaluate(..., fit_on=train)")
    field = fit_on.signature["x"]
    if field.kind not in ("image", "vector", "sequence") or None in field.shape:
        raise DataError(
            f"baseline {reference} needs real values of one shape; field x is {field.kind} {field.shape}"
        )
    rows = np.concatenate(
        [batch["x"].flatten(1).numpy() for batch in batches(fit_on, f"fitting {parsed.name}")]
    )
    mean, components, scale = _fit(
        rows.astype(np.float64), parsed.arguments.get("dim", 16) if known else None
    )
    return _build_model(mean, components, scale, fit_on.signature, str(parsed))


def _fit(rows: np.ndarray, dim: Any) -> tuple[Tensor, Tensor, float]:
    """Return mean (p,), components (p d) and the likelihood's scale, the RMS residual per element."""
    if dim is None:
        return torch.zeros(rows.shape[1]), torch.eye(rows.shape[1]), 1.0
    from sklearn.decomposition import PCA

    limit = min(rows.shape)
    require(
        isinstance(dim, int) and 1 <= dim <= limit,
        f"pca takes dim from 1 to {limit} on this data, not {dim!r}",
    )
    pca = PCA(dim, random_state=0).fit(rows)
    residual = rows - pca.inverse_transform(pca.transform(rows))
    scale = max(float(np.sqrt(np.square(residual).mean())), 1e-6)
    return torch.from_numpy(pca.mean_).float(), torch.from_numpy(pca.components_.T).float(), scale


def _build_model(mean: Tensor, components: Tensor, scale: float, signature: Signature, name: str) -> Model:
    from reprkit.models.build import build

    field = signature["x"]
    grid = tuple(1 for _ in field.space)
    assert to_tokens(signature.example(1)["x"], grid, field.kind).shape[-1] == len(mean)
    width = components.shape[1]
    encoder = CenteredEncoder(mean)
    decoder = LinearDecoder(encoder.mean, width, scale, grid)
    encoder.qualified = decoder.qualified = name
    model = build(data=signature, encoder=encoder, latent=f"continuous(dim={width})", decoder=decoder)
    adapter = cast("nn.Linear", next(iter(model.factors.values())).adapter)
    with torch.no_grad():
        adapter.weight.copy_(components.T)
        adapter.register_parameter("bias", None)  # the mean is subtracted before
    decoder.components = cast("nn.Parameter", adapter.weight)
    return model.eval().requires_grad_(False)
