"""What flows between the parts: four frozen records, registered as pytrees, tokens last-but-one and channels last.

::

    batch ──► Encoder ──► Features ──► Latent ──► Code ──► Decoder ──► Decoded        Objective ──► Losses
                          (b n d)                 (b n d)              (b n p)

A vector is one token; an image is patches or cells plus ``grid``; sound and text are frames or symbols.  ``mask`` is True where
a token is valid.  An encoder that saw only some tokens says which with ``positions`` (their places among ``length`` tokens).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# A batch is what the data set yields: a plain dict of tensors, the edge of the system.
Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What an encoder found, before any latent: ``x`` (b n d)."""

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"] | None = None
    grid: tuple[int, ...] | None = None
    positions: Int[Tensor, "b n"] | None = None
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Code:
    """What a latent made of the features.

    Attributes:
        z: the code that the decoder reads (b n d).
        mean: the value that evaluation would use where ``z`` is a random draw (b n d); None where ``z`` is that value.
        indices: which entry of each slot was chosen (b n q), int64; None for a continuous latent.
        log_prob: log-probability of the draw (b n), nats, where the latent has one.
        bits: what sending the code costs, bits an example (b); None where it has no finite price.
        losses: name -> scalar with gradient, unweighted, **nats-like: summed over tokens, averaged over examples**.
        metrics: name -> detached scalar.
    """

    z: Float[Tensor, "b n d"]
    mean: Float[Tensor, "b n d"] | None = None
    indices: Int[Tensor, "b n q"] | None = None
    log_prob: Float[Tensor, "b n"] | None = None
    bits: Float[Tensor, " b"] | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    mask: Bool[Tensor, "b n"] | None = None
    grid: tuple[int, ...] | None = None
    positions: Int[Tensor, "b n"] | None = None
    length: int | None = None

    @property
    def point(self) -> Float[Tensor, "b n d"]:
        """The value that evaluation uses: ``mean`` where ``z`` is a draw around it, else ``z``."""
        return self.z if self.mean is None else self.mean

    @classmethod
    def of(cls, features: "Features | Code", **fields: Any) -> "Code":
        """A code over the same tokens as ``features`` (or another code): mask, grid, positions and length are carried over."""
        carried = {name: getattr(features, name) for name in ("mask", "grid", "positions", "length")}
        return cls(**{**carried, **fields})


@dataclass(frozen=True)
class Codes(Mapping[str, Code]):
    """Factor -> Code.  With one factor its fields read directly (``codes.z``); ``a | {"speaker": b["speaker"]}`` converts."""

    factors: dict[str, Code]

    def __getitem__(self, factor: str) -> Code:
        """The code of one factor; KeyError names the factors there are."""
        try:
            return self.factors[factor]
        except KeyError:
            raise KeyError(
                f"no factor named {factor!r}; there are: {', '.join(self.factors) or 'none'}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        """The names of the factors."""
        return iter(self.factors)

    def __len__(self) -> int:
        """How many factors."""
        return len(self.factors)

    def __or__(self, other: Mapping[str, Code]) -> "Codes":
        """These codes with some factors replaced by others."""
        return Codes({**self.factors, **dict(other)})

    def __getattr__(self, name: str) -> Any:
        """A field of the only factor's code."""
        factors = self.__dict__.get("factors")
        if factors is not None and not name.startswith("__"):
            if len(factors) == 1:
                return getattr(next(iter(factors.values())), name)
            if name in Code.__dataclass_fields__:
                raise AttributeError(
                    f"there are {len(factors)} factors; say which: codes[{next(iter(factors), 'NAME')!r}].{name}"
                )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a decoder says of the data: a point estimate in data units and the likelihood it comes from.

    Attributes:
        x: point estimate (b n p): real values, or int64 symbols for a categorical likelihood.
        likelihood: "gaussian", "bernoulli" or "categorical": how ``params`` are read (reprkit/models/likelihoods.py).
        params: the likelihood's parameters by name, each broadcastable to (b n p) or (b n p k).
        mask: True where the token is real (b n).
        grid: how the n tokens lie: (height, width) of patches, (frames,), or (1,) for a vector.
    """

    x: Tensor
    likelihood: str
    params: dict[str, Tensor]
    mask: Bool[Tensor, "b n"] | None = None
    grid: tuple[int, ...] | None = None

    def nll(self, target: Tensor, weight: Tensor | None = None) -> Float[Tensor, "b n"]:
        """Negative log-likelihood of ``target`` (b n p), nats a token; ``weight`` (b n p) counts some elements only."""
        from reprkit.models.likelihoods import negative_log_likelihood

        elements = negative_log_likelihood(self.likelihood, self.params, target)
        return (elements if weight is None else elements * weight).sum(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw from the likelihood (b n p), in data units."""
        from reprkit.models.likelihoods import draw

        return draw(self.likelihood, self.params, generator)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """One step's outcome: ``total`` to go backward from, and what it is made of (detached, unweighted)."""

    total: Float[Tensor, ""]
    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)


for _record in (Features, Code, Codes, Decoded, Losses):
    torch.export.register_dataclass(_record)

__all__ = ["Batch", "Code", "Codes", "Decoded", "Features", "Losses", "replace"]
