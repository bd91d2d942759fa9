"""The model: factors, a decoder and an objective, and everything one does with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from reprkit.data.checks import check_batch
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Latent, Objective
from reprkit.layers.gather_rows import tokens_at
from reprkit.models.factor import (
    Factor,
    Factors,
    adapters,
    conditioning,
    factor_of,
    in_condition_order,
    masked_mean,
)
from reprkit.models.forward_cache import ForwardCache, check_weights, normalised, unused, weighted
from reprkit.models.grid import from_tokens, fuse, row_grid, to_tokens
from reprkit.models.scoring import Scored, validity
from reprkit.types import Batch, Code, Codes, Decoded, Features, Losses

if TYPE_CHECKING:
    from pathlib import Path


class Model(nn.Module):
    """Encoder → latent → decoder, by factors, driven by an objective.  Made by ``rk.build`` or ``rk.load``.

    ``forward`` is the only training entry (so DDP and FSDP see every use); ``encode``, ``decode``,
    ``represent``, ``sample`` and ``generate`` are how a trained model is used.
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
        self.conditioning = conditioning(factors, decoder)
        self.adapters = nn.ModuleDict({} if decoder is None else adapters(factors, decoder))
        self.decoder, self.signature, self.output = decoder, signature, output
        self.weights = dict(weights or {})
        self._pass: ForwardCache | None = None
        self._seen_data = self._named_losses = False
        self.objective = objective
        objective.bind(self)

    # ------------------------------------------------------------------ using a model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        for path in self.factors.values():  # every factor has an adapter: no search in every step
            if isinstance(path.adapter, nn.Linear):
                return path.adapter.weight.device
        return next(iter(self.parameters()), torch.empty(0)).device

    def latent(self, factor: str | None = None) -> Latent:
        """The latent of one factor; of the only one when no name is given."""
        return self._path(factor).latent

    def get_decoder(self) -> Decoder:
        """The decoder, for those that cannot do without one; ``decoder`` is None where there is none.

        Raises:
            BuildError: the model has no decoder.
        """
        if self.decoder is None:
            raise BuildError(f"this model has no decoder: objective {self.objective.title} does not need one")
        return self.decoder

    @property
    def output_field(self) -> Field:
        """The field of the data that the decoder makes: its kind, shape, vocabulary and range.

        Raises:
            BuildError: the model was built without ``data=``.
        """
        if self.signature is None:
            raise BuildError(
                "this model was built without data=, so it does not know what its output looks like"
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
        """The codes of a batch, by factor; moves the batch to the model's device.

        Args:
            batch: what the data set yields.
            keep: indices of the tokens to read (b k); the encoders must provide "keep".
            factors: only these; all when not given.
            any_length: sequences may be longer or shorter than the windows it was built for, where its encoders can.

        Raises:
            DataError: the batch does not have the shapes and types of the signature.
        """
        names = tuple(self.factors) if factors is None else tuple(factors)
        scope = self._pass
        if scope is None:
            self._check(batch, values=False, any_length=any_length)
        known = {} if scope is None else scope.known(batch, keep)
        before, moved = set(known), self.to_device(batch)
        for name in in_condition_order(self.factors, names):
            if name not in known:
                path = self._path(name)
                told = None if path.condition is None else known[path.condition]
                known[name] = path(moved, keep=keep, condition=told)
        if scope is not None and len(known) > len(before):
            scope.views.append(Codes({name: code for name, code in known.items() if name not in before}))
        return Codes({name: known[name] for name in names})

    def decode(
        self,
        codes: Codes | Mapping[str, Code] | None = None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        **options: Any,
    ) -> Decoded:
        """The likelihood of the data given the codes; a causal decoder also reads ``teacher`` (b n p), the target.

        ``queries=`` (b m) asks for those of its tokens alone, of a decoder that provides "queries".

        Raises:
            BuildError: the model has no decoder.
        """
        decoder = self.get_decoder()
        features, told = self.merge(codes or {}), self.condition(codes or {})
        with decoder.error_context():
            return decoder(features, teacher=teacher, length=length, **told, **options)

    def merge(self, codes: Mapping[str, Code]) -> Features | None:
        """The codes with tokens as the decoder reads them: adapted, aligned to the one with the most, and summed (b n d)."""
        laid = [
            replace(code, z=self.adapters[n](code.z))
            for n, code in codes.items()
            if n not in self.conditioning
        ]
        return fuse(laid) if laid else None

    def condition(self, codes: Mapping[str, Code]) -> dict[str, Tensor]:
        """What a decoder takes apart from the tokens, as a keyword: the pooled factors, adapted and summed (b c)."""
        apart = [self.adapters[name](codes[name].z).mean(1) for name in codes if name in self.conditioning]
        return {"condition": sum(apart[1:], apart[0])} if apart else {}

    def output_length(self, batch: Batch) -> int | None:
        """Steps of the output field in this batch where the data's lengths vary; None where they are fixed."""
        varies = self.signature is not None and self.signature[self.output].space[0] is None
        return batch[self.output].shape[1] if varies else None

    def target(self, batch: Batch, decoded: Decoded) -> Tensor:
        """What ``decoded`` must equal (b n p): the output field cut into the decoder's tokens."""
        return self.as_tokens(batch[self.output], decoded)

    def as_tokens(self, values: Tensor, decoded: Decoded) -> Tensor:
        """Values in the layout of the output field, one an element, cut into the tokens of ``decoded`` (b n p)."""
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
        """Decode codes, beside what the output should equal: nats of the batch's output field given the codes.

        The decoder makes as many tokens as the batch has.  Padding does not count; ``scored.counting(weight)`` leaves out more,
        and ``dataclasses.replace(scored, target=...)`` takes another target.

        Args:
            batch: the data, which holds the target: field ``output`` and its mask.
            codes: what is decoded; by default those of ``view``, or nothing where the model has no encoder.
            view: what the encoders read in place of ``batch``, such as a damaged copy of it.
            queries: indices of the decoder's tokens that are decoded and scored (b m), the others are not; the decoder must
                provide "queries".
            teacher_forcing: whether a causal decoder reads the target up to each token; if not, it has the codes alone.

        Returns:
            ``decoded`` and ``target`` (b n p), with ``queries`` (b m p); ``weight`` likewise, or None; ``nats`` (b n);
            ``per_example`` (b); ``total``; ``loss``, the pair that an objective returns; ``metrics``.

        Raises:
            BuildError: no decoder, a model that was built without ``data=``, or ``queries`` of a decoder that cannot take them.
        """
        decoder, field = self.get_decoder(), self.output_field
        if queries is not None and "queries" not in decoder.provides:
            raise BuildError(
                f"decoder {decoder.qualified or type(decoder).__name__} decodes all its tokens, and queries= asks for some: "
                'take one that provides "queries", such as vit, or leave queries= out'
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
        weight = validity(self, batch, decoded, grid, queries)
        target = target if queries is None else tokens_at(target, queries)
        return Scored(decoded=decoded, target=target, weight=weight)

    def to_batch(self, decoded: Decoded, batch: Batch | None = None) -> dict[str, Tensor]:
        """The inverse of ``target``: a batch that holds the point estimate, so that an output can be encoded again."""
        made = from_tokens(decoded.x, decoded.grid or (1,), self.output_field)
        return {**(batch or {}), self.output: made}

    def represent(
        self, batch: Batch, factor: str | None = None, pool: Literal["mean", "flatten"] = "mean"
    ) -> Tensor:
        """One vector per example (b d), for probes.

        The masked mean over tokens, or all tokens in a row with ``pool="flatten"``.  Without ``factor`` the vectors
        of all factors, one after another.

        Raises:
            BuildError: the model has no encoder, or no such factor.
        """
        if not self.factors:
            raise BuildError("this model has no encoder, so it has no representation of its own")
        names = tuple(self.factors) if factor is None else (factor,)
        vectors = []
        for code in self.encode(batch, factors=names).values():
            z = code.point
            if pool == "flatten" and code.mask is not None:
                z = z * code.mask.unsqueeze(-1)
            vectors.append(z.flatten(1) if pool == "flatten" else masked_mean(z, code.mask))
        return torch.cat(vectors, -1)

    def from_indices(self, indices: Mapping[str, Tensor], like: Codes | None = None) -> Codes:
        """Codes for given indices (b n q), by factor; mask, grid and positions are taken from ``like``."""
        made = {}
        for name, each in indices.items():
            z = self._path(name).latent.embed(each.to(self.device))
            made[name] = Code.of(like[name], z=z, indices=each) if like else Code(z=z, indices=each)
        return (like or Codes({})) | made

    def sample(self, size: int, generator: torch.Generator | None = None, **options: Any) -> Decoded:
        """``size`` new examples, decoded from codes of a prior: see ``reprkit.models.sampling.sample``."""
        from reprkit.models.sampling import sample

        return sample(self, size, generator, **options)

    def generate(self, codes: Codes | None = None, **options: Any) -> Decoded:
        """Token after token from a causal decoder: see ``reprkit.models.sampling.generate``."""
        from reprkit.models.sampling import generate

        return generate(self, codes, **options)

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder: ``reprkit.json`` and ``model.safetensors``; ``rk.load`` reads it."""
        from reprkit.checkpoints.save_load import save

        return save(self, folder)

    # ------------------------------------------------------------------ training

    def forward(self, batch: Batch, turn: str = "main") -> Losses:
        """One step's losses: the objective's, and each latent's once for every distinct view it encoded."""
        if not self._seen_data:
            self._check(batch, values=True)
            self._seen_data = True
        with self._gathering() as scope:
            moved = self.to_device(batch)
            with self.objective.error_context():
                named = self.objective(self, moved, turn)
            terms = {name: normalised(term) for name, term in named.items()}
            parts = [weighted(self.objective_weight(name), value) for name, value in terms.items()]
            for codes in scope.views:
                for name, code in codes.items():
                    parts += self._latent_losses(name, code, terms, scope.metrics)
            total = sum(parts[1:], parts[0]) if parts else torch.zeros((), device=self.device)
        if self.training and not self._named_losses:
            if len(self.objective.turns) == 1:  # the first step names all losses
                check_weights(self.weights, terms)
            self._named_losses = True
        detached = {name: value.detach() for name, value in terms.items()}
        return Losses(total=total, terms=detached, metrics=scope.metrics)

    def objective_weight(self, name: str) -> float:
        """The weight of one of the objective's terms."""
        return self.objective.term_weights.get(name, 1.0) * self.weights.get(name, 1.0)

    def record(self, **metrics: Tensor | float) -> None:
        """Note metrics of this step; for objectives.  A name that is taken gets a number: ``error-2``."""
        if self._pass is not None:
            for name, value in metrics.items():
                self._pass.metrics[unused(name, self._pass.metrics)] = torch.as_tensor(value).detach()

    def update(self) -> None:
        """Close an optimiser step: codebook statistics, annealing, usage.  ``step.update`` calls it; so must a loop by hand."""
        for path in self.factors.values():
            path.latent.update()
            path.usage.update()

    def to_device(self, batch: Batch) -> Batch:
        """The batch on the model's device; the same object when it is there already."""
        device = self.device
        if all(value.device == device for value in batch.values()):
            return batch
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}

    def _check(self, batch: Batch, values: bool, any_length: bool = False) -> None:
        """Refuse a batch that is not what the signature says; ``values`` are looked at once, before anything is damaged."""
        if self.signature is not None:
            dtype = next((each.dtype for each in self.parameters()), torch.float32)
            signature = self.signature.any_length() if any_length else self.signature
            check_batch(batch, signature, dtype=dtype, values=values)

    @contextmanager
    def _gathering(self) -> Iterator[ForwardCache]:
        self.__dict__["_pass"] = scope = ForwardCache()  # a module's own way of setting takes long
        try:
            yield scope
        finally:
            self.__dict__["_pass"] = None

    def _latent_losses(
        self, name: str, code: Code, terms: dict[str, Tensor], metrics: dict[str, Tensor]
    ) -> list[Tensor]:
        path = self._path(name)
        prefix = f"{name}." if len(self.factors) > 1 else ""
        if self.training:
            path.usage.see(code)
        parts = []
        for key, loss in code.losses.items():
            weight = self.weights.get(prefix + key, path.latent.weights.get(key, 1.0))
            parts.append(weighted(weight, loss))
            terms[prefix + key] = terms[prefix + key] + loss if prefix + key in terms else loss
        metrics[prefix + "usage"] = path.usage.recent()
        if code.bits is not None:
            metrics[prefix + "bits"] = code.bits.detach().mean()
        metrics.update({prefix + key: value.detach() for key, value in code.metrics.items()})
        return parts

    def _path(self, factor: str | None) -> Factor:
        return self.factors[factor_of(self.factors, factor, "this model")]
