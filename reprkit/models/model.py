"""The model: factors, a decoder and an objective, for training and for inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.data.checks import check_batch
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Latent, Objective
from reprkit.layers.gather_rows import gather_tokens
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
from reprkit.models.grid import from_tokens, fuse, row_grid, to_tokens
from reprkit.models.scoring import Scored, valid_weight
from reprkit.types import Batch, Code, Codes, Decoded, Features, Losses
from reprkit.utils.collectives import pieces_apart

if TYPE_CHECKING:
    from pathlib import Path


class Model(nn.Module):
    """Encoder → latent → decoder, with one or more factors, trained by an objective.  Created by ``rk.build`` or ``rk.load``.

    Training calls only ``forward``, so that DDP and FSDP see every use of the weights; a trained model is used through
    ``encode``, ``decode``, ``represent``, ``sample`` and ``generate``.
    """

    def __init__(
        self,
        factors: Mapping[str, Factor],
        decoder: Decoder | None,
        objective: Objective,
        *,
        signature: Signature | None = None,
        output: str = "x",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.factors = Factors(factors)
        self.conditioning = find_conditioning_factors(factors, decoder)
        self.adapters = nn.ModuleDict({} if decoder is None else make_adapters(factors, decoder))
        self.decoder, self.signature, self.output = decoder, signature, output
        self.weights = dict(weights or {})
        self._forward_cache: ForwardCache | None = None
        self._seen_data = self._named_losses = False
        self.objective = objective
        objective.bind(self)

    # ------------------------------------------------------------------ using a model

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        for factor in self.factors.values():  # every factor has an adapter: no search in every step
            if isinstance(factor.adapter, nn.Linear):
                return factor.adapter.weight.device
        return next(iter(self.parameters()), torch.empty(0)).device

    def latent(self, factor: str | None = None) -> Latent:
        """Return the latent of a factor; without a name, that of the only factor."""
        return self._factor(factor).latent

    def get_decoder(self) -> Decoder:
        """Return the decoder, or raise where the model has none (the attribute ``decoder`` is then None).

        Raises:
            BuildError: the model has no decoder.
        """
        if self.decoder is None:
            raise BuildError(f"this model has no decoder: objective {self.objective.title} does not need one")
        return self.decoder

    @property
    def output_field(self) -> Field:
        """The field of the data that the decoder reconstructs: its kind, shape, vocabulary and range.

        Raises:
            BuildError: the model was built without ``data=``.
        """
        if self.signature is None:
            raise BuildError(
                "this model was built without data=, so the kind and shape of its output are not known: "
                "pass data= to rk.build"
            )
        return self.signature[self.output]

    def encode(
        self,
        batch: Batch,
        *,
        keep: Tensor | None = None,
        factors: Sequence[str] | None = None,
        any_length: bool = False,
    ) -> Codes:
        """Encode a batch: return its codes by factor.  The batch is moved to the model's device.

        Args:
            batch: what the data set yields.
            keep: indices of the tokens to read (b k); the encoders must provide "keep".
            factors: names of the factors to encode; all by default.
            any_length: accept sequences longer or shorter than those of the signature, if the encoders can read them.

        Raises:
            DataError: the batch does not have the shapes and types of the signature.
        """
        names = tuple(self.factors) if factors is None else tuple(factors)
        cache = self._forward_cache
        if cache is None:
            self._check(batch, values=False, any_length=any_length)
        known = {} if cache is None else cache.lookup(batch, keep)
        before, moved = set(known), self.to_device(batch)
        for name in order_by_condition(self.factors, names):
            if name not in known:
                factor = self._factor(name)
                condition = None if factor.condition is None else known[factor.condition]
                known[name] = factor(moved, keep=keep, condition=condition)
        if cache is not None and len(known) > len(before):
            cache.views.append(Codes({name: code for name, code in known.items() if name not in before}))
        return Codes({name: known[name] for name in names})

    def decode(
        self,
        codes: Codes | Mapping[str, Code] | None = None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        **options: Any,
    ) -> Decoded:
        """Decode codes: return the likelihood of the data.  A causal decoder also reads ``teacher`` (b n p), the target.

        ``queries=`` (b m) restricts the output to those tokens, if the decoder provides "queries".

        Raises:
            BuildError: the model has no decoder.
        """
        decoder = self.get_decoder()
        features, condition = self.merge(codes or {}), self.condition(codes or {})
        with decoder.error_context():
            return decoder(features, teacher=teacher, length=length, **condition, **options)

    def merge(self, codes: Mapping[str, Code]) -> Features | None:
        """Combine the codes that the decoder reads as tokens: adapted, aligned to the code with the most tokens, summed (b n d)."""
        adapted = [
            replace(code, z=self.adapters[n](code.z))
            for n, code in codes.items()
            if n not in self.conditioning
        ]
        return fuse(adapted) if adapted else None

    def condition(self, codes: Mapping[str, Code]) -> dict[str, Tensor]:
        """Return the decoder's ``condition`` (b c) as a keyword: the pooled factors, adapted and summed; else {}."""
        adapted = [self.adapters[name](codes[name].z).mean(1) for name in codes if name in self.conditioning]
        return {"condition": sum(adapted[1:], adapted[0])} if adapted else {}

    def output_length(self, batch: Batch) -> int | None:
        """Return the number of time steps of the output field in this batch; None where the data's length is fixed."""
        varies = self.signature is not None and self.signature[self.output].space[0] is None
        return batch[self.output].shape[1] if varies else None

    def target(self, batch: Batch, decoded: Decoded) -> Tensor:
        """Return the target of ``decoded`` (b n p): the output field cut into the decoder's tokens."""
        return self.as_tokens(batch[self.output], decoded)

    def as_tokens(self, values: Tensor, decoded: Decoded) -> Tensor:
        """Cut values in the layout of the output field, one an element, into the tokens of ``decoded`` (b n p)."""
        return to_tokens(values.to(decoded.x.device), decoded.grid or (1,), self.output_field.kind)

    def score(
        self,
        batch: Batch,
        codes: Codes | Mapping[str, Code] | None = None,
        *,
        view: Batch | None = None,
        queries: Tensor | None = None,
        teacher_forcing: bool = True,
    ) -> Scored:
        """Decode codes and compare with the target: the negative log-likelihood of the batch's output field, in nats.

        The decoder produces as many tokens as the batch has.  Padding does not count; ``scored.restrict(weight)`` excludes more
        elements, and ``dataclasses.replace(scored, target=...)`` uses another target.

        Args:
            batch: the data, which holds the target: field ``output`` and its mask.
            codes: the codes to decode; by default those of ``view``, or none where the model has no encoder.
            view: what the encoders read instead of ``batch``, such as a corrupted copy of it.
            queries: indices (b m) of the only tokens to decode and score; the decoder must provide "queries".
            teacher_forcing: whether a causal decoder reads the target up to each token; if not, it sees the codes only.

        Returns:
            ``decoded`` and ``target`` (b n p), with ``queries`` (b m p); ``weight`` likewise, or None; ``nats`` (b n);
            ``per_example`` (b); ``total``; ``loss``, the pair that an objective returns; ``metrics``.

        Raises:
            BuildError: no decoder, a model built without ``data=``, or ``queries`` for a decoder that does not provide them.
        """
        decoder, field = self.get_decoder(), self.output_field
        if queries is not None and "queries" not in decoder.provides:
            raise BuildError(
                f"decoder {decoder.qualified or type(decoder).__name__} can only decode all its tokens, and queries= selects some: "
                'use a decoder that provides "queries", such as vit, or omit queries='
            )
        if codes is None and len(self.factors):
            codes = self.encode(batch if view is None else view)
        batch = self.to_device(batch)
        x = batch[self.output]
        options: dict[str, Any] = {} if queries is None else {"queries": queries}
        if teacher_forcing and "causal" in decoder.provides:
            target = to_tokens(x, row_grid(field, x), field.kind)
            decoded = self.decode(codes, teacher=target, **options)
            grid = decoded.grid or (1,)
        else:
            decoded = self.decode(codes, length=self.output_length(batch), **options)
            grid = decoded.grid or (1,) if queries is None else decoder.cells or row_grid(field, x)
            target = to_tokens(x, grid, field.kind)
        weight = valid_weight(self, batch, decoded, grid, queries)
        target = target if queries is None else gather_tokens(target, queries)
        return Scored(decoded=decoded, target=target, weight=weight)

    def to_batch(self, decoded: Decoded, batch: Batch | None = None) -> dict[str, Tensor]:
        """Put the point estimate into a batch, in the layout of the output field, so that it can be encoded again."""
        values = from_tokens(decoded.x, decoded.grid or (1,), self.output_field)
        return {**(batch or {}), self.output: values}

    def represent(
        self, batch: Batch, factor: str | None = None, pool: Literal["mean", "flatten"] = "mean"
    ) -> Tensor:
        """Return one vector per example (b d), for probes.

        It is the masked mean over tokens, or with ``pool="flatten"`` all tokens concatenated.  Without ``factor``, the vectors
        of all factors are concatenated.

        Raises:
            BuildError: the model has no encoder, or no such factor.
        """
        if not self.factors:
            raise BuildError(
                "this model has no encoder, so it has no representation: build it with encoder= or factors="
            )
        names = tuple(self.factors) if factor is None else (factor,)
        vectors = []
        for code in self.encode(batch, factors=names).values():
            z = code.point
            if pool == "flatten" and code.mask is not None:
                z = z * code.mask.unsqueeze(-1)
            vectors.append(z.flatten(1) if pool == "flatten" else masked_mean(z, code.mask))
        return torch.cat(vectors, -1)

    def jacobian(
        self,
        batch: Batch,
        of: Literal["code", "output"] = "code",
        *,
        factor: str | None = None,
        create_graph: bool = False,
        probes: int = 0,
        generator: torch.Generator | None = None,
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

        Raises:
            BuildError: the field or the output holds symbols, or a latent is discrete: there is no derivative.
        """
        from reprkit.models.jacobian import jacobian

        options: dict[str, Any] = {"create_graph": create_graph, "probes": probes, "generator": generator}
        return jacobian(self, batch, of, factor=factor, **options)

    def from_indices(self, indices: Mapping[str, Tensor], like: Codes | None = None) -> Codes:
        """Return the codes of indices (b n q), by factor; mask, grid and positions are copied from ``like``."""
        codes = {}
        for name, index in indices.items():
            z = self._factor(name).latent.embed(index.to(self.device))
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

    def save(self, folder: str | Path) -> Path:
        """Write the model to a folder, as ``reprkit.json`` and ``model.safetensors``; ``rk.load`` reads it."""
        from reprkit.checkpoints.save_load import save

        return save(self, folder)

    # ------------------------------------------------------------------ training

    def forward(self, batch: Batch, turn: str = "main") -> Losses:
        """Compute the losses of one step: the objective's, and the latents' once for every distinct view that was encoded."""
        if not self._seen_data:
            self._check(batch, values=True)
            self._seen_data = True
        with self._open_forward_cache() as cache:
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

    def objective_weight(self, name: str) -> float:
        """Return the weight of one of the objective's losses in the total."""
        return self.objective.term_weights.get(name, 1.0) * self.weights.get(name, 1.0)

    def record(self, **metrics: Tensor | float) -> None:
        """Record metrics of this step, from an objective.  A name that is already used gets a number: ``error-2``."""
        if self._forward_cache is not None:
            recorded = self._forward_cache.metrics
            for name, value in metrics.items():
                recorded[make_unique_name(name, recorded)] = torch.as_tensor(value).detach()

    def update(self) -> None:
        """Update codebook statistics, annealing and usage after an optimizer step.

        ``step.update`` calls it; a hand-written loop must call it too.
        """
        for factor in self.factors.values():
            factor.latent.update()
            factor.usage.update()

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the model's device; returns the same object if it is already there."""
        device = self.device
        if all(value.device == device for value in batch.values()):
            return batch
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}

    def _check(self, batch: Batch, values: bool, any_length: bool = False) -> None:
        """Check a batch against the signature; its ``values`` are checked once, before anything is corrupted."""
        if self.signature is not None:
            dtype = next((parameter.dtype for parameter in self.parameters()), torch.float32)
            signature = self.signature.any_length() if any_length else self.signature
            check_batch(batch, signature, dtype=dtype, values=values)

    @contextmanager
    def _open_forward_cache(self) -> Iterator[ForwardCache]:
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
            weight = self.weights.get(prefix + key, factor.latent.weights.get(key, 1.0))
            parts.append(apply_weight(weight, loss))
            terms[prefix + key] = terms[prefix + key] + loss if prefix + key in terms else loss
        metrics[prefix + "usage"] = factor.usage.recent()
        if code.bits is not None:
            metrics[prefix + "bits"] = code.bits.detach().mean()
        metrics.update({prefix + key: value.detach() for key, value in code.metrics.items()})
        return parts

    def _factor(self, factor: str | None) -> Factor:
        return self.factors[resolve_factor(self.factors, factor, "this model")]
