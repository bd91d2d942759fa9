"""Masked: hide most tokens from the encoder, predict them from the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.models.factor import Factor
from reprkit.models.grid import to_tokens, upsample
from reprkit.types import Batch, Codes, Decoded
from reprkit.utils import collectives

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Hidden(NamedTuple):
    """What a group of encoders did not see: which tokens (b n), how these lie, how many of an example without padding."""

    hit: Bool[Tensor, "b n"]
    grid: tuple[int, ...]
    number: int


class Masked(Objective):
    """The masked autoencoder: encoders read few tokens, the decoder predicts all.

    He et al. 2021, arXiv 2111.06377.  Of an example's n tokens max(1, round(n (1 - ratio))) are kept, drawn
    at random for each example (section 3); padding is never among them unless an example is shorter than its
    batch, and then its encoder masks it.  Factors that read one field in one grid see the same tokens.
    Hidden is what no encoder saw of the output field.  In evaluation the draws are those of a fixed seed.

    Loss ``masked``: nats, summed over an example's hidden elements, averaged over examples (the paper
    averages over elements too: the same direction, another scale).  Metric ``error``: squared error of an
    example over the hidden elements; ``perplexity`` for symbols.

    Args:
        ratio: share of the tokens that is hidden, in (0, 1).
        on: the loss is on the "masked" tokens, or on "all".
        normalize: predict each decoder token's values less their mean and over their standard deviation
            (section 4, "reconstruction target"); the output is then in those units, not the data's.

    Raises:
        PartArgumentError: a value out of its range.
        BuildError: an example is a single token, or ``normalize`` without a Gaussian likelihood.
    """

    renamed_arguments = {"normalise": "normalize"}  # noqa: RUF012

    needs = frozenset({"encoder", "decoder", "keep"})

    def __init__(
        self,
        ratio: Annotated[float, Gt(0), Lt(1)] = 0.75,
        *,
        on: Literal["masked", "all"] = "masked",
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.ratio, self.on, self.normalize = float(ratio), on, normalize

    def bind(self, model: Model) -> None:
        """Refuse encoders that read an example as one token: nothing can be hidden from them."""
        if model.signature is None:
            return
        example = model.signature.example(1)
        for path in model.factors.values():
            _several(path.encoder.count(path.view(example)), path)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The loss of one batch."""
        codes, hidden = self.hide(model, batch)
        queries = (
            _queries(model, batch, hidden) if self.on == "masked" else None
        )  # what was shown is not decoded
        scored = model.score(batch, codes, queries=queries, teacher_forcing=False)
        if self.normalize:
            scored = replace(scored, target=normalize_tokens(scored.target, scored.decoded))
        if self.on == "masked" and queries is None:
            scored = scored.counting(hidden_weight(model, batch, scored.decoded, hidden))
        model.record(**scored.metrics)
        return {"masked": scored.loss}

    def hide(self, model: Model, batch: Batch) -> tuple[Codes, list[Hidden]]:
        """Codes of what is shown, and what is hidden of the output field, from each group of encoders."""
        codes, hidden = Codes({}), []
        for names, path in _alike(model, batch):
            view = path.view(batch)
            keep, hit = self.draw(view, path, fixed=not model.training)
            codes = codes | model.encode(batch, keep=keep, factors=names)
            if path.input == model.output:
                hidden.append(Hidden(hit, path.encoder.grid(view), hit.shape[1] - keep.shape[1]))
        return codes, hidden

    def draw(
        self, view: Batch, path: Factor, *, fixed: bool = False
    ) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b n"]]:
        """Which tokens one encoder reads, in their order, and which valid ones are hidden from it."""
        x = view["x"]
        count = _several(path.encoder.count(view), path)
        generator = torch.Generator().manual_seed(0) if fixed else None
        device = torch.device("cpu") if fixed else x.device
        noise = collectives.global_draw(
            lambda shape: torch.rand(shape, generator=generator, device=device), (len(x), count)
        )
        return select_tokens(noise.to(x.device), _valid(view, path.encoder.grid(view)), self.ratio)


