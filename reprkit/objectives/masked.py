"""Masked: hide most tokens from the encoder and predict them from the others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.corruptions.base import draw_uniform
from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term
from reprkit.models.factor import Factor
from reprkit.models.grid import to_tokens, upsample
from reprkit.models.scoring import Scored
from reprkit.types import Batch, Codes, Decoded

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Hidden(NamedTuple):
    """The tokens hidden from a group of encoders.

    Attributes:
        hit: True at hidden tokens.
        grid: the grid of the n tokens.
        number: number of hidden tokens of an example without padding.
    """

    hit: Bool[Tensor, "b n"]
    grid: tuple[int, ...]
    number: int


class Masked(Objective):
    """The masked autoencoder: encoders read a few tokens, the decoder predicts all.

    He et al. 2021, arXiv 2111.06377.  Of an example's n tokens max(1, round(n (1 - ratio))) are kept, drawn
    at random for each example (section 3).  Padding is kept only to fill up examples that are shorter than
    their batch, and the encoder masks it.  Factors that read the same field in the same grid see the same
    tokens.  An element of the output field counts as hidden if no encoder saw it.  In evaluation the draws use
    a fixed seed.

    Loss ``masked``: nats, summed over an example's hidden elements, averaged over examples (the paper also
    averages over elements: the same gradient direction, another scale).  Metric ``error``: squared error of an
    example over the hidden elements; ``perplexity`` for symbols.

    Args:
        ratio: fraction of the tokens to hide, in (0, 1).
        on: the loss is on the "masked" tokens, or on "all".
        normalize: normalize the target of each decoder token by the mean and standard deviation of its values
            (section 4, "reconstruction target"); the output is then in these units, not the data's.

    Raises:
        PartArgumentError: an argument is out of range.
        BuildError: an example is a single token, the decoder decodes each token by itself, or ``normalize`` is set without a
            density of real values.
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
        """Check that no encoder reads an example as one token, and that the decoder sees the other tokens.

        Nothing could be hidden from the former; the latter could not predict what is hidden.
        """
        decoder = model.get_decoder()
        hidden = any(each.input == model.output and not each.pool for each in model.factors.values())
        if hidden and "tokenwise" in decoder.provides:
            name = (decoder.qualified or type(decoder).__name__).removeprefix("reprkit/")
            raise BuildError(
                f"masked predicts hidden tokens from the visible ones, and decoder {name} decodes each token of the code "
                "by itself: use a decoder such as vit, conv or transformer"
            )
        if model.signature is None:
            return
        example = model.signature.example(1)
        for factor in model.factors.values():
            _require_several(factor.encoder.count(factor.view(example)), factor)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        codes, hidden = self.hide(model, batch)
        queries = _queries(model, batch, hidden) if self.on == "masked" else None  # decode hidden tokens only
        scored = model.score(batch, codes, queries=queries, teacher_forcing=False)
        if self.normalize:
            scored = replace(scored, target=normalize_tokens(scored.target, scored.decoded))
        if self.on == "masked" and queries is None:
            scored = scored.restrict(hidden_weight(model, batch, scored.decoded, hidden))
        model.record(**scored.metrics)
        return {"masked": scored.loss}

    def in_data_units(self, scored: Scored) -> Scored:
        """Return the output with ``normalize`` undone, by each target token's own mean and deviation."""
        decoded = scored.decoded
        if not self.normalize or not decoded.likelihood.density or scored.target.shape[-1] < 2:
            return scored
        mean, _, deviation = token_moments(scored.target)
        fields = {
            each.name: getattr(decoded, each.name) for each in dataclasses.fields(decoded) if each.name != "x"
        }
        units = NormalizedTokens(
            **fields, x=lambda: decoded.x * deviation + mean, mean=mean, deviation=deviation
        )
        return replace(scored, decoded=units)

    def hide(self, model: Model, batch: Batch) -> tuple[Codes, list[Hidden]]:
        """Encode the kept tokens; return the codes, and the hidden tokens of the output field by group of encoders."""
        codes, hidden = Codes({}), []
        for names, factor in _group_factors(model, batch):
            view = factor.view(batch)
            keep, hit = self.draw(view, factor, fixed=not model.training)
            codes = codes | model.encode(batch, keep=keep, factors=names)
            if factor.input == model.output:
                hidden.append(Hidden(hit, factor.encoder.grid(view), hit.shape[1] - keep.shape[1]))
        return codes, hidden

    def draw(
        self, view: Batch, factor: Factor, *, fixed: bool = False
    ) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b n"]]:
        """Draw the tokens that one encoder reads, ascending, and the mask of valid tokens hidden from it."""
        x = view["x"]
        count = _require_several(factor.encoder.count(view), factor)
        noise = draw_uniform((len(x), count), x, torch.Generator().manual_seed(0) if fixed else None)
        return select_tokens(noise, _valid_tokens(view, factor.encoder.grid(view)), self.ratio)


