"""The contracts of the parts: Encoder, Latent, Decoder, Objective, Corruption, Evaluator.

A part is an ``nn.Module`` that records its constructor arguments, so it can be written as one line of JSON, saved and created
again.  ``build`` passes the arguments named in ``BUILD_CONTEXT`` to every constructor that has them; these are not recorded.

Shapes: ``b`` examples, ``n`` tokens an example, ``d`` channels, ``p`` data values a token, ``q`` index slots a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit.errors import PartArgumentError
from reprkit.registry.constraints import wrap_constructor
from reprkit.registry.references import Reference
from reprkit.registry.sources import BUILD_CONTEXT
from reprkit.types import Batch, Code, Decoded, Features

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

# A loss: a scalar, or a pair (sum, count) whose quotient is the loss.
Term = Tensor | tuple[Tensor, Tensor | float]


class Part(nn.Module):
    """Base class of all parts: records constructor arguments and origin, and declares capabilities.

    Attributes:
        provides: capabilities that an objective may need: "keep" (an encoder that can read a subset of the tokens), "causal" (a
            decoder whose token t depends on earlier tokens only, and that takes ``teacher``), "queries" (see ``Decoder``),
            "log_prob" (a latent whose codes hold the log-probability of their draw, in training), or a name that a plugin's
            own parts agree on.
        arguments: the constructor arguments that were passed, by name.
        build_context: the arguments of ``BUILD_CONTEXT`` that ``build`` passed, by name.  They are not the part's own arguments,
            but a checkpoint stores them, so that the part can be created again.
        qualified: ``distribution/name`` when the part was created from a reference, else None.
        renamed_arguments: former name -> present name of constructor arguments.  References and checkpoints that use a former
            name still work, with a DeprecationWarning.  It must be a literal, since it is also read from the source.
    """

    kind: ClassVar[str] = "part"
    provides: frozenset[str] = frozenset()
    arguments: Mapping[str, Any] = MappingProxyType({})  # a part without a constructor of its own has none
    build_context: Mapping[str, Any] = MappingProxyType({})
    qualified: str | None = None
    renamed_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the constructor so that it checks and records its arguments."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = wrap_constructor(cls.__init__, skip=BUILD_CONTEXT, record=_record)  # type: ignore[method-assign]

    @property
    def reference(self) -> Reference:
        """The reference that creates this part again, with its distribution where that is known."""
        distribution, _, name = (self.qualified or type(self).__name__).rpartition("/")
        arguments = {name: _to_literal(value) for name, value in self.arguments.items()}
        return Reference(name, arguments, distribution or None)

    @contextmanager
    def error_context(self, where: str = "") -> Iterator[None]:
        """Add a note that names this part to any error raised inside the context."""
        try:
            yield
        except Exception as error:
            note = f"in {self.kind} {self.qualified or type(self).__qualname__}{where}"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise


def _to_literal(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_to_literal(item) for item in value)
    return str(value.reference) if isinstance(value, Part) else value


def _record(part: Part, passed: Mapping[str, Any]) -> None:
    object.__setattr__(part, "arguments", {k: v for k, v in passed.items() if k not in BUILD_CONTEXT})
    context = {k: v for k, v in passed.items() if k in BUILD_CONTEXT and v is not None}
    object.__setattr__(part, "build_context", context)


def require(condition: bool, message: str) -> None:
    """Raise PartArgumentError with ``message`` unless ``condition`` holds.

    Parts use it for arguments that depend on each other.  The range of a single argument is declared by its annotation: see
    ``reprkit.registry.constraints``.
    """
    if not condition:
        raise PartArgumentError(message)


class Encoder(Part):
    """Encode field ``x`` of a batch (with ``x_mask`` where lengths vary) as Features of width ``out_dim``.

    ``x`` is the field that the factor's ``input`` names.  An encoder should not end in a bare linear layer, since the core puts a
    linear adapter between encoder and latent.

    An encoder that can be conditioned on another factor (``rk.factor(..., condition="speaker")``) sets ``condition_dim`` and
    accepts ``condition=`` (b condition_dim): that factor's code after a linear adapter of the core.  It must also work without.

    Attributes:
        out_dim: width of the features.
        condition_dim: width of the condition; None for an encoder that takes no condition.
    """

    kind = "encoder"
    out_dim: int
    condition_dim: int | None = None

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return features (b n d); with ``keep``, the indices of the tokens to read, (b k d) with ``positions`` and ``length``."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """Return the number of tokens of an example of this batch (n), without encoding it."""
        raise NotImplementedError

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return the layout of those tokens over the data: (rows, columns), (frames,), or (1,)."""
        raise NotImplementedError


