"""Factors: each is one encoder → linear adapter → latent pipeline of a model."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprkit.errors import BuildError, nearest
from reprkit.interfaces import Decoder, Encoder, Latent
from reprkit.layers.adapter import Adapter
from reprkit.layers.value_embedding import element_scales
from reprkit.models.draws import repeat_batch, repeat_features
from reprkit.models.usage import Usage
from reprkit.types import Batch, Code, Features
from reprkit.utils.collectives import pieces_apart
from reprkit.utils.precision import at_least_float32, without_autocast


@dataclass(frozen=True, kw_only=True)
class FactorSpec:
    """The description of a factor that ``rk.factor`` returns and ``rk.build`` builds."""

    encoder: Any
    latent: Any = "continuous"
    input: str = "x"
    pool: bool = False
    condition: str | None = None


def factor(
    encoder: Any,
    latent: Any = "continuous",
    *,
    input: str = "x",
    pool: bool = False,
    condition: str | None = None,
) -> FactorSpec:
    """Describe one factor for ``rk.build(factors={...})``.

    Args:
        encoder: a reference or an instance.
        latent: a reference or an instance.
        input: the field of the data that the encoder reads.
        pool: reduce the features to one token an example, their masked mean: for properties of the whole example.
        condition: the factor whose code conditions the encoder, as one vector (AutoVC's content encoder reads the speaker's).
    """
    return FactorSpec(encoder=encoder, latent=latent, input=input, pool=pool, condition=condition)


def resolve_factor(names: Iterable[str], factor: str | None, caller: str) -> str:
    """Return the name of a factor after checking it against ``names``; by default the only one.

    Args:
        names: a model's factors, or a mapping by their names.
        factor: the requested name; None for the only one.
        caller: who needs the factor, for the message ("objective critic").

    Raises:
        BuildError: no such factor, or several and none was named.
    """
    known = list(names)
    if factor is None and len(known) == 1:
        return known[0]
    if factor not in known:
        problem, hint = (
            ("say which: factor=", "")
            if factor is None
            else (f"no factor named {factor!r}", nearest(factor, known))
        )
        raise BuildError(f"{caller}: {problem}; there are: {', '.join(known) or 'none'}.{hint}")
    return factor


def find_conditioning_factors(factors: Mapping[str, Factor], decoder: Decoder | None) -> frozenset[str]:
    """Return the factors that condition the decoder instead of adding to its tokens.

    These are the pooled factors, provided that other factors are not pooled and the decoder has a ``condition_dim``.
    """
    if decoder is None or decoder.condition_dim is None or all(factor.pool for factor in factors.values()):
        return frozenset()
    return frozenset(name for name, factor in factors.items() if factor.pool)


def order_by_condition(factors: Mapping[str, Factor] | Factors, names: Iterable[str]) -> Iterator[str]:
    """Yield the names of factors, each after the factor that it is conditioned on."""
    for name in names:
        condition = factors[name].condition if name in factors else None
        if condition is not None:
            yield from order_by_condition(factors, (condition,))
        yield name


def make_adapters(factors: Mapping[str, Factor], decoder: Decoder) -> dict[str, nn.Module]:
    """Create a linear map for each factor, from its code to the decoder's tokens or condition.

    It is the identity where the decoder has a map from the code's tokens itself (``needs_adapter = False``).
    """
    conditioning, width = find_conditioning_factors(factors, decoder), decoder.condition_dim or 0
    adapters: dict[str, nn.Module] = {}
    for name, factor in factors.items():
        if name in conditioning:
            adapters[name] = Adapter(factor.latent.out_dim, width)
        elif decoder.needs_adapter:
            adapters[name] = Adapter(factor.latent.out_dim, decoder.in_dim)
        else:
            adapters[name] = nn.Identity()
    return adapters


class Factor(nn.Module):
    """A built factor: encoder, linear adapter and latent, which runs in float32 (or float64) unless its ``precision`` is "any"."""

    missing: Tensor
    added_state = frozenset({"missing"})

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        latent: Latent,
        *,
        input: str = "x",
        pool: bool = False,
        condition: Factor | None = None,
    ) -> None:
        super().__init__()
        self.name, self.input, self.pool = name, input, pool
        self.encoder, self.latent = encoder, latent
        self.condition = None if condition is None else condition.name
        if condition is not None:
            assert encoder.condition_dim is not None  # checked by build
            self.conditioner = Adapter(condition.latent.out_dim, encoder.condition_dim)
        self.adapter = Adapter(encoder.out_dim, latent.in_dim)
        self.register_buffer("missing", _missing_values(encoder), persistent=False)
        self.usage = Usage(latent, f"latent {latent.qualified or type(latent).__name__} of factor {name}")

    @property
    def code_dtype(self) -> torch.dtype:
        """The type of the code's values: that of the weights, or float32 where the latent requires at least that."""
        own = self.adapter.weight.dtype
        return own if self.latent.precision != "float32" or own == torch.float64 else torch.float32

    def view(self, batch: Batch) -> Batch:
        """Return the batch as the encoder reads it: the field ``input`` under the name ``x``.

        Missing values of a vector (``x_mask`` (b d) False) are read as the column's mean, or as no class.

        Raises:
            BuildError: the batch has no such field.
        """
        if self.input not in batch:
            raise BuildError(
                f"factor {self.name} reads field {self.input!r}, and the batch has {', '.join(batch)}"
            )
        if self.input == "x":
            return self._fill(batch)
        view = {key: value for key, value in batch.items() if key not in ("x", "x_mask")}
        view["x"] = batch[self.input]
        if f"{self.input}_mask" in batch:
            view["x_mask"] = batch[f"{self.input}_mask"]
        return self._fill(view)

    def _fill(self, view: Batch) -> Batch:
        x, mask = view["x"], view.get("x_mask")
        if mask is None or x.ndim != 2 or not x.is_floating_point():  # not a vector: the mask is of steps
            return view
        filled = {key: value for key, value in view.items() if key != "x_mask"}
        filled["x"] = torch.where(mask.to(x.device), x, self.missing.to(x))
        return filled

    def count(self, batch: Batch) -> int:
        """Return the number of tokens of an example's code, without encoding the batch."""
        return self.latent.count(1 if self.pool else self.encoder.count(self.view(batch)))

    def forward(
        self, batch: Batch, keep: Tensor | None = None, condition: Code | None = None, draws: int = 1
    ) -> Code:
        """Return the code of one batch, ``draws`` rows an example.

        ``condition`` is the code of the factor that the encoder is conditioned on, of as many draws.
        """
        if self.condition is None:
            return self.code(repeat_features(self.features(batch, keep), draws))
        keep = keep if keep is None else keep.repeat_interleave(draws, 0)
        return self.code(self.features(repeat_batch(batch, draws), keep, condition))

    def features(self, batch: Batch, keep: Tensor | None = None, condition: Code | None = None) -> Features:
        """Return what the latent reads: the encoder's features after the adapter, pooled if ``pool`` is set."""
        options = {}
        if self.condition is not None:
            if condition is None:
                raise BuildError(
                    f"factor {self.name} is conditioned on {self.condition!r}: pass its code as condition="
                )
            options["condition"] = self.conditioner(masked_mean(condition.z, condition.mask))
        with self.encoder.error_context(f", factor {self.name}"):
            features = self.encoder(self.view(batch), keep=keep, **options)
        features = replace(features, x=self.adapter(features.x))
        return pool_features(features) if self.pool else features

    def code(self, features: Features) -> Code:
        """Return the latent's code of the features that ``features`` returns."""
        joined = nullcontext() if self.latent.couples_examples else pieces_apart()
        with self.latent.error_context(f", factor {self.name}"), joined:
            if self.latent.precision != "float32":
                return self.latent(features)
            with without_autocast(features.x.device):
                return self.latent(replace(features, x=at_least_float32(features.x)))


def _missing_values(encoder: Encoder) -> Tensor:
    """Return what an encoder reads at missing elements of a vector: (d,) for a table, else the middle of the range (1,)."""
    data = encoder.build_context.get("data")
    return torch.zeros(1) if data is None else element_scales(data["x"])[0]


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Average over valid tokens: (b n d) to (b d)."""
    if mask is None:
        return x.mean(1)
    weight = mask.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


def pool_features(features: Features) -> Features:
    """Reduce features to one token an example, their masked mean; a tree is dropped."""
    return Features(x=masked_mean(features.x, features.mask).unsqueeze(1), grid=(1,), length=1)


class Factors(nn.ModuleDict):
    """The factors of a model by name: an ``nn.ModuleDict`` typed to hold Factors."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> Factor: ...
        def values(self) -> ValuesView[Factor]: ...  # noqa: D102
        def items(self) -> ItemsView[str, Factor]: ...  # noqa: D102
