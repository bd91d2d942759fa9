"""A factor: one encoder → linear adapter → latent path of a model."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from reprkit.errors import BuildError, nearest
from reprkit.interfaces import Decoder, Encoder, Latent
from reprkit.models.usage import Usage
from reprkit.types import Batch, Code, Features
from reprkit.utils.precision import without_autocast


@dataclass(frozen=True, kw_only=True)
class FactorSpec:
    """What ``rk.factor`` describes, before it is built."""

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
        pool: one token per example (the masked mean of the features), for what holds of the whole example.
        condition: the factor whose code the encoder is told of, as one vector (AutoVC's content encoder reads the speaker's).
    """
    return FactorSpec(encoder=encoder, latent=latent, input=input, pool=pool, condition=condition)


def factor_of(names: Iterable[str], factor: str | None, asker: str) -> str:
    """The factor's name among ``names``; the only one where none is given.

    Args:
        names: a model's factors, or a mapping by their names.
        factor: the one asked for.
        asker: who asks, for the message ("objective critic").

    Raises:
        BuildError: no such factor, or several and none was named.
    """
    known = list(names)
    if factor is None and len(known) == 1:
        return known[0]
    if factor not in known:
        asked, near = (
            ("say which: factor=", "")
            if factor is None
            else (f"no factor named {factor!r}", nearest(factor, known))
        )
        raise BuildError(f"{asker}: {asked}; there are: {', '.join(known) or 'none'}.{near}")
    return factor


def linear(width: int, out: int) -> nn.Linear:
    """The adapter: a linear map that starts as the identity where the widths agree, and else keeps the scale of what it reads.

    He et al. 2015 (arXiv 1502.01852), section 2.2, without a nonlinearity: outputs have the variance of inputs of unit variance.
    """
    layer = nn.Linear(width, out)
    nn.init.zeros_(layer.bias)
    if width == out:
        nn.init.eye_(layer.weight)
    else:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
    return layer


def conditioning(paths: Mapping[str, Factor], decoder: Decoder | None) -> frozenset[str]:
    """The factors that the decoder takes apart from the tokens: those of one token, where others have more and it can."""
    if decoder is None or decoder.condition_dim is None or all(path.pool for path in paths.values()):
        return frozenset()
    return frozenset(name for name, path in paths.items() if path.pool)


def in_condition_order(paths: Mapping[str, Factor] | Factors, names: Iterable[str]) -> Iterator[str]:
    """The factors, each after that whose code its encoder is told of."""
    for name in names:
        condition = paths[name].condition if name in paths else None
        if condition is not None:
            yield from in_condition_order(paths, (condition,))
        yield name


def adapters(paths: Mapping[str, Factor], decoder: Decoder) -> dict[str, nn.Linear]:
    """A linear map for each factor, from its code to what the decoder reads."""
    apart, width = conditioning(paths, decoder), decoder.condition_dim or 0
    return {
        name: linear(path.latent.out_dim, width if name in apart else decoder.in_dim)
        for name, path in paths.items()
    }


class Factor(nn.Module):
    """The built factor: runs encoder, adapter and latent, the latent in float32 unless it says otherwise."""

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
            assert encoder.condition_dim is not None  # build has asked
            self.conditioner = linear(condition.latent.out_dim, encoder.condition_dim)
        self.adapter = linear(encoder.out_dim, latent.in_dim)
        self.usage = Usage(latent, f"latent {latent.qualified or type(latent).__name__} of factor {name}")

    def view(self, batch: Batch) -> Batch:
        """The batch as this factor's encoder reads it: its input called ``x``.

        Raises:
            BuildError: the batch has no such field.
        """
        if self.input not in batch:
            raise BuildError(
                f"factor {self.name} reads field {self.input!r}; the batch has {', '.join(batch)}"
            )
        if self.input == "x":
            return batch
        view = {key: value for key, value in batch.items() if key not in ("x", "x_mask")}
        view["x"] = batch[self.input]
        if f"{self.input}_mask" in batch:
            view["x_mask"] = batch[f"{self.input}_mask"]
        return view

    def count(self, batch: Batch) -> int:
        """How many tokens the code of an example of this batch has, before encoding it."""
        return self.latent.count(1 if self.pool else self.encoder.count(self.view(batch)))

    def forward(self, batch: Batch, keep: Tensor | None = None, condition: Code | None = None) -> Code:
        """The code of one batch; ``condition`` is the code of the factor that the encoder is told of."""
        return self.code(self.features(batch, keep, condition))

    def features(self, batch: Batch, keep: Tensor | None = None, condition: Code | None = None) -> Features:
        """What the latent reads of one batch: the encoder's features through the adapter, pooled where declared."""
        told = {}
        if self.condition is not None:
            if condition is None:
                raise BuildError(
                    f"factor {self.name} is conditioned on {self.condition!r}: give its code too"
                )
            told["condition"] = self.conditioner(masked_mean(condition.z, condition.mask))
        with self.encoder.error_context(f", factor {self.name}"):
            features = self.encoder(self.view(batch), keep=keep, **told)
        features = _replaced(features, x=self.adapter(features.x))
        return pooled(features) if self.pool else features

    def code(self, features: Features) -> Code:
        """The latent's code of such features."""
        with self.latent.error_context(f", factor {self.name}"):
            if self.latent.precision != "float32":
                return self.latent(features)
            with without_autocast(features.x.device):
                return self.latent(_replaced(features, x=features.x.float()))


def _replaced(features: Features, x: Tensor) -> Features:
    return Features(
        x=x, mask=features.mask, grid=features.grid, positions=features.positions, length=features.length
    )


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over valid tokens: (b n d) to (b d)."""
    if mask is None:
        return x.mean(1)
    weight = mask.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


def pooled(features: Features) -> Features:
    """One token per example: the masked mean."""
    return Features(x=masked_mean(features.x, features.mask).unsqueeze(1), grid=(1,), length=1)


class Factors(nn.ModuleDict):
    """The factors of a model by name: an ``nn.ModuleDict`` whose values are known to be of class Factor."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> Factor: ...
        def values(self) -> ValuesView[Factor]: ...  # noqa: D102
        def items(self) -> ItemsView[str, Factor]: ...  # noqa: D102
