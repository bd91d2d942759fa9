"""Records passed between the parts: frozen dataclasses, registered as pytrees; tokens on the last axis but one, channels last.

::

    batch ──► Encoder ──► Features ──► Latent ──► Code ──► Decoder ──► Decoded        Objective ──► Losses
                          (b n d)                 (b n d)              (b n p)

The tokens of a vector are one; of an image, patches or cells of a ``grid``; of sound and text, frames or symbols.

Fields that several records share:

* ``mask`` (b n): True at valid tokens; None where all are valid.
* ``grid``: layout of the n tokens over the data: (rows, columns), (frames,), or (1,); ``()`` for tokens that correspond to no
  positions of the data.
* ``positions`` (b n): indices of the tokens in [0, ``length``), where an encoder read a subset of ``length`` tokens; else None.
* ``parents`` (b n): the index of each token's parent, of a tree whose tokens are in post-order; -1 at the root, which is the last
  valid token, and at padding; see ``reprkit.layers.trees``.  None: no tree.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.errors import PartArgumentError

if TYPE_CHECKING:
    from reprkit.interfaces import Likelihood

# What a data set yields: a plain dict of tensors, by field name.
Batch = Mapping[str, Tensor]
# The fields of Features that Code has too: which tokens there are, and where.
LAYOUT = ("mask", "grid", "positions", "length", "parents")


@dataclass(frozen=True, kw_only=True)
class Features:
    """The output of an encoder, before the latent: ``x`` (b n d)."""

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"] | None = None
    grid: tuple[int, ...] | None = None
    positions: Int[Tensor, "b n"] | None = None
    length: int | None = None
    parents: Int[Tensor, "b n"] | None = None


@dataclass(frozen=True, kw_only=True)
class Code:
    """The output of a latent.

    Attributes:
        z: the code that the decoder reads (b n d).
        mean: where ``z`` is a random draw, the value that evaluation uses instead (b n d); else None.
        deviation: standard deviation of the draw around ``mean`` (b n d), above 0, where it is a Gaussian's; else None.
        indices: the chosen entry of each slot (b n q), int64; None for a continuous latent.
        log_prob: log-probability of the draw (b n), nats, where the latent provides it.
        bits: cost of transmitting the code, bits an example (b); None where it is not finite.
        payload: the bytes of each example, of a continuous latent that computes ``z`` from them, such as a codec; else None.
        losses: name -> scalar with gradient, unweighted, **in nats where possible: summed over tokens, averaged over examples**.
        metrics: name -> detached scalar.
    """

    z: Float[Tensor, "b n d"]
    mean: Float[Tensor, "b n d"] | None = None
    deviation: Float[Tensor, "b n d"] | None = None
    indices: Int[Tensor, "b n q"] | None = None
    log_prob: Float[Tensor, "b n"] | None = None
    bits: Float[Tensor, " b"] | None = None
    payload: tuple[bytes, ...] | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    mask: Bool[Tensor, "b n"] | None = None
    grid: tuple[int, ...] | None = None
    positions: Int[Tensor, "b n"] | None = None
    length: int | None = None
    parents: Int[Tensor, "b n"] | None = None

    @property
    def point(self) -> Float[Tensor, "b n d"]:
        """The point estimate, which evaluation uses: ``mean`` where ``z`` is a draw, else ``z``."""
        return self.z if self.mean is None else self.mean

    @classmethod
    def of(cls, features: "Features | Code", **fields: Any) -> "Code":
        """Create a code over the same tokens as ``features`` (or another code): its layout, parents included, is copied."""
        layout = {name: getattr(features, name) for name in LAYOUT}
        return cls(**{**layout, **fields})


@dataclass(frozen=True)
class Codes(Mapping[str, Code]):
    """The codes of a model: factor name -> Code.

    With one factor, the code's fields can be read directly (``codes.z``).  ``a | {"speaker": b["speaker"]}`` replaces a factor,
    which is how voices are converted.
    """

    factors: dict[str, Code]

    def __getitem__(self, factor: str) -> Code:
        """Return the code of one factor; the KeyError lists the known factors."""
        try:
            return self.factors[factor]
        except KeyError:
            raise KeyError(
                f"no factor named {factor!r}; there are: {', '.join(self.factors) or 'none'}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the factors' names."""
        return iter(self.factors)

    def __len__(self) -> int:
        """Return the number of factors."""
        return len(self.factors)

    def __or__(self, other: Mapping[str, Code]) -> "Codes":
        """Return these codes with the factors of ``other`` added or replaced."""
        return Codes({**self.factors, **dict(other)})

    def __getattr__(self, name: str) -> Any:
        """Return a field of the code, if there is only one factor."""
        factors = self.__dict__.get("factors")
        if factors is not None and not name.startswith("__"):
            if len(factors) == 1:
                return getattr(next(iter(factors.values())), name)
            if name in Code.__dataclass_fields__:
                raise AttributeError(
                    f"there are {len(factors)} factors; say which: codes[{next(iter(factors), 'NAME')!r}].{name}"
                )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class NoPointEstimate:
    """What ``Decoded.x`` is where there is no point estimate: any use of it raises PartArgumentError."""

    def __getattr__(self, name: str) -> Any:
        """Say that there is none."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise PartArgumentError(
            "this decoder gives no point estimate of the data (has_point=False), only a likelihood: use nll or sample"
        )


class PointEstimate:
    """The descriptor of ``Decoded.x``: a tensor, a function that returns it, or None for the likelihood's own estimate.

    The last two are computed at the first access, with or without gradients as ``Decoded`` was created.
    """

    def __get__(self, decoded: "Decoded | None", owner: Any = None) -> Tensor:
        """Return the point estimate; the class attribute is None, the field's default."""
        if decoded is None:
            return None  # type: ignore[return-value]  # where dataclass reads the default
        value = decoded.__dict__["_x"]
        if not isinstance(value, Tensor):
            if not decoded.has_point or isinstance(value, NoPointEstimate):
                return NoPointEstimate()  # type: ignore[return-value]
            with torch.set_grad_enabled(decoded.__dict__["_with_grad"]):
                value = decoded.likelihood.point(decoded.params) if value is None else value()
            decoded.__dict__["_x"] = value
        return value

    def __set__(self, decoded: "Decoded", value: "Tensor | Callable[[], Tensor] | None") -> None:
        """Keep what was given, until the first access."""
        decoded.__dict__["_x"] = value
        decoded.__dict__["_with_grad"] = torch.is_grad_enabled()


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The output of a decoder: a likelihood of the data and its point estimate in data units.

    A decoder whose likelihood is not a product over elements (a grammar that sums over trees) returns a subclass that overrides
    ``nll``, and ``sample`` where it can; everything that scores an output calls these.

    Attributes:
        x: point estimate (b n p): real values, or int64 symbols for a discrete likelihood.  Where it is omitted, or a function
            without arguments, it is computed when it is first read.
        likelihood: how ``params`` are read; the reference of one ("gaussian") is accepted and replaced by the part.
        params: the likelihood's parameters by name, each broadcastable to (b n p) or (b n p k).
        mask: True at valid tokens (b n); None where all are valid.
        grid: layout of the n tokens: (height, width) of patches, (frames,), or (1,) for a vector.
        code_nll: -log p of what the decoder generated besides the data (b), nats an example, with gradient, such as that of a tree
            given the words so far; ``Model.score`` adds it to the example's nats.  None: nothing.
        has_point: whether there is a point estimate; where not, evaluators and galleries leave out what needs one.
    """

    x: PointEstimate = PointEstimate()
    likelihood: "Likelihood"
    params: dict[str, Tensor]
    mask: Bool[Tensor, "b n"] | None = None
    grid: tuple[int, ...] | None = None
    code_nll: Float[Tensor, " b"] | None = None
    has_point: bool = True

    def __post_init__(self) -> None:
        """Create the likelihood where its reference was given."""
        if isinstance(self.likelihood, str):
            from reprkit.registry.create import create

            object.__setattr__(self, "likelihood", create("likelihood", self.likelihood))

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(iter(self.params.values())).device if self.params else self.x.device

    def nll(self, target: Tensor, weight: Tensor | None = None) -> Float[Tensor, "b n"]:
        """Return the negative log-likelihood of ``target`` (b n p), nats a token; ``weight`` (b n p) scales each element's."""
        elements = self.likelihood.nll(self.params, target)
        return (elements if weight is None else elements * weight).sum(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Sample from the likelihood (b n p), in data units."""
        return self.likelihood.sample(self.params, generator)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses of one training step.

    Attributes:
        total: the weighted sum, on which ``backward`` is called.
        terms: name -> loss, detached and unweighted.
        metrics: name -> detached scalar.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)


for _record in (Features, Code, Codes, Decoded, Losses):
    torch.export.register_dataclass(_record)

__all__ = ["Batch", "Code", "Codes", "Decoded", "Features", "Losses", "replace"]
