"""A second model as the prior of a first model's codes: conversion of codes to its data and of its samples to codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.types import Batch, Code

if TYPE_CHECKING:
    from reprkit.interfaces import Latent
    from reprkit.models.model import Model


def code_to_batch(code: Code, latent: Latent) -> dict[str, Tensor]:
    """Convert a code to a batch of data: symbols (b n*q), slot by slot within a token, or vectors (b n d) if continuous.

    Raises:
        BuildError: slots of different vocabularies, which one sequence of symbols cannot hold.
    """
    if latent.vocab is None:
        batch = {"x": code.point}
        slots = 1
    else:
        assert code.indices is not None
        batch, slots = {"x": rearrange(code.indices, "b n q -> b (n q)")}, len(latent.vocab)
        _shared_vocab(latent.vocab)
    if code.mask is not None:
        batch["x_mask"] = code.mask.repeat_interleave(slots, dim=1)
    return batch


def code_field(latent: Latent, tokens: int | None) -> Field:
    """Return the field of such data; ``tokens`` is the number of tokens an example, None where it varies."""
    if latent.vocab is None:
        return Field(kind="sequence", shape=(tokens, latent.out_dim))
    length = None if tokens is None else tokens * len(latent.vocab)
    return Field(kind="tokens", shape=(length,), vocab=_shared_vocab(latent.vocab))


def batch_to_code(x: Tensor, latent: Latent, like: Code) -> Code:
    """Invert ``code_to_batch``, also from a map (b h w); grid, length and the rest of the layout are copied from ``like``."""
    if latent.vocab is None:
        return Code.of(like, z=x.to(like.z.dtype))
    indices = rearrange(x.flatten(1), "b (n q) -> b n q", q=len(latent.vocab))
    return Code.of(like, z=latent.embed(indices).to(like.z.dtype), indices=indices)


def log_prob(prior: Model, batch: Batch) -> Float[Tensor, " b"]:
    """Return the log-probability (nats an example) of a batch of codes under a model without encoder.

    Raises:
        BuildError: the prior is not a causal decoder without an encoder.
    """
    check_causal(prior)
    field = None if prior.signature is None else prior.signature["x"]
    if field is not None and field.kind == "map" and batch["x"].ndim == 2:
        batch = {**batch, "x": batch["x"].unflatten(1, field.shape)}
    return -prior.score(batch).per_example


def check_causal(prior: Model) -> None:
    """Check that a prior is a causal decoder without an encoder.

    Raises:
        BuildError: it is not.
    """
    if prior.decoder is None or "causal" not in prior.decoder.provides or len(prior.factors):
        raise BuildError(
            "a prior over codes is a causal decoder without an encoder: rk.build(data=codes, "
            "decoder='transformer(causal=True)', objective='autoregressive')"
        )


def code_length(model: Model, factor: str) -> int | None:
    """Return the number of tokens of a factor's code; None where it varies with the example's length.

    Raises:
        BuildError: the model was built without data.
    """
    if model.signature is None:
        raise BuildError("a prior over codes needs the data's signature: build the model with data=")
    short, long = (model.factors[factor].count(model.signature.example(1, length)) for length in (4, 8))
    return short if short == long else None


def check_fit(prior: Model, latent: Latent, tokens: int | None) -> None:
    """Check that a prior was trained on codes of this kind.

    Raises:
        BuildError: its data and this latent's codes differ in kind, vocabulary or shape.
    """
    expected = Signature({"x": code_field(latent, tokens)})
    found = prior.signature
    same = found is not None and (found["x"].kind, found["x"].vocab, found["x"].shape) == (
        expected["x"].kind,
        expected["x"].vocab,
        expected["x"].shape,
    )
    if found is not None and found["x"].kind == "map" and latent.vocab is not None:
        cells = found["x"].steps
        same = len(latent.vocab) == 1 and (found["x"].vocab, cells) == (latent.vocab[0], tokens)
    if not same:
        has = (
            "data without a signature"
            if found is None
            else f"{found['x'].kind} ({found['x'].axes}, vocab {found['x'].vocab})"
        )
        wants = f"{expected['x'].kind} ({expected['x'].axes}, vocab {expected['x'].vocab})"
        raise BuildError(
            f"the prior was trained on {has}, and the codes of this model are {wants}\n"
            "  train one on these codes: data='codes(model=DIR, data=...)'"
        )


def prior_of_codes(model: Model, factor: str, prior: Model | str) -> Model:
    """Load a prior, see ``load_prior``, and check that it gives the codes of this factor a probability.

    Raises:
        BuildError: it is not a causal decoder without an encoder, it was trained on other codes, or the model was built without
            data.
    """
    loaded = load_prior(prior, model.device)
    check_causal(loaded)
    check_fit(loaded, model.latent(factor), code_length(model, factor))
    return loaded


def load_prior(prior: Model | str, device: torch.device) -> Model:
    """Load a prior from its folder, unless it is a model already, and move it to a device."""
    if isinstance(prior, str):
        from reprkit.checkpoints.save_load import load

        return load(prior, map_location=device)
    return prior.to(device)


def _shared_vocab(vocab: tuple[int, ...]) -> int:
    if len(set(vocab)) > 1:
        raise BuildError(
            f"the latent's slots have vocabularies of {', '.join(map(str, sorted(set(vocab))))}: a prior over "
            "one sequence of symbols needs slots of equal vocabularies"
        )
    return vocab[0]
