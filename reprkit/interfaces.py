"""The contracts of the parts: Encoder, Latent, Decoder, Likelihood, Objective, Corruption, Evaluator.

A part is an ``nn.Module`` that records its constructor arguments, so it can be written as one line of JSON, saved and created
again.  ``build`` passes the arguments named in ``BUILD_CONTEXT`` to every constructor that has them; these are not recorded.

Shapes: ``b`` examples, ``n`` tokens an example, ``d`` channels, ``p`` data values a token, ``q`` index slots a token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit.errors import PartArgumentError
from reprkit.registry.constructors import wrap_constructor
from reprkit.registry.references import Reference
from reprkit.registry.sources import BUILD_CONTEXT
from reprkit.types import Batch, Code, Decoded, Features
from reprkit.utils import symbol_coder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from reprkit.data.base import Dataset
    from reprkit.data.signature import Field, Signature
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored

# A loss: a scalar, or a pair (sum, count) whose quotient is the loss.
Term = Tensor | tuple[Tensor, Tensor | float]

# How an objective reads a label field, see Objective.labels.
LabelUse = Literal["classes", "groups"]


class Part(nn.Module):
    """Base class of all parts: records constructor arguments and origin, and declares capabilities.

    Attributes:
        provides: capabilities that an objective may need: "keep" (an encoder that can read a subset of the tokens), "causal" (a
            decoder whose token t depends on earlier tokens only, and that takes ``teacher``), "queries" (see ``Decoder``),
            "tokenwise" (a decoder that decodes each token of the code by itself), "dense" (see ``Encoder``), "any_size" (an encoder
            or decoder of images of any size, see there), "log_prob" (a latent whose codes hold the log-probability of their draw,
            in training), "deviation" (a latent whose codes hold the standard deviation of a Gaussian draw around their mean),
            "tree" (an encoder or latent whose tokens have ``parents``, or a decoder that reads them), or a name that a plugin's own
            parts agree on.
        arguments: the constructor arguments that were passed, by name.
        build_context: the arguments of ``BUILD_CONTEXT`` that ``build`` passed, by name.  They are not the part's own arguments,
            but a checkpoint stores them, so that the part can be created again.
        qualified: ``distribution/name`` when the part was created from a reference, else None.
        renamed_arguments: former name -> present name of constructor arguments.  References and checkpoints that use a former
            name still work, with a DeprecationWarning.  It must be a literal, since it is also read from the source.
        former_defaults: argument -> its default in earlier versions, where that differs or the argument did not exist.  Checkpoints
            hold the values of these arguments from then on; older ones, without them, are loaded with the former defaults.
        added_state: names of buffers and parameters that a checkpoint or a saved state may lack, since earlier versions of the part
            did not have them; they then keep their initial values.
    """

    kind: ClassVar[str] = "part"
    provides: frozenset[str] = frozenset()
    arguments: Mapping[str, Any] = MappingProxyType({})  # a part without a constructor of its own has none
    build_context: Mapping[str, Any] = MappingProxyType({})
    qualified: str | None = None
    renamed_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})
    former_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    added_state: ClassVar[frozenset[str]] = frozenset()

    def bind(self, model: Model) -> None:
        """Take what depends on the other parts of the model: their weights, to tie them, or their widths.

        ``build`` calls it once for every part of a new model, before the optimizer exists: first for encoders, latents and the
        decoder, a part inside another before that one, then for the objective.  ``rk.load`` builds a model, so a tie made here
        holds there too.  A part that is given to another model is bound again and must then let go of the former one.
        """

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

    An encoder that provides "dense" has ``layers``, an ``nn.Sequential`` of ``nn.Linear`` maps and elementwise functions; its
    one token is what ``layers`` makes of the example, rescaled by ``layers.value_embedding.Rescale`` and flattened (b p).

    An encoder that provides "any_size" reads images (b h w c) of any height and width that are multiples of its cells', and gives
    one token for each cell, with ``grid``: a cell has as many pixels as in the images of the signature.

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

    def named_layers(self) -> dict[str, nn.Module]:
        """Return the layers by name, from input to output, for ``reprkit.evaluation.activations``.

        Every one is a module that ``forward`` calls, whose output (or the first of several) is (b d), (b n d) or (b d h w).  By
        default they are the members of the outermost sequences, ``nn.Sequential`` and ``nn.ModuleList``.
        """
        found: dict[str, nn.Module] = {}
        inside: list[str] = []
        for name, module in self.named_modules():
            if any(name.startswith(f"{outer}.") for outer in inside):
                continue
            if isinstance(module, nn.Sequential | nn.ModuleList):
                inside.append(name)
                found |= {f"{name}.{key}": child for key, child in module.named_children()}
        return found


class Latent(Part):
    """Turn features of width ``in_dim`` into a code of width ``out_dim``; masked tokens have no effect.

    ``data`` in the constructor is the signature of the data that the factor's encoder reads, as field ``x``.  A latent that
    provides "tree" sets ``Code.parents``; every other one keeps those of the features, by ``Code.of``.

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
        symbol_frequencies: the tables of ``frequencies`` (q v), int32; zeros, and not in the state dict, until they are set.  None
            for a continuous latent, and where a slot has too many entries for a table.
        collapse_floor: usage below which that warning is given, in [0, 1); 0 turns it off, for a latent that may be healthy
            with few of its codes in use.
        couples_examples: whether a loss compares the examples of a batch with each other (``token_statistics``), so that the
            pieces of ``accumulate=`` must be joined.
    """

    kind = "latent"
    added_state = frozenset({"symbol_frequencies"})
    couples_examples: bool = False
    active_variance: float | None = None
    collapse_hint: str | None = None
    symbol_frequencies: Tensor | None
    collapse_floor: float = 0.1

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
        tables = bool(vocab) and max(vocab or ()) <= symbol_coder.MAX_ENTRIES
        zeros = torch.zeros(len(vocab or ()), max(vocab or (0,)), dtype=torch.int32) if tables else None
        self.register_buffer("symbol_frequencies", zeros)

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
        raise PartArgumentError(
            f"{type(self).__name__} has no prior of its own; learn one over its codes: train a model on "
            "codes(model=DIR, data=...), and pass its folder, prior=DIR"
        )

    def log_prior(self, code: Code) -> Float[Tensor, "b n"]:
        """Return the log-probability of a code under ``prior``, nats a token; 0 at padded tokens.

        Raises:
            PartArgumentError: the latent has no prior of its own.
        """
        raise PartArgumentError(
            f"{type(self).__name__} has no prior of its own; learn one over its codes: train a model on "
            "codes(model=DIR, data=...), and pass its folder, prior=DIR"
        )

    def frequencies(self) -> Int[Tensor, "q v"] | None:
        """Return how often each symbol of each slot occurs, of 2^16; rows of smaller vocabularies end in zeros.

        They are whole numbers from the checkpoint, never computed anew: a float that another machine rounds differently would
        decode to noise.  None: no tables, and all symbols of a slot cost the same.
        """
        tables = self.symbol_frequencies
        return None if tables is None or not tables.any() else tables.long()

    @property
    def has_tables(self) -> bool:
        """Whether ``write`` has the tables it needs, a continuous latent none; without, all symbols of a slot cost the same."""
        return self.vocab is None or self.frequencies() is not None

    def zero_counts(self) -> Int[Tensor, "*c"]:
        """Return counts of no symbols: of each slot's symbols (q v), or what else a latent with its own ``write`` counts."""
        vocab = self.vocab or ()
        return torch.zeros(len(vocab), max(vocab, default=0), dtype=torch.int64)

    def count_symbols(self, code: Code, counts: Int[Tensor, "*c"]) -> None:
        """Add the symbols of the valid tokens to ``counts``, which ``zero_counts`` returned."""
        assert code.indices is not None
        symbols = code.indices.flatten(0, 1) if code.mask is None else code.indices[code.mask]
        for slot, column in enumerate(symbols.cpu().unbind(1)):
            counts[slot] += column.bincount(minlength=counts.shape[1])

    def table_bits(self, counts: Int[Tensor, "*c"]) -> float:
        """Return the bits of all counted symbols as ``write`` codes them: under the tables, or log2 of the vocabulary each."""
        tables = self.frequencies()
        if tables is None:
            return float((counts.sum(1).double() * torch.tensor(self.vocab).double().log2()).sum())
        return float((counts * (16 - tables.clamp(min=1).cpu().double().log2())).sum())

    @torch.no_grad()
    def set_frequencies(self, counts: Int[Tensor, "*c"]) -> None:
        """Set the tables of ``frequencies`` from ``counts``, those of ``count_symbols``; one is added to each count.

        Where a slot has more than 2^14 entries there are no tables, and nothing is set.

        Raises:
            PartArgumentError: the latent is continuous.
        """
        if self.vocab is None:
            raise PartArgumentError(f"{type(self).__name__} is continuous: it has no symbols to count")
        tables = self.symbol_frequencies
        if tables is None:
            return
        for slot, entries in enumerate(self.vocab):
            row = symbol_coder.to_frequencies(counts[slot, :entries].cpu().numpy())
            tables[slot, :entries] = torch.from_numpy(row).to(tables)

    @property
    def writes(self) -> bool:
        """Whether ``write`` gives bytes: a discrete latent, or one with a ``write`` and ``read`` of its own, such as a codec."""
        return self.vocab is not None or type(self).write is not Latent.write

    def write(self, code: Code) -> list[bytes]:
        """Encode the indices of each example's valid tokens as bytes, under ``frequencies``; a latent may write more.

        A continuous latent that writes bytes sets ``Code.payload`` in evaluation, and ``read`` gives the ``z`` of the code that was
        written, bit by bit.

        Raises:
            PartArgumentError: the latent is continuous.
        """
        if self.vocab is None or code.indices is None:
            raise PartArgumentError(
                f"{type(self).__name__} is continuous: only the indices of a discrete latent can be written as bytes, such as "
                "those of vq, residual-vq, one-hot or binary"
            )
        indices = code.indices.cpu()
        valid = torch.ones(indices.shape[:2], dtype=torch.bool) if code.mask is None else code.mask.cpu()
        rows = [symbols[kept].numpy() for symbols, kept in zip(indices, valid, strict=True)]
        return symbol_coder.encode_symbols(rows, self.vocab[: indices.shape[-1]], self._numpy_frequencies())

    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``.

        Args:
            strings: one for each example.
            like: a code with the layout of the result: the shape and type of ``z``, mask, grid, positions and length, and indices
                where the strings hold fewer slots than the latent has: then the first ones.

        Raises:
            PartArgumentError: the latent is continuous.
            CompressionError: a string holds more symbols than the layout, or was written under other tables.
        """
        if self.vocab is None:
            raise PartArgumentError(f"{type(self).__name__} is continuous: it has no indices to read")
        shape = like.z.shape[:2]
        valid = torch.ones(shape, dtype=torch.bool) if like.mask is None else like.mask.cpu()
        vocab = self.vocab if like.indices is None else self.vocab[: like.indices.shape[-1]]
        rows = symbol_coder.decode_symbols(strings, valid.sum(1).tolist(), vocab, self._numpy_frequencies())
        indices = torch.zeros(*shape, len(vocab), dtype=torch.int64)
        indices[valid] = torch.cat([torch.from_numpy(row) for row in rows])
        indices = indices.to(like.z.device)
        return Code.of(like, z=self.embed(indices).to(like.z), indices=indices)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.symbol_frequencies is not None and not self.symbol_frequencies.any():
            del destination[prefix + "symbol_frequencies"]

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing: list[str], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, *rest)
        name = prefix + "symbol_frequencies"
        if self.symbol_frequencies is not None and name not in state_dict:
            self.symbol_frequencies.zero_()
            if name in missing:
                missing.remove(name)

    def _numpy_frequencies(self) -> NDArray[np.int64] | None:
        tables = self.frequencies()
        return None if tables is None else tables.cpu().numpy()

    @property
    def has_prior(self) -> bool:
        """Whether ``prior`` can be called."""
        return type(self).prior is not Latent.prior

    @property
    def starts(self) -> bool:
        """Whether the next forward in training initializes the latent from its features, as k-means does.

        With ``accumulate=`` the loop then passes the whole batch through the model once, so that it does not depend on the pieces.
        """
        return False

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

    A decoder that provides "any_size" decodes a code of any ``features.grid`` (rows, columns) to an image whose size is in
    proportion: a cell has as many pixels as in the images of the signature.

    A decoder that provides "tree" reads ``features.parents``, and takes a right-branching tree where there are none:
    ``reprkit.layers.trees.tree_of(features)``.

    A decoder that has the map from the code itself, such as the transposed map of an encoder, sets ``needs_adapter = False``: it
    reads the code at its own width, and sets ``in_dim`` to that width in ``bind``.

    Attributes:
        in_dim: width of the code.
        needs_adapter: whether the core puts a linear map from the code's width to ``in_dim`` before the decoder.
        condition_dim: width of the condition; None for a decoder that takes no condition.
        cells: grid of the tokens that ``queries`` index; () for time steps of data whose length varies.
    """

    kind = "decoder"
    in_dim: int
    needs_adapter: bool = True
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


