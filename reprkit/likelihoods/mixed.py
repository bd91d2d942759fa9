"""Likelihood of a table's row: a Gaussian for each number, a softmax for each category."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Likelihood, require
from reprkit.layers.value_embedding import column_scales
from reprkit.likelihoods.categorical import draw_symbols, keep_most_likely
from reprkit.likelihoods.location_scale import GAIN, soft_floor
from reprkit.utils.precision import at_least_float32


class Mixed(Likelihood):
    """Numbers by a Gaussian with a learned scale for each column, categories by a categorical distribution.

    The loss of a row is the sum of both: nats of densities of the numbers, in the table's units, and nats of probabilities of the
    categories (cross-entropy, element by element of the one-hot vector).  Parameters: ``mean`` (b n p) and ``log_scale`` (1 1 p)
    of numbers, ``logits`` (b n p) of categories, each 0 at the elements of the other kind.

    Args:
        data: the signature of the data, field ``x``, a vector with columns.

    Raises:
        PartArgumentError: the data has no columns.
    """

    center: Tensor
    scale: Tensor
    numbers: Tensor

    def __init__(self, *, data: Signature) -> None:
        super().__init__()
        field = data["x"]
        require(
            bool(field.columns),
            f"likelihood='mixed' is for the rows of a table, and the signature of x ({field.kind}) has no columns: use "
            f"{field.likelihood}, or set columns= in the signature",
        )
        center, scale = column_scales(field)
        numbers = [column.kind == "number" for column in field.columns for _ in range(column.width)]
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("numbers", torch.tensor(numbers), persistent=False)
        self.categories = [places for column, places in field.column_slices if column.kind == "category"]

    def constants(self, values: int) -> dict[str, Tensor]:
        """The log-scale of each number, divided by GAIN."""
        count = int(self.numbers.sum())
        return {"raw_scale": torch.zeros(count)} if count else {}

    def params(self, outputs: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``mean``, ``log_scale`` and ``logits``; means and scales are in the table's units."""
        out = outputs["linear"].squeeze(-1)
        zero = torch.zeros((), dtype=out.dtype, device=out.device)
        log_scale = out.new_zeros(len(self.numbers))
        if "raw_scale" in constants:
            raw = soft_floor(GAIN * constants["raw_scale"]) + self.scale[self.numbers].log()
            log_scale = log_scale.to(raw.dtype).masked_scatter(self.numbers, raw)
        return {
            "mean": torch.where(self.numbers, self.center + self.scale * out, zero),
            "log_scale": log_scale.view(1, 1, -1),
            "logits": torch.where(self.numbers, zero, out),
        }

    def nll(self, params: Mapping[str, Tensor], target: Tensor) -> Float[Tensor, "b n p"]:
        """Return the nats of each element; a category's are at the element of its class."""
        mean, log_scale, logits = (at_least_float32(params[name]) for name in ("mean", "log_scale", "logits"))
        error = torch.where(self.numbers, target - mean, torch.zeros_like(mean)) * torch.exp(-log_scale)
        nll = 0.5 * error.square() + log_scale + 0.5 * math.log(2 * math.pi)
        crossed = torch.zeros_like(logits)
        for places in self.categories:
            crossed[..., places] = target[..., places] * torch.log_softmax(logits[..., places], -1)
        return torch.where(self.numbers, nll, -crossed)

    def point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the means of the numbers and the probabilities of the classes."""
        return self._with_classes(params, lambda logits: torch.softmax(logits, -1))

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw numbers, and one class of each category as a one-hot vector."""
        mean, log_scale = at_least_float32(params["mean"]), at_least_float32(params["log_scale"])
        noise = torch.empty_like(mean, memory_format=torch.contiguous_format).normal_(generator=generator)

        def draw(logits: Tensor) -> Tensor:
            symbols = draw_symbols(logits, generator)
            return torch.nn.functional.one_hot(symbols, logits.shape[-1]).to(logits.dtype)

        return self._with_classes({**params, "mean": mean + noise * log_scale.exp()}, draw)

    def temper(self, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
        """Multiply the scales by the temperature and divide the logits by it."""
        logits = at_least_float32(params["logits"]).clone()
        for places in self.categories:
            part = logits[..., places]
            logits[..., places] = part / temperature if temperature else keep_most_likely(part)
        shift = math.log(temperature) if temperature else -math.inf
        return {**params, "log_scale": params["log_scale"] + shift, "logits": logits}

    def _with_classes(self, params: Mapping[str, Tensor], of: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the numbers of ``mean``, and for each category a function of its logits."""
        values, logits = at_least_float32(params["mean"]).clone(), at_least_float32(params["logits"])
        for places in self.categories:
            values[..., places] = of(logits[..., places])
        return values