class Latent(Part):
    """Turn features of width ``in_dim`` into a code of width ``out_dim``; masked tokens have no effect.

    Losses are in nats where that has a meaning, **summed over an example's valid tokens and dimensions and averaged over
    examples**, so that they can be added to the negative log-likelihood of a reconstruction.

    Attributes:
        in_dim: width of the features.
        out_dim: width of the code.
        vocab: None for a continuous latent, else the number of entries of each index slot.
        weights: loss name -> default weight; 1 for a loss that is not named.
        precision: "float32" (the core calls the latent outside of autocast) or "any".
        active_variance: for continuous latents, the variance over the data above which a dimension counts as used; None means
            one hundredth of the largest dimension's.
        collapse_hint: what to try when hardly any of the latent is in use, as a clause: the collapse warning ends
            "Try <collapse_hint>."
        couples_examples: whether a loss compares the examples of a batch with each other (``token_statistics``), so that the
            pieces of ``accumulate=`` must be joined.
    """

    kind = "latent"
    couples_examples: bool = False
    active_variance: float | None = None
    collapse_hint: str | None = None

    def __init__(
        self,
        *,
        in_dim: int,
        out_dim: int,
        vocab: tuple[int, ...] | None = None,
        weights: Mapping[str, float] | None = None,
        precision: Literal["float32", "any"] = "float32",
    ) -> None:
        super().__init__()
        require(
            in_dim > 0 and out_dim > 0,
            f"a latent needs positive widths, not in_dim={in_dim}, out_dim={out_dim}",
        )
        self.in_dim, self.out_dim, self.vocab = in_dim, out_dim, vocab
        self.weights = dict(weights or {})
        self.precision = precision

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n in_dim); deterministic in evaluation mode."""
        raise NotImplementedError

    def count(self, tokens: int) -> int:
        """Return the number of tokens of the code of ``tokens`` tokens; it differs where the latent generates its own sequence.

        Such a code has its own mask, and ``grid=()``: its tokens correspond to no positions of the data.
        """
        return tokens

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the code that these indices stand for; equals ``z`` in evaluation mode.

        Raises:
            PartArgumentError: the latent is continuous, so it has no indices.
        """
        raise PartArgumentError(f"{type(self).__name__} is continuous: it has no indices to embed")

    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Sample codes of ``shape`` (b, n) from the latent's prior.

        Raises:
            PartArgumentError: the latent has no prior of its own.
        """
        raise PartArgumentError(f"{type(self).__name__} has no prior of its own; learn one over its codes")

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Return the log-probability of a code under ``prior``, nats a token; 0 at padded tokens.

        Raises:
            PartArgumentError: the latent has no prior of its own.
        """
        raise PartArgumentError(f"{type(self).__name__} has no prior of its own; learn one over its codes")

    @property
    def has_prior(self) -> bool:
        """Whether ``prior`` can be called."""
        return type(self).prior is not Latent.prior

    def update(self) -> None:
        """Update codebook statistics, annealing and the like; called on all ranks after every optimizer step."""