def _queries(model: Model, batch: Batch, hidden: list[Hidden]) -> Int[Tensor, "b m"] | None:
    """The hidden tokens, ascending, where the decoder can be asked for them alone: one group, its own grid, no padding."""
    decoder = model.get_decoder()
    if "queries" not in decoder.provides or len(hidden) != 1 or f"{model.output}_mask" in batch:
        return None
    (alone,) = hidden
    if alone.grid != decoder.cells:
        return None
    return alone.hit.int().argsort(dim=1, descending=True, stable=True)[:, : alone.number]


def hidden_weight(
    model: Model, batch: Batch, decoded: Decoded, hidden: list[Hidden]
) -> Float[Tensor, "b n p"] | None:
    """1 at the decoded elements that no encoder saw, 0 at the others; None where no encoder reads the output field."""
    weight: Tensor | None = None
    for each in hidden:
        laid = upsample(each.hit, each.grid, decoded.grid or (1,), model.output_field, batch[model.output])
        weight = laid if weight is None else weight * laid
    return weight


def select_tokens(
    noise: Float[Tensor, "b n"], valid: Bool[Tensor, "b n"] | None, ratio: float
) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b n"]]:
    """Indices of the tokens to keep, ascending, and which valid tokens are hidden.

    Of an example's m valid tokens the round(m (1 - ratio)) with the smallest noise are kept, at least one
    and, where there are two, at most m - 1.  Shorter examples fill their rows up to the common k with
    padding.
    """
    size, n = noise.shape
    m = torch.full((size,), n, device=noise.device) if valid is None else valid.sum(1)
    # One table for all lengths: rounding on the device may differ from Python's by one token.
    table = [max(1, min(length - 1, math.floor(length * (1 - ratio) + 0.5))) for length in range(n + 1)]
    wanted, width = torch.tensor(table, device=noise.device)[m], table[n]
    order = noise if valid is None else noise + (~valid).float()
    place = order.argsort(dim=1, stable=True).argsort(dim=1)
    shown = place < wanted.unsqueeze(1)
    # Padding that stands in for what a shorter example lacks: as many as bring its row to the common width.
    filler = (place >= m.unsqueeze(1)) & (place < (m + width - wanted).unsqueeze(1))
    keep = (shown | filler).int().argsort(dim=1, descending=True, stable=True)[:, :width]
    hidden = ~shown if valid is None else valid & ~shown
    return keep, hidden


def _alike(model: Model, batch: Batch) -> Iterator[tuple[tuple[str, ...], Factor]]:
    """Factors that read one field in one grid, with the path of the first: they share a draw."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, path in model.factors.items():
        groups.setdefault((path.input, path.encoder.grid(path.view(batch))), []).append(name)
    for names in groups.values():
        yield tuple(names), model.factors[names[0]]


def _valid(view: Batch, grid: tuple[int, ...]) -> Bool[Tensor, "b n"] | None:
    """Which of an encoder's tokens hold any real step; None where all do."""
    mask = view.get("x_mask")
    return None if mask is None else to_tokens(mask, grid, "tokens").any(-1).to(view["x"].device)


def _several(count: int, path: Factor) -> int:
    if count < 2:
        raise BuildError(
            f"masked hides tokens, and the encoder of factor {path.name} reads an example as one; "
            "use smaller patches, or denoising with a mask corruption"
        )
    return count


def token_statistics(target: Float[Tensor, "b n p"]) -> tuple[Tensor, Tensor]:
    """Each token's mean and deviation (b n 1), as the authors' code has them (unbiased, 1e-6)."""
    mean, _, deviation = _moments(target)
    return mean, deviation


def normalize_tokens(target: Float[Tensor, "b n p"], decoded: Decoded) -> Float[Tensor, "b n p"]:
    """Each token's values with mean 0 and deviation 1."""
    if decoded.likelihood != "gaussian" or target.shape[-1] < 2:
        raise BuildError(
            "masked(normalize=True) normalizes the real values of each token: it needs a Gaussian likelihood "
            f"and tokens of several values, not {decoded.likelihood} and {target.shape[-1]}"
        )
    _, centred, deviation = _moments(target)
    return centred / deviation


def _moments(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, what is left without it, deviation; ``var_mean`` over few values takes five times as long on a CPU."""
    mean = target.mean(-1, keepdim=True)
    centred = target - mean
    variance = centred.square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
    return mean, centred, (variance + 1e-6).sqrt()