@dataclass(frozen=True, kw_only=True)
class NormalizedTokens(Decoded):
    """The output of a decoder of normalized tokens, in units of the data.

    Attributes:
        mean: of each token's values (b n 1).
        deviation: of each token's values (b n 1); the density of a value is that of the normalized one, divided by it.
    """

    mean: Tensor
    deviation: Tensor

    def nll(self, target: Tensor, weight: Tensor | None = None) -> Float[Tensor, "b n"]:
        """Return the negative log-likelihood of ``target`` (b n p), nats a token."""
        elements = (
            self.likelihood.nll(self.params, (target - self.mean) / self.deviation) + self.deviation.log()
        )
        return (elements if weight is None else elements * weight).sum(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Sample from the likelihood (b n p)."""
        return super().sample(generator) * self.deviation + self.mean


def _queries(model: Model, batch: Batch, hidden: list[Hidden]) -> Int[Tensor, "b m"] | None:
    """Return the hidden tokens, ascending, as queries; None where the decoder cannot decode them alone.

    It can if it provides "queries", there is one group of encoders with the decoder's grid, and no padding.
    """
    decoder = model.get_decoder()
    if "queries" not in decoder.provides or len(hidden) != 1 or f"{model.output}_mask" in batch:
        return None
    (group,) = hidden
    if group.grid != decoder.cells:
        return None
    return group.hit.int().argsort(dim=1, descending=True, stable=True)[:, : group.number]


def hidden_weight(
    model: Model, batch: Batch, decoded: Decoded, hidden: list[Hidden]
) -> Float[Tensor, "b n p"] | None:
    """Return 1 at decoded elements that no encoder saw and 0 at the others; None if no encoder reads the output field."""
    weight: Tensor | None = None
    for group in hidden:
        unseen = upsample(
            group.hit, group.grid, decoded.grid or (1,), model.output_field, batch[model.output]
        )
        weight = unseen if weight is None else weight * unseen
    return weight


def select_tokens(
    noise: Float[Tensor, "b n"], valid: Bool[Tensor, "b n"] | None, ratio: float
) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b n"]]:
    """Return the indices of the tokens to keep, ascending, and the mask of valid tokens that are hidden.

    Of an example's m valid tokens the round(m (1 - ratio)) with the smallest noise are kept, at least one
    and, where there are two, at most m - 1.  Shorter examples fill their rows up to the common k with
    padding.
    """
    size, n = noise.shape
    m = torch.full((size,), n, device=noise.device) if valid is None else valid.sum(1)
    # One table for all lengths, since rounding on the device may differ from Python's by one token.
    table = [max(1, min(length - 1, math.floor(length * (1 - ratio) + 0.5))) for length in range(n + 1)]
    kept, width = torch.tensor(table, device=noise.device)[m], table[n]
    order = noise if valid is None else noise + (~valid).float()
    ranks = order.argsort(dim=1, stable=True).argsort(dim=1)
    visible = ranks < kept.unsqueeze(1)
    # Padding that fills up the row of a shorter example to the common width.
    filler = (ranks >= m.unsqueeze(1)) & (ranks < (m + width - kept).unsqueeze(1))
    keep = (visible | filler).int().argsort(dim=1, descending=True, stable=True)[:, :width]
    hidden = ~visible if valid is None else valid & ~visible
    return keep, hidden


def _group_factors(model: Model, batch: Batch) -> Iterator[tuple[tuple[str, ...], Factor]]:
    """Group the factors that read the same field in the same grid, and so share a draw; with the first of each group."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, factor in model.factors.items():
        groups.setdefault((factor.input, factor.encoder.grid(factor.view(batch))), []).append(name)
    for names in groups.values():
        yield tuple(names), model.factors[names[0]]


def _valid_tokens(view: Batch, grid: tuple[int, ...]) -> Bool[Tensor, "b n"] | None:
    """Return the mask of an encoder's tokens that hold any valid step; None where all do."""
    mask = view.get("x_mask")
    return None if mask is None else to_tokens(mask, grid, "tokens").any(-1).to(view["x"].device)


def _require_several(count: int, factor: Factor) -> int:
    if count < 2:
        raise BuildError(
            f"masked hides tokens, and the encoder of factor {factor.name} reads an example as one token; "
            "use smaller patches, or denoising with a mask corruption"
        )
    return count


def normalize_tokens(target: Float[Tensor, "b n p"], decoded: Decoded) -> Float[Tensor, "b n p"]:
    """Normalize the values of each token to mean 0 and standard deviation 1."""
    if not decoded.likelihood.density or target.shape[-1] < 2:
        name = (decoded.likelihood.qualified or type(decoded.likelihood).__name__).removeprefix("reprkit/")
        raise BuildError(
            "masked(normalize=True) normalizes the real values of each token: it needs a density of any real value, such as "
            f"gaussian or laplace, and tokens of several values, not {name} and {target.shape[-1]}"
        )
    _, centered, deviation = token_moments(target)
    return centered / deviation


def token_moments(target: Float[Tensor, "b n p"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return each token's mean (b n 1), its values minus the mean (b n p), and their standard deviation (b n 1).

    The deviation is that of the authors' code (unbiased, 1e-6).  ``var_mean`` over few values takes five times as long on a CPU.
    """
    mean = target.mean(-1, keepdim=True)
    centered = target - mean
    variance = centered.square().sum(-1, keepdim=True) / (target.shape[-1] - 1)
    return mean, centered, (variance + 1e-6).sqrt()