class Decoder(Part):
    """Turn a code of width ``in_dim`` into a likelihood of field ``x``: (b n p), cut into tokens by ``Decoded.grid``.

    The core puts a linear adapter before it, so it may begin with a nonlinearity or a block.  A causal decoder reads ``teacher``
    (the target, (b n p)) shifted by one token, works without a code, and implements ``start`` and ``step`` for fast sampling.

    A decoder that provides "queries" takes ``queries=`` (b m), indices of its tokens, and returns the likelihood of these tokens
    only (b m p), equal to their likelihood when all are decoded.  The indices count over the grid ``cells``, or over time steps
    where it is ().  The objectives masked and denoising query the hidden tokens.

    A decoder that sets ``condition_dim`` takes ``condition=`` (b condition_dim), also in ``start``: the codes of the pooled
    factors (``pool=True``) after the core's adapters, summed, in a model whose other factors have more tokens.  It must also work
    without.

    Attributes:
        in_dim: width of the code.
        condition_dim: width of the condition; None for a decoder that takes no condition.
        cells: grid of the tokens that ``queries`` index; () for time steps of data whose length varies.
    """

    kind = "decoder"
    in_dim: int
    condition_dim: int | None = None
    cells: tuple[int, ...]

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the data given the code and, if causal, given the earlier tokens of ``teacher``."""
        raise NotImplementedError

    def start(self, features: Features | None, *, size: int, length: int) -> Any:
        """Return the initial state (a pytree) for generating ``size`` sequences of ``length`` tokens; causal decoders only."""
        raise PartArgumentError(f"{type(self).__name__} is not causal: it decodes all tokens at once")

    def step(self, previous: Tensor | None, state: Any) -> tuple[Decoded, Any]:
        """Return the likelihood of the next token given the ``previous`` one (b 1 p; None at the first), and the next state."""
        raise PartArgumentError(f"{type(self).__name__} is not causal: it decodes all tokens at once")


class Objective(Part):
    """Define the training loss: corrupt, encode and decode a batch with the model, and return named losses.

    A loss is a scalar, or a pair (sum, count) that is normalized over ranks.  The convention is nats an example, so ``count`` is
    the number of examples.  ``model.record(name=value)`` records a metric.

    Attributes:
        needs: what the model must have: "encoder", "decoder", "keep", "causal", "indices"; checked by ``build``.  "second-order":
            the loss holds a derivative of the model, so attention uses the math kernel.
        penalty: whether it cannot train a model alone; ``build`` then adds "reconstruction".
        turns: the kinds of training step; each may have its own optimizer.
        distributes: how the loss combines over ranks, and over the pieces of ``accumulate=``: "mean" (a sum over examples),
            "gather" (compares examples of all ranks, by ``reprkit.utils.collectives``), "statistic" (depends on the examples of
            all ranks through sums).
        term_weights: loss name -> weight in the total, for losses whose weight is not 1.
    """

    kind = "objective"
    penalty: ClassVar[bool] = False
    needs: frozenset[str] = frozenset()
    turns: tuple[str, ...] = ("main",)
    distributes: Literal["mean", "gather", "statistic"] = "mean"
    term_weights: Mapping[str, float] = MappingProxyType({})

    @property
    def members(self) -> tuple[Objective, ...]:
        """The objectives of a sum, none of them a sum itself; a single objective is its own only member."""
        return (self,)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each of ``members`` in the sum, from 0; (1.0,) for a single objective."""
        return (1.0,)

    @property
    def title(self) -> str:
        """The name in error messages: those of the members, ``reprkit/reconstruction + acme/mine``."""
        return " + ".join(member.qualified or type(member).__name__ for member in self.members)

    @property
    def expression(self) -> str:
        """The objective as a user writes it: a reference, or a weighted sum of references."""
        terms = zip(self.weights, self.members, strict=True)
        return " + ".join(
            ("" if weight == 1 else f"{weight:g} * ") + str(member.reference) for weight, member in terms
        )

    def bind(self, model: Model) -> None:
        """Create heads and critics whose width depends on the model; called once by ``build``, before the optimizer exists."""

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch, by name."""
        raise NotImplementedError


class Corruption(Part):
    """Corrupt field ``x`` of a batch."""

    kind = "corruption"

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return a copy of the batch with ``x`` corrupted, and ``hit``: bool of x's shape, True at the corrupted elements."""
        raise NotImplementedError


class Evaluator(Part):
    """Measure a model on a data set, without training it."""

    kind = "evaluator"

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return floats by name; the key ``figures`` may hold matplotlib-ready arrays for the report.

        Args:
            model: the model to measure.
            data: the examples to measure on.
            fit_on: the examples on which probes and the like are fitted.
        """
        raise NotImplementedError
