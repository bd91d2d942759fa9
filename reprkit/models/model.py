"""The model: factors, a decoder and an objective, for training and for inference."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.data.checks import check_batch
from reprkit.data.raw_input import as_batch
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Latent, Objective, require
from reprkit.models.exchange import Form, as_codes, codes_to, decoded_to, require_form, values_to, vectors_to
from reprkit.models.factor import (
    Factor,
    Factors,
    find_conditioning_factors,
    make_adapters,
    masked_mean,
    order_by_condition,
    resolve_factor,
)
from reprkit.models.forward_cache import (
    ForwardCache,
    apply_weight,
    check_weights,
    make_unique_name,
    normalize_over_ranks,
)
from reprkit.models.freezing import find_frozen_modules, freeze_weights
from reprkit.models.grid import from_tokens, fuse, to_tokens
from reprkit.models.isolation import isolate
from reprkit.models.loss_weights import parse_weights
from reprkit.models.output import Output, field_of, missing_output
from reprkit.models.part_table import model_html, model_text
from reprkit.models.scoring import Scored, score_output
from reprkit.types import Batch, Code, Codes, Decoded, Features, Losses
from reprkit.utils.collectives import pieces_apart

if TYPE_CHECKING:
    from pathlib import Path

    from reprkit.data.base import Dataset


class Model(nn.Module):
    """Encoder → latent → decoder, with one or more factors, trained by an objective.  Created by ``rk.build`` or ``rk.load``.

    Training calls only ``forward``, so that DDP and FSDP see every use of the weights; a trained model is used through
    ``encode``, ``decode``, ``represent``, ``reconstruct``, ``sample`` and ``generate``.  With ``to="numpy"``, ``"torch"`` or
    ``"pandas"`` the first four return plain values without gradients, in evaluation mode and in the data's own units; without
    ``to`` they return what training needs.

    Attributes:
        computed_fields: names of the signature's fields that the objective computes: batches of the data lack them.
    """

    def __init__(
        self,
        factors: Mapping[str, Factor],
        decoder: Decoder | Mapping[str, tuple[Decoder, str, tuple[str, ...]]] | None,
        objective: Objective,
        *,
        signature: Signature | None = None,
        output: str = "x",
        weights: Mapping[str, float | str] | None = None,
    ) -> None:
        super().__init__()
        self.factors = Factors(factors)
        self.signature = signature
        # Of several outputs: name -> field and factors.  The modules of a single one have the names "decoder" and "adapters".
        self._layouts: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._output = output
        self.adapters = nn.ModuleDict()
        if isinstance(decoder, Mapping):
            self.decoders = nn.ModuleDict()
            for name, (part, field, reads) in decoder.items():
                self._layouts[name] = field, reads
                self.decoders[name] = part
                self.adapters[name] = nn.ModuleDict(make_adapters({n: factors[n] for n in reads}, part))
        else:
            if decoder is not None:
                nn.Module.__setattr__(self, "decoder", decoder)  # registers the module behind the property
                self.adapters.update(make_adapters(factors, decoder))
        self.weights = dict(weights or {})
        self._loss_weights = parse_weights(self.weights)
        self.updates = 0  # optimizer steps so far, which schedules of weights count; a saved state keeps it
        self._forward_cache: ForwardCache | None = None
        self._seen_data = self._named_losses = False
        self.frozen: tuple[str, ...] = ()
        # Names of the parameters that freeze has set to need no gradient.
        self._frozen_weights: frozenset[str] = frozenset()
        self.objective = objective
        self.computed_fields = frozenset() if signature is None else frozenset(objective.fields(signature))

    def __repr__(self) -> str:
        """Return a table of the parts with their widths and parameters; ``print(model.factors)`` shows modules."""
        return model_text(self)

    def _repr_html_(self) -> str:
        """Return the table of the parts, for a notebook."""
        return model_html(self)

    # ------------------------------------------------------------------ using a model

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        for factor in self.factors.values():  # every factor has an adapter: no search in every step
            if isinstance(factor.adapter, nn.Linear):
                return factor.adapter.weight.device
        return next(iter(self.parameters()), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights: float32, or float64 after training with ``precision="fp64"``."""
        for factor in self.factors.values():
            if isinstance(factor.adapter, nn.Linear):
                return factor.adapter.weight.dtype
        return next(iter(self.parameters()), torch.empty(0)).dtype

    @property
    def data_fields(self) -> frozenset[str]:
        """The names of the fields that factors read and outputs return."""
        outputs = (each.field_name for each in self.outputs.values())
        return frozenset((*(factor.input for factor in self.factors.values()), *outputs))

    def latent(self, factor: str | None = None) -> Latent:
        """Return the latent of a factor; without a name, that of the only factor."""
        return self._factor(factor).latent

    @property
    def has_named_outputs(self) -> bool:
        """Whether the outputs were given by name; if not, the model has one decoder or none."""
        return bool(self._layouts)

    @property
    def outputs(self) -> dict[str, Output]:
        """The outputs by name: decoder, the maps before it, and the field that it returns; {} without a decoder."""
        if self._layouts:
            return {name: self.get_output(name) for name in self._layouts}
        return {} if self.decoder is None else {self._output: self.get_output(self._output)}

    def get_output(self, output: str | None = None) -> Output:
        """Return one output; without a name, the only one.

        Raises:
            BuildError: no decoder, no such output, or several and none was named.
        """
        cache = self._forward_cache
        if cache is None:
            return self._find_output(output)
        if output not in cache.outputs:  # one step asks several times
            cache.outputs[output] = self._find_output(output)
        return cache.outputs[output]

    def _find_output(self, output: str | None) -> Output:
        if not self._layouts:
            decoder = self.decoder
            if decoder is not None and output in (None, self._output):
                return self._single_output(decoder)
            raise missing_output(() if decoder is None else (self._output,), output, self.objective.title)
        name = next(iter(self._layouts)) if output is None and len(self._layouts) == 1 else output
        if name not in self._layouts:
            raise missing_output(self._layouts, name, self.objective.title)
        field, reads = self._layouts[name]
        part = cast("Decoder", self.decoders[name])
        return Output(
            name=name,
            field_name=field,
            decoder=part,
            adapters=cast("nn.ModuleDict", self.adapters[name]),
            reads=reads,
            conditioning=find_conditioning_factors({n: self.factors[n] for n in reads}, part),
            signature=self.signature,
        )

    def _single_output(self, decoder: Decoder) -> Output:
        return Output(
            name=self._output,
            field_name=self._output,
            decoder=decoder,
            adapters=self.adapters,
            reads=tuple(self.factors),
            conditioning=find_conditioning_factors(dict(self.factors.items()), decoder),
            signature=self.signature,
        )

    @property
    def decoder(self) -> Decoder | None:
        """The decoder of a model with one output; None without a decoder.

        Raises:
            BuildError: the model has several outputs.
        """
        if self._layouts:
            return self.get_output().decoder
        found = (child for name, child in self.named_children() if name == "decoder")
        return cast("Decoder | None", next(found, None))

    @property
    def output(self) -> str:
        """The field of the data that the only decoder returns.

        Raises:
            BuildError: the model has several outputs.
        """
        return self.get_output().field_name if self._layouts else self._output

    def get_decoder(self, output: str | None = None) -> Decoder:
        """Return the decoder of an output, or raise where the model has none (the attribute ``decoder`` is then None).

        Raises:
            BuildError: see ``get_output``.
        """
        return self.get_output(output).decoder

    @property
    def output_field(self) -> Field:
        """The field of the data that the only decoder reconstructs: its kind, shape, vocabulary and range.

        Raises:
            BuildError: the model was built without ``data=``, or has several outputs (see ``get_output(name).field``).
        """
        return field_of(self.signature, self.output)

    @overload
    def encode(
        self,
        batch: Batch,
        *,
        keep: Tensor | None = None,
        factors: Sequence[str] | None = None,
        any_length: bool = False,
        draws: int = 1,
        in_range: bool = True,
        to: None = None,
    ) -> Codes: ...

    @overload
    def encode(
        self,
        batch: Any,
        *,
        keep: Tensor | None = None,
        factors: Sequence[str] | None = None,
        any_length: bool = False,
        draws: int = 1,
        in_range: bool = True,
        to: Literal["numpy", "torch"],
    ) -> dict[str, Any]: ...

    def encode(
        self,
        batch: Any,
        *,
        keep: Tensor | None = None,
        factors: Sequence[str] | None = None,
        any_length: bool = False,
        draws: int = 1,
        in_range: bool = True,
        to: Literal["numpy", "torch"] | None = None,
    ) -> Codes | dict[str, Any]:
        """Encode a batch: return its codes by factor.  The batch is moved to the model's device.

        Args:
            batch: what the data set yields; or an array, a DataFrame, pictures or their files, see
                ``reprkit.data.raw_input.as_batch``.
            keep: indices of the tokens to read (b k); the encoders must provide "keep".
            factors: names of the factors to encode; all by default.
            any_length: accept sequences longer or shorter than those of the signature, if the encoders can read them, and images of
                other sizes, if the encoders provide "any_size".
            draws: codes of each example, k: the code has b*k rows, an example's in a row, of independent draws of a random
                latent in training; in evaluation they are equal.  Encoders run once, unless another factor conditions them.
            in_range: whether the values are the data's own, which are in the field's range or vocabulary and finite; others are
                refused, as in training.  False for corrupted, noisy or decoded values: these may leave the range by up to 8 times
                its width, and hold the mask symbol and NaN; values of another scale, 0 to 255 instead of 0 to 1, are refused.
            to: "numpy" or "torch": plain arrays by factor, without gradients and in evaluation mode: indices (b n q) of a discrete
                latent, else vectors (b n d).  ``decode`` reads them.

        Raises:
            DataError: the batch does not have the shapes, types and values of the signature.
            PartArgumentError: fewer than one draw, or an unknown ``to``.
        """
        require(draws >= 1, f"encode takes draws of at least 1, not {draws}")
        if to is not None:
            with torch.no_grad(), isolate(self, 0):
                codes = self.encode(
                    batch, keep=keep, factors=factors, any_length=any_length, draws=draws, in_range=in_range
                )
            return codes_to(codes, to)
        names = tuple(self.factors) if factors is None else tuple(factors)
        order = tuple(order_by_condition(self.factors, names))
        cache = self._forward_cache
        if cache is None:
            batch = as_batch(batch, self.signature)
            read = {self._factor(name).input for name in order}
            self._check(batch, values=in_range or "scale", fields=read, any_length=any_length)
        known = {} if cache is None else cache.lookup(batch, keep, draws)
        before, moved = set(known), self.to_device(batch)
        if not self.computed_fields <= moved.keys():
            moved = self.objective.fill(moved)
        for name in order:
            if name not in known:
                factor = self._factor(name)
                condition = None if factor.condition is None else known[factor.condition]
                known[name] = factor(moved, keep=keep, condition=condition, draws=draws)
        if cache is not None and len(known) > len(before):
            cache.views.append(Codes({name: code for name, code in known.items() if name not in before}))
        return Codes({name: known[name] for name in names})

    @overload
    def decode(
        self,
        codes: Any = None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        output: str | None = None,
        to: None = None,
        **options: Any,
    ) -> Decoded: ...

    @overload
    def decode(
        self,
        codes: Any = None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        output: str | None = None,
        to: Form,
        **options: Any,
    ) -> Any: ...

    def decode(
        self,
        codes: Any = None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        output: str | None = None,
        to: Form | None = None,
        **options: Any,
    ) -> Any:
        """Decode codes: return the likelihood of the data.  A causal decoder also reads ``teacher`` (b n p), the target.

        Args:
            codes: ``Codes``, a mapping of factor to ``Code``, or arrays: those of ``encode(to=)``, or vectors (b d) of one
                token, for a model of one factor also without its name.
            teacher: the target, of causal decoders.
            length: number of tokens, where it varies.
            output: name of the output, where there are several.
            to: "numpy", "torch" or "pandas": the point estimate in the data's layout and units, without gradients and in evaluation
                mode: pixels within their range, a table with its columns, classes and dates
                (``reprkit.models.exchange.values_to``).
            options: of the decoder, such as ``queries=`` (b m), which restricts the output to those tokens.

        Raises:
            BuildError: see ``get_output``.
            DataError: arrays that do not fit the latents, or pandas for data that is no vector.
            PartArgumentError: an unknown ``to``.
        """
        if to is not None:
            require_form(to, "decode")
            with torch.no_grad(), isolate(self, 0):
                decoded = self.decode(codes, teacher=teacher, length=length, output=output, **options)
            return decoded_to(self, decoded, to, output)
        decoder = self.get_decoder(output)
        read = {} if codes is None else as_codes(self, codes)
        features, condition = self.merge(read, output), self.condition(read, output)
        with decoder.error_context():
            return decoder(features, teacher=teacher, length=length, **condition, **options)

    def reconstruct(
        self, batch: Any, to: Form = "torch", *, output: str | None = None, in_range: bool = True
    ) -> Any:
        """Encode and decode: return the data as the model reconstructs it, in its own layout and units.

        Missing values of a table are filled in.  A causal decoder sees the codes only.

        Args:
            batch: as for ``encode``.
            to: "torch", "numpy" or "pandas", as for ``decode``.
            output: name of the output, where there are several.
            in_range: False for corrupted values, as for ``encode``.

        Raises:
            BuildError: no encoder, no decoder, no such output, or a decoder that returns something else than the data.
            DataError: data that does not fit the model, or pandas for data that is no vector.
            PartArgumentError: an unknown ``to``.
        """
        require_form(to, "reconstruct")
        self._require_encoder()
        self.require_decoded_data()
        target = self.get_output(output)
        field = target.field
        with torch.no_grad(), isolate(self, 0):
            read = as_batch(batch, self.signature)
            length = target.length(read) if target.field_name in read else None
            codes = self.encode(read, factors=target.reads, in_range=in_range)
            decoded = self.decode(codes, length=length, output=output)
            values = self.to_batch(decoded, output=output)[target.field_name]
        return values_to(values, field, to, "reconstruct")

    def merge(self, codes: Mapping[str, Code], output: str | None = None) -> Features | None:
        """Combine the codes that the decoder reads as tokens: adapted, aligned to the code with the most tokens, summed (b n d)."""
        to = self.get_output(output)
        adapted = [
            replace(code, z=to.adapters[n](code.z))
            for n, code in self._read_by(to, codes).items()
            if n not in to.conditioning
        ]
        return fuse(adapted) if adapted else None

    def condition(self, codes: Mapping[str, Code], output: str | None = None) -> dict[str, Tensor]:
        """Return the decoder's ``condition`` (b c) as a keyword: the pooled factors, adapted and summed; else {}."""
        to = self.get_output(output)
        read = self._read_by(to, codes)
        adapted = [to.adapters[name](read[name].z).mean(1) for name in read if name in to.conditioning]
        return {"condition": sum(adapted[1:], adapted[0])} if adapted else {}

    def _read_by(self, output: Output, codes: Mapping[str, Code]) -> dict[str, Code]:
        """Return the codes without those of factors that the output does not read."""
        others = set(self.factors) - set(output.reads)
        return {name: codes[name] for name in codes if name not in others}

    def output_length(self, batch: Batch, output: str | None = None) -> int | None:
        """Return the number of time steps of the output field in this batch; None where the data's length is fixed."""
        return self.get_output(output).length(batch)

    def target(self, batch: Batch, decoded: Decoded, output: str | None = None) -> Tensor:
        """Return the target of ``decoded`` (b n p): the output field cut into the decoder's tokens."""
        return self.as_tokens(batch[self.get_output(output).field_name], decoded, output)

    def as_tokens(self, values: Tensor, decoded: Decoded, output: str | None = None) -> Tensor:
        """Cut values in the layout of the output field, one an element, into the tokens of ``decoded`` (b n p)."""
        return to_tokens(values.to(decoded.device), decoded.grid or (1,), self.get_output(output).field.kind)

    def score(
        self,
        batch: Batch,
        codes: Codes | Mapping[str, Code] | None = None,
        *,
        view: Batch | None = None,
        queries: Tensor | None = None,
        teacher_forcing: bool = True,
        output: str | None = None,
        draws: int = 1,
        in_range: bool = True,
    ) -> Scored:
        """Decode codes and compare with the target: the negative log-likelihood of the batch's output field, in nats.

        The decoder produces as many tokens as the batch has.  Padding does not count; ``scored.restrict(weight)`` excludes more
        elements, and ``dataclasses.replace(scored, target=...)`` uses another target.

        Args:
            batch: the data, which holds the target: field ``output`` and its mask.
            codes: the codes to decode; by default those of ``view``, or none where the model has no encoder.
            view: what the encoders read instead of ``batch``, such as a corrupted copy of it, whose values may leave the range.
            queries: indices (b m) of the only tokens to decode and score; the decoder must provide "queries".
            teacher_forcing: whether a causal decoder reads the target up to each token; if not, it sees the codes only.
            output: the output to score, where there are several.
            draws: codes of each example, as in ``encode``: the target is repeated, and all results have b*draws rows.
            in_range: False where ``batch`` itself holds corrupted values, as for ``encode``; training checks no values here.

        Returns:
            ``decoded`` and ``target`` (b n p), with ``queries`` (b m p); ``weight`` likewise, or None; ``nats`` (b n);
            ``per_example`` (b); ``total``; ``loss``, the pair that an objective returns; ``metrics``.

        Raises:
            BuildError: no decoder, no such output, a model built without ``data=``, ``queries`` for a decoder that does not
                provide them, or, outside of training, a decoder that returns something else than the data.
        """
        training = self._forward_cache is not None
        if not training:
            to = self.get_output(output)  # no such output is the more helpful error
            self.require_decoded_data()
            own = codes is None and view is None
            checked = {self.factors[name].input for name in to.reads} if own else set()  # by encode
            if to.field_name not in checked:
                self._check(batch, in_range or "scale", (to.field_name,), any_length=True)
        scored = score_output(
            self,
            batch,
            codes,
            view=view,
            queries=queries,
            teacher_forcing=teacher_forcing,
            output=output,
            draws=draws,
            in_range=in_range and view is None,
        )
        return scored if training else self.objective.in_data_units(scored)

    def require_decoded_data(self) -> None:
        """Check that the decoder returns the data.

        Raises:
            BuildError: the objective trains it to return something else, which must not be compared with the data.
        """
        if self.objective.decodes != "the data":
            raise BuildError(
                f"the decoder of this model returns {self.objective.decodes}, not the data (objective {self.objective.title}): use "
                "model.sample"
            )

    def to_batch(
        self, decoded: Decoded, batch: Batch | None = None, output: str | None = None
    ) -> dict[str, Tensor]:
        """Put the point estimate into a batch, in the layout of the output field, so that it can be encoded again."""
        to = self.get_output(output)
        values = from_tokens(decoded.x, decoded.grid or (1,), to.field)
        return {**(batch or {}), to.field_name: values}

    @overload
    def represent(
        self,
        batch: Batch,
        factor: str | None = None,
        pool: Literal["mean", "flatten"] = "mean",
        to: None = None,
        *,
        in_range: bool = True,
    ) -> Tensor: ...

    @overload
    def represent(
        self,
        batch: Any,
        factor: str | None = None,
        pool: Literal["mean", "flatten"] = "mean",
        *,
        to: Form,
        in_range: bool = True,
    ) -> Any: ...

    def represent(
        self,
        batch: Any,
        factor: str | None = None,
        pool: Literal["mean", "flatten"] = "mean",
        to: Form | None = None,
        *,
        in_range: bool = True,
    ) -> Any:
        """Return one vector per example (b d), for probes.  ``batch`` and ``in_range`` are as for ``encode``.

        It is the masked mean over tokens, or with ``pool="flatten"`` all tokens concatenated.  Without ``factor``, the vectors
        of all factors are concatenated.  With ``to``, it is a NumPy array, a tensor or a DataFrame with the columns "0" to
        "d - 1", without gradients and in evaluation mode; without, a tensor through which a probe can train the model.

        Raises:
            BuildError: the model has no encoder, or no such factor.
            DataError: as ``encode``.
            PartArgumentError: an unknown ``to``.
        """
        self._require_encoder()
        if to is not None:
            require_form(to, "represent")
            with torch.no_grad(), isolate(self, 0):
                return vectors_to(self.represent(batch, factor, pool, in_range=in_range), to)
        names = tuple(self.factors) if factor is None else (factor,)
        vectors = []
        for code in self.encode(batch, factors=names, in_range=in_range).values():
            z = code.point
            if pool == "flatten" and code.mask is not None:
                z = z * code.mask.unsqueeze(-1)
            vectors.append(z.flatten(1) if pool == "flatten" else masked_mean(z, code.mask))
        return torch.cat(vectors, -1)

    def joint_vectors(self, batch: Any, factor: str, *, to: Form | None = None) -> Any:
        """Return one vector per example (b d) of a factor, in the space where factors are compared, as pictures with captions.

        It is the objective's, where that has one (``across``: unit vectors after a map of its own), else ``represent``.  ``batch``
        is as for ``encode``, and needs the field of this factor only: ``model.joint_vectors({"text": ["a red circle"]}, "text")``.
        With ``to``, it is a NumPy array, a tensor or a DataFrame, without gradients and in evaluation mode.

        Raises:
            BuildError: the model has no encoder, or no such factor.
            DataError: as ``encode``.
            PartArgumentError: an unknown ``to``.
        """
        self._require_encoder()
        resolve_factor(self.factors, factor, "joint_vectors")
        if to is not None:
            require_form(to, "joint_vectors")
            with torch.no_grad(), isolate(self, 0):
                return vectors_to(self.joint_vectors(batch, factor), to, "joint_vectors")
        values = as_batch(batch, self.signature)
        for member in self.objective.members:
            vectors = member.joint_vectors(self, values, factor)
            if vectors is not None:
                return vectors
        return self.represent(values, factor)

    def _require_encoder(self) -> None:
        if not self.factors:
            raise BuildError(
                "this model has no encoder, so it has no representation: build it with encoder= or factors="
            )

    def jacobian(
        self,
        batch: Batch,
        of: Literal["code", "output"] = "code",
        *,
        factor: str | None = None,
        create_graph: bool = False,
        probes: int = 0,
        generator: torch.Generator | None = None,
        in_range: bool = True,
    ) -> Float[Tensor, "b o i"]:
        """Return the derivative of each example's code, or output, with respect to its data: (b o i).

        One backward pass for each of the ``o`` elements, of the sum over the batch, so examples must not depend on each other.
        Attention uses the math kernel.  Latents are in evaluation mode: the code is ``Code.point``; no loss and no usage is
        counted.  Also inside of ``torch.no_grad``, as in evaluators.  Rows of padded tokens are zero.

        Args:
            batch: what the data set yields; the derivative is with respect to the field that the factor reads.
            of: "code", of the factor (``o`` = tokens * channels), or "output", the point estimate of all codes.
            factor: the factor; the only one by default.
            create_graph: make the result differentiable, for a loss; weights then need a second derivative.
            probes: instead of all rows, this many random combinations of them, with weights from N(0, 1): the mean square of
                their norms estimates that of the whole Jacobian (Hutchinson 1990).
            generator: of the random weights.
            in_range: False for corrupted or decoded values, as for ``encode``; outside of training others are refused.

        Raises:
            BuildError: the field or the output holds symbols, or a latent is discrete: there is no derivative.
            DataError: as ``encode``.
        """
        from reprkit.models.jacobian import jacobian

        if self._forward_cache is None:
            read = {each.input for each in self.factors.values()}
            self._check(batch, in_range or "scale", read, any_length=True)

        options: dict[str, Any] = {"create_graph": create_graph, "probes": probes, "generator": generator}
        return jacobian(self, batch, of, factor=factor, in_range=in_range, **options)

    def from_indices(self, indices: Mapping[str, Tensor], like: Codes | None = None) -> Codes:
        """Return the codes of indices (b n q), by factor; mask, grid and positions are copied from ``like``."""
        codes = {}
        for name, index in indices.items():
            factor = self._factor(name)
            z = factor.latent.embed(index.to(self.device)).to(factor.code_dtype)
            codes[name] = Code.of(like[name], z=z, indices=index) if like else Code(z=z, indices=index)
        return (like or Codes({})) | codes

    def sample(self, size: int, generator: torch.Generator | None = None, **options: Any) -> Decoded:
        """Sample ``size`` new examples from a prior over the codes: see ``reprkit.models.sampling.sample``."""
        from reprkit.models.sampling import sample

        return sample(self, size, generator, **options)

    def generate(self, codes: Codes | None = None, **options: Any) -> Decoded:
        """Generate token by token with a causal decoder: see ``reprkit.models.sampling.generate``."""
        from reprkit.models.sampling import generate

        return generate(self, codes, **options)

    def compress(
        self,
        batch: Batch | Codes,
        *,
        priors: Mapping[str, Model | str] | None = None,
        slots: int | None = None,
    ) -> list[bytes]:
        """Encode a batch as bytes, one string an example: see ``reprkit.models.compression.compress``."""
        from reprkit.models.compression import compress

        return compress(self, batch, priors=priors, slots=slots)

    def decompress(self, strings: Sequence[bytes], *, priors: Mapping[str, Model | str] | None = None) -> Any:
        """Return the codes that ``compress`` wrote, or the data: see ``reprkit.models.compression.decompress``."""
        from reprkit.models.compression import decompress

        return decompress(self, strings, priors=priors)

    def fit_frequencies(self, data: Dataset | str, *, batch: int = 256) -> dict[str, float]:
        """Count symbols for ``compress``, on training data: see ``reprkit.models.compression.fit_frequencies``."""
        from reprkit.models.compression import fit_frequencies

        return fit_frequencies(self, data, batch=batch)

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder, as ``reprkit.json`` and ``model.safetensors``; ``rk.load`` reads it."""
        from reprkit.checkpoints.save_load import save

        return save(self, folder)

    # ------------------------------------------------------------------ training

    def forward(self, batch: Batch, turn: str = "main") -> Losses:
        """Compute the losses of one step: the objective's, and the latents' once for every distinct view that was encoded."""
        if not self._seen_data:
            self._check(batch)
            self._seen_data = True
        with self.open_forward_cache() as cache:
            moved = self.to_device(batch)
            with self._attention_kernel(), self.objective.error_context():
                named = self.objective(self, moved, turn)
            terms = {name: normalize_over_ranks(term) for name, term in named.items()}
            parts = [apply_weight(self.objective_weight(name), value) for name, value in terms.items()]
            for codes in cache.views:
                for name, code in codes.items():
                    parts += self._latent_losses(name, code, terms, cache.metrics)
            total = sum(parts[1:], parts[0]) if parts else torch.zeros((), device=self.device)
        if self.training and not self._named_losses:
            if len(self.objective.turns) == 1:  # the first step has all losses
                check_weights(self.weights, terms)
            self._named_losses = True
        detached = {name: value.detach() for name, value in terms.items()}
        return Losses(total=total, terms=detached, metrics=cache.metrics)

    def expect_new_data(self) -> None:
        """Check the next training batch against the signature, as the first one; ``rk.loop`` calls it when it begins."""
        self._seen_data = False

    def freeze(self, *names: str) -> None:
        """Freeze exactly these parts: neither gradients nor statistics change them, until another call.

        They are used as in evaluation, also in training: without dropout, random draws of a latent, or codebook statistics.
        ``rk.build(freeze=)`` and ``rk.loop(freeze=)`` call this, and ``frozen`` is saved with the model.

        Args:
            names: ``encoder``, ``latent``, ``adapters`` (the linear maps of the core), ``decoder``, ``objective``, a factor, or a
                factor's ``NAME.encoder``, ``NAME.latent`` or ``NAME.adapters``.  Without names nothing is frozen.

        Raises:
            BuildError: the model has no such part.
        """
        self._frozen_weights = freeze_weights(self, names, self._frozen_weights)
        self.frozen = tuple(names)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in find_frozen_modules(self, self.frozen):
            module.eval()
        return self

    def objective_weight(self, name: str) -> float:
        """Return the weight of one of the objective's losses in the total, at the present step in training."""
        return self.objective.term_weights.get(name, 1.0) * self._own_weight(name, 1.0)

    def _own_weight(self, name: str, default: float) -> float:
        """Return the weight that the model was given for a loss: in training at the present step, else the final one."""
        weight = self._loss_weights.get(name)
        if weight is None:
            return default
        return weight.at(self.updates) if self.training else weight.final

    def record(self, **metrics: Tensor | float) -> None:
        """Record metrics of this step, from an objective.  A name that is already used gets a number: ``error-2``."""
        if self._forward_cache is not None:
            recorded = self._forward_cache.metrics
            for name, value in metrics.items():
                recorded[make_unique_name(name, recorded)] = torch.as_tensor(value).detach()

    def update(self) -> None:
        """Update codebook statistics, annealing, the objective's state, usage and schedules of weights after an optimizer step.

        ``step.update`` calls it; a hand-written loop must call it too.
        """
        frozen = find_frozen_modules(self, self.frozen) if self.frozen else []
        for latent in dict.fromkeys(factor.latent for factor in self.factors.values()):
            if not any(latent is module for module in frozen):
                latent.update()  # once, even if several factors have the same latent
        if not any(self.objective is module for module in frozen):
            self.objective.update()
        for factor in self.factors.values():
            factor.usage.update()
        self.__dict__["updates"] = self.updates + 1  # nn.Module.__setattr__ is slow

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the model's device; returns the same object if it is already there.

        A model in float64 also gets its real fields in float64.
        """
        device = self.device
        if self.dtype == torch.float64:
            return self._widen_batch(batch, device)
        if all(value.device == device for value in batch.values()):
            return batch
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}

    def _widen_batch(self, batch: Batch, device: torch.device) -> Batch:
        if all(
            v.device == device and (not v.is_floating_point() or v.dtype == torch.float64)
            for v in batch.values()
        ):
            return batch
        return {
            name: value.to(device, torch.float64 if value.is_floating_point() else None, non_blocking=True)
            for name, value in batch.items()
        }

    def _check(
        self,
        batch: Batch,
        values: bool | Literal["scale"] = True,
        fields: Container[str] | None = None,
        any_length: bool = False,
    ) -> None:
        """Check a batch against the signature, and the values of ``fields`` (None: all)."""
        if self.signature is not None:
            dtype = next((parameter.dtype for parameter in self.parameters()), torch.float32)
            signature = self.signature.any_length() if any_length else self.signature
            encoders = [factor.encoder for factor in self.factors.values()]
            if any_length and encoders and all("any_size" in each.provides for each in encoders):
                signature = signature.sized_as(batch)
            check_batch(batch, signature, dtype=dtype, values=values, fields=fields)

    @contextmanager
    def open_forward_cache(self) -> Iterator[ForwardCache]:
        """Open the cache of one training forward: codes, their losses, and metrics."""
        self.__dict__["_forward_cache"] = cache = ForwardCache()  # nn.Module.__setattr__ is slow
        try:
            yield cache
        finally:
            self.__dict__["_forward_cache"] = None

    def _attention_kernel(self) -> AbstractContextManager[None]:
        """Choose attention that can be differentiated twice, where the objective needs it."""
        from reprkit.models.jacobian import twice_differentiable

        return twice_differentiable() if "second-order" in self.objective.needs else nullcontext()

    def _latent_losses(
        self, name: str, code: Code, terms: dict[str, Tensor], metrics: dict[str, Tensor]
    ) -> list[Tensor]:
        factor = self._factor(name)
        prefix = f"{name}." if len(self.factors) > 1 else ""
        if self.training:
            with pieces_apart():
                factor.usage.observe(code)
        parts = []
        for key, loss in code.losses.items():
            weight = self._own_weight(prefix + key, factor.latent.weights.get(key, 1.0))
            parts.append(apply_weight(weight, loss))
            terms[prefix + key] = terms[prefix + key] + loss if prefix + key in terms else loss
        metrics[prefix + "usage"] = factor.usage.recent()
        if code.bits is not None:
            metrics[prefix + "bits"] = code.bits.detach().mean()
        metrics.update({prefix + key: value.detach() for key, value in code.metrics.items()})
        return parts

    def _factor(self, factor: str | None) -> Factor:
        return self.factors[resolve_factor(self.factors, factor, "this model")]