class Likelihood(Part):
    """Read the outputs of a decoder as a distribution over data values: every element of a token has one.

    A ``Head`` computes the outputs from a decoder's vectors and holds all weights, so a likelihood has none of its own.  ``k`` is a
    number of parameters of one element.  ``data`` in the constructor is the signature of the data, field ``x``.

    Attributes:
        discrete: the values are int64 symbols; ``params["logits"]`` (b n p k) are their unnormalized log-probabilities.
        density: ``nll`` is that of a density over all real numbers, so that it depends on the units of the data; ``log_mass`` gives
            the probability of an interval.
        support: the values that an element can take, for a probability over finitely many real numbers; else None.
    """

    kind = "likelihood"
    discrete: bool = False
    density: bool = False
    support: tuple[float, ...] | None = None

    def outputs(self) -> dict[str, int]:
        """Return what the head predicts for one element: name -> number of values; "linear" is always there.

        Each name is a linear map of the head; all but "linear" start at zero.
        """
        return {"linear": 1}

    def constants(self, values: int) -> dict[str, Tensor]:
        """Return the initial values of learned parameters that do not depend on the code, by name, such as a shared scale.

        Each has at least one axis.  ``values`` is the number of elements of a token (p).
        """
        return {}

    def params(
        self, outputs: Mapping[str, Float[Tensor, "b n p k"]], constants: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Turn the head's outputs and the learned constants into parameters, each broadcastable to (b n p) or (b n p k)."""
        raise NotImplementedError

    def nll(self, params: Mapping[str, Tensor], target: Tensor) -> Float[Tensor, "b n p"]:
        """Return the negative log-likelihood of each element of ``target`` (b n p): nats, constants included, float32 or more.

        It is finite, as is its gradient, for any target that the data may hold.
        """
        raise NotImplementedError

    def point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the point estimate (b n p) in data units: the mean of real values, the most likely symbol."""
        raise NotImplementedError

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw one sample (b n p) in data units; ``generator`` is on the parameters' device."""
        raise NotImplementedError

    def temper(self, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
        """Return the parameters at a temperature from 0: below 1 draws are closer to the most likely value; at 0 all are equal."""
        raise NotImplementedError

    def log_mass(self, params: Mapping[str, Tensor], low: Tensor, high: Tensor) -> Float[Tensor, "b n p"]:
        """Return the log-probability of ``low`` to ``high`` (b n p, may be infinite), nats an element; of densities only.

        Raises:
            PartArgumentError: the likelihood is not a density.
        """
        raise PartArgumentError(f"{type(self).__name__} is not a density: its values have probabilities")


class Objective(Part):
    """Define the training loss: corrupt, encode and decode a batch with the model, and return named losses.

    A loss is a scalar, or a pair (sum, count) that is normalized over ranks.  The convention is nats an example, so ``count`` is
    the number of examples.  ``model.record(name=value)`` records a metric.

    Attributes:
        needs: what the model must have: "encoder", "decoder", "keep", "causal", "indices", "log_prob", "deviation", "tree"; checked
            by ``build``.  "second-order": the loss holds a derivative of the model, so attention uses the math kernel.
        is_penalty: whether it cannot train a model alone; ``build`` then adds "reconstruction".
        turns: the kinds of training step; each may have its own optimizer.
        labels: the label fields that it reads itself, field -> use: "classes", where each class has weights, or "groups", where it
            only matters which examples have the same label.  In training, data whose classes the model knows by name is numbered
            as the model numbers them; a class that it does not know is refused for "classes".
        distributes: how the loss combines over ranks, and over the pieces of ``accumulate=``: "mean" (a sum over examples),
            "gather" (compares examples of all ranks, by ``reprkit.utils.collectives``), "statistic" (depends on the examples of
            all ranks through sums).
        several_outputs: whether an objective that needs a decoder trains all outputs of a model; if not, ``build`` refuses a
            model with several.
        decodes: what the decoder is trained to return, as a noun: "the data", or something else, such as "the noise of a
            diffusion"; ``Model.score`` then refuses to compare it with the data, outside of training.
        generates: whether it defines how the model generates, by ``sample``, instead of decoding codes drawn from a prior.
        term_weights: loss name -> weight in the total, for losses whose weight is not 1.
    """

    kind = "objective"
    several_outputs: bool = False
    is_penalty: ClassVar[bool] = False
    decodes: str = "the data"
    generates: ClassVar[bool] = False
    needs: frozenset[str] = frozenset()
    turns: tuple[str, ...] = ("main",)
    labels: Mapping[str, LabelUse] = MappingProxyType({})
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

    def reads(self, factors: Collection[str]) -> Collection[str]:
        """Return those of the model's factors whose codes the objective itself reads, so that no output has to read them."""
        return ()

    def fields(self, signature: Signature) -> Mapping[str, Field]:
        """Return the fields that the objective itself computes, such as a diffusion's time: name -> field.

        ``build`` adds them to the data's signature before any encoder is made, so that a factor can read them
        (``rk.factor("mlp", input="time")``).  The data has none of them: in training the objective puts them into the views that it
        encodes, and otherwise ``fill`` adds them.
        """
        return {}

    def fill(self, batch: Batch) -> Batch:
        """Return the batch with those of its own ``fields`` that it lacks, (b ...) each; the batch itself is not changed.

        ``Model.encode`` calls it, so that a trained model encodes plain data, always in the same way.
        """
        return batch

    def in_data_units(self, scored: Scored) -> Scored:
        """Return an output that was scored outside of training, with likelihood and point estimate in units of the data.

        An objective that trains the decoder on transformed targets, such as normalized patches, overrides it; ``scored.decoded`` is
        what the decoder returned, and target and weight stay as they are.
        """
        return scored

    def joint_vectors(self, model: Model, batch: Batch, factor: str) -> Float[Tensor, "b d"] | None:
        """Return the vectors (b d) of a factor in a space that it shares with others; None where the objective has no such space.

        One that compares factors with each other through maps of its own, such as ``across``, overrides it.
        """
        return None

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return arguments of ``rk.build`` for a small model with this objective, on which the conformance kit checks it.

        For an objective that needs more than one factor or another field than ``x``: ``factors``, ``encoder``, ``latent``,
        ``decoder`` (of an objective that prescribes its outputs a mapping of ``rk.output``), ``output``, and ``data``, a signature
        with further fields, of which the kit makes random batches.  What is not named is the kit's default.

        Raises:
            BuildError: there is no such model on this data.
        """
        return {}

    def bind(self, model: Model) -> None:
        """Create heads and critics whose width depends on the model; called once by ``build``, before the optimizer exists."""

    def update(self) -> None:
        """Change statistics, annealing and the like; called on all ranks after every optimizer step, once a step.

        A forward in training must not change what a later forward of the same step returns: with ``accumulate=`` and closures a
        step has several.
        """

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch, by name."""
        raise NotImplementedError

    def sample(
        self,
        model: Model,
        size: int,
        generator: torch.Generator | None = None,
        *,
        like: Batch | None = None,
        **options: Any,
    ) -> Decoded:
        """Return ``size`` new examples (b n p); ``model.sample`` calls it where ``generates`` is set, with all its options.

        Args:
            model: the model, whose weights are used in evaluation mode.
            size: number of examples.
            generator: random generator on the model's device, from which alone the draws come.
            like: a batch (size ...) with the fields of conditions, such as labels, and with lengths, where these vary.
            options: of the objective.

        Raises:
            PartArgumentError: it does not generate, or an option that it does not have.
        """
        raise PartArgumentError(f"{type(self).__name__} defines no sampler: draw codes from a prior instead")


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
