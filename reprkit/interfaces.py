"""The contracts of the parts: Encoder, Latent, Decoder, Objective, Corruption, Evaluator.

Each is an ``nn.Module`` whose constructor arguments are recorded, so any part can be written as one line of JSON, saved and made
again.  Arguments named in ``BUILD_CONTEXT`` are handed over by ``build`` when the constructor has them, and are never recorded.
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
from reprkit.types import Batch, Code, Decoded, Features

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

# What ``build`` tells a part whose constructor asks: the data's signature (its own field called ``x``), and how many
# tokens an example has when it reaches a decoder (None: it varies).
BUILD_CONTEXT = ("data", "tokens")

Term = Tensor | tuple[Tensor, Tensor | float]


class Part(nn.Module):
    """What every part shares: recorded constructor arguments, where it came from, and what it can do.

    Attributes:
        provides: abilities that an objective may ask for: "keep" (an encoder that reads only some tokens), "causal" (a
            decoder whose token t depends on earlier tokens only, and that takes ``teacher``), "queries" (see ``Decoder``),
            "log_prob" (a latent whose codes tell that of their draw, in training), or one that a plugin's own parts agree on.
        arguments: the constructor arguments that were given, by name.
        facts: what ``build`` handed over of ``BUILD_CONTEXT``; not arguments of the part's own, but a checkpoint needs them.
        qualified: ``distribution/name`` when it was made from a reference, else None.
        renamed_arguments: former name -> present name of constructor arguments; references and checkpoints that use a former name
            still work, with a DeprecationWarning.  A literal, since it is also read from the source.
    """

    kind: ClassVar[str] = "part"
    provides: frozenset[str] = frozenset()
    arguments: Mapping[str, Any] = MappingProxyType({})  # a part without a constructor of its own has none
    facts: Mapping[str, Any] = MappingProxyType({})
    qualified: str | None = None
    renamed_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the constructor so that it checks and records what it was given."""
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = wrap_constructor(cls.__init__, skip=BUILD_CONTEXT, record=_record)  # type: ignore[method-assign]

    @property
    def reference(self) -> Reference:
        """The reference that makes this part again, qualified where that is known."""
        distribution, _, name = (self.qualified or type(self).__name__).rpartition("/")
        given = {name: _literal(value) for name, value in self.arguments.items()}
        return Reference(name, given, distribution or None)

    @contextmanager
    def error_context(self, where: str = "") -> Iterator[None]:
        """Add to any error raised inside one note that says in which part it was."""
        try:
            yield
        except Exception as error:
            note = f"in {self.kind} {self.qualified or type(self).__qualname__}{where}"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise


def _literal(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_literal(each) for each in value)
    return str(value.reference) if isinstance(value, Part) else value


def _record(part: Part, given: Mapping[str, Any]) -> None:
    object.__setattr__(part, "arguments", {k: v for k, v in given.items() if k not in BUILD_CONTEXT})
    facts = {k: v for k, v in given.items() if k in BUILD_CONTEXT and v is not None}
    object.__setattr__(part, "facts", facts)


def require(condition: bool, message: str) -> None:
    """Raise PartArgumentError with ``message`` unless ``condition`` holds: how parts check arguments that depend on each other.

    What is asked of one argument alone stands in its annotation: see ``reprkit.registry.constraints``.
    """
    if not condition:
        raise PartArgumentError(message)


class Encoder(Part):
    """Reads field ``x`` of a batch (and ``x_mask`` where lengths vary) and returns Features of width ``out_dim``.

    ``x`` is whichever field the factor's ``input`` names.  An encoder ends in features, not in a bare linear layer: the core
    puts a linear adapter between it and the latent.


    An encoder that can be told of another factor (``rk.factor(..., condition="speaker")``) sets ``condition_dim`` and takes
    ``condition=`` (b condition_dim), that factor's code through a linear adapter of the core; it works without one, too.
    """

    kind = "encoder"
    out_dim: int
    condition_dim: int | None = None

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Features (b n d), or (b k d) with ``positions`` and ``length`` when ``keep`` names the tokens to read."""
        raise NotImplementedError

    def count(self, batch: Batch) -> int:
        """How many tokens an example of this batch has (n), before encoding it."""
        raise NotImplementedError

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """How those tokens lie over the data: (rows, columns), (frames,), or (1,)."""
        raise NotImplementedError


class Latent(Part):
    """Turns features of width ``in_dim`` into a code of width ``out_dim``; masked tokens change nothing.

    Losses are in nats where that has a meaning, **summed over an example's valid tokens and dimensions and averaged over
    examples**, so that they add to a reconstruction's negative log-likelihood; ``weights`` gives their default weights (1 where
    not named).

    Attributes:
        vocab: None for a continuous latent, else the number of entries of each index slot.
        precision: "float32" (the core calls it outside of autocast) or "any".
        active_variance: for continuous latents, the variance over the data above which a dimension counts as used; None means
            one hundredth of the largest dimension's.
        remedy: what to try when hardly any of it is in use, as a clause: the collapse warning ends "Try <remedy>."
    """

    kind = "latent"
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
        """The code of features (b n in_dim); in evaluation it is deterministic."""
        raise NotImplementedError

    def count(self, tokens: int) -> int:
        """How many tokens the code of ``tokens`` tokens has; another number where the latent writes a sequence of its own.

        Such a code brings its own mask, and ``grid=()``: its tokens lie nowhere over the data.
        """
        return tokens

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """The code that these indices stand for; equals ``z`` in evaluation.

        Raises:
            PartArgumentError: the latent is continuous, so it has no indices.
        """
        raise PartArgumentError(f"{type(self).__name__} is continuous: it has no indices to embed")

    def prior(
        self, shape: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b n d"]:
        """Codes drawn from the latent's prior, for ``shape`` (b, n).

        Raises:
            PartArgumentError: the latent has no prior of its own.
        """
        raise PartArgumentError(f"{type(self).__name__} has no prior of its own; learn one over its codes")

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Log-probability of a code under ``prior``, nats a token; zero at padded tokens.

        Raises:
            PartArgumentError: the latent has no prior of its own.
        """
        raise PartArgumentError(f"{type(self).__name__} has no prior of its own; learn one over its codes")

    @property
    def has_prior(self) -> bool:
        """Whether ``prior`` can be called."""
        return type(self).prior is not Latent.prior

    def update(self) -> None:
        """Called once an optimiser step, after the gradients were applied, on all ranks: codebook statistics, annealing."""


class Decoder(Part):
    """Turns a code of width ``in_dim`` into a likelihood of field ``x``: (b n p), cut by ``Decoded.grid``.

    The core puts a linear adapter before it, so it may begin with a nonlinearity or a block.  A causal decoder reads ``teacher``
    (the target, (b n p)) shifted by one token, works without a code, and has ``start`` and ``step`` for fast sampling.

    A decoder that provides "queries" takes ``queries=`` (b m), indices of its tokens, and gives the likelihood of these tokens
    (b m p), equal to theirs among all; ``cells`` is the grid in which they count, () where they are the steps of data whose length
    varies.  The objectives masked and denoising ask for what is hidden.

    A decoder with a ``condition_dim`` takes ``condition=`` (b condition_dim), in ``start`` too: the codes of the factors of one
    token (``pool=True``), where others have more, through the core's adapters and summed.  It works without one, too.
    """

    kind = "decoder"
    in_dim: int
    condition_dim: int | None = None
    cells: tuple[int, ...]

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """The likelihood of the data given the code, and given the earlier tokens of ``teacher`` where causal."""
        raise NotImplementedError

    def start(self, features: Features | None, *, size: int, length: int) -> Any:
        """The state (a pytree) from which ``size`` sequences of ``length`` tokens are generated; causal decoders only."""
        raise PartArgumentError(f"{type(self).__name__} is not causal: it decodes all tokens at once")

    def step(self, previous: Tensor | None, state: Any) -> tuple[Decoded, Any]:
        """The likelihood of the next token given the ``previous`` one (b 1 p; None at the first), and the next state."""
        raise PartArgumentError(f"{type(self).__name__} is not causal: it decodes all tokens at once")


class Objective(Part):
    """Drives the model: corrupts, encodes, decodes and returns named losses.

    A loss is a scalar, or a pair (sum, count) that is normalised over ranks: its convention is nats an example, so ``count`` is
    the number of examples.  ``model.record(name=value)`` notes a metric.

    Attributes:
        needs: what it asks of the model: "encoder", "decoder", "keep", "causal", "indices"; checked at build.
        turns: the kinds of step it has; each turn may have its own optimiser.
        distributes: "mean" (a sum over examples), "gather" (compares examples of all ranks), "statistic".
        term_weights: loss name -> weight in the total, of those that have another weight than 1.
    """

    kind = "objective"
    needs: frozenset[str] = frozenset()
    turns: tuple[str, ...] = ("main",)
    distributes: Literal["mean", "gather", "statistic"] = "mean"
    term_weights: Mapping[str, float] = MappingProxyType({})

    @property
    def members(self) -> tuple[Objective, ...]:
        """The objectives that it is the sum of, none of them a sum; a single objective's only member is itself."""
        return (self,)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each of ``members`` in the sum, from 0; (1.0,) for a single objective."""
        return (1.0,)

    @property
    def title(self) -> str:
        """How errors name it: by the names of its members, ``reprkit/reconstruction + acme/mine``."""
        return " + ".join(each.qualified or type(each).__name__ for each in self.members)

    @property
    def expression(self) -> str:
        """As one would write it: a reference, or a weighted sum of references."""
        terms = zip(self.weights, self.members, strict=True)
        return " + ".join(
            ("" if weight == 1 else f"{weight:g} * ") + str(each.reference) for weight, each in terms
        )

    def bind(self, model: Model) -> None:
        """Called once at build, before the optimiser is made: make heads and critics of the right width here."""

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The losses of one batch, by name."""
        raise NotImplementedError


class Corruption(Part):
    """Damages field ``x`` of a batch."""

    kind = "corruption"

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The batch with ``x`` damaged, and ``hit``: Bool of x's shape, True where it was.  The input batch is left alone."""
        raise NotImplementedError


class Evaluator(Part):
    """Measures a model on a data set, without training it."""

    kind = "evaluator"

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Floats by name; whatever it fits is fitted on ``fit_on``.  ``figures`` holds matplotlib-ready arrays for the report."""
        raise NotImplementedError
