"""Inputs of the objectives over texts: the latent of words, and the texts of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit import Model
    from reprkit_text.latents.text import Text


def word_latent(model: Model, name: str, part: str) -> Text:
    """Return the factor's latent, which must provide "words": ``code_of`` and ``log_prob_of``.

    Raises:
        BuildError: it does not.
    """
    latent = model.latent(name)
    if "words" not in latent.provides:
        raise BuildError(
            f"objective {part} needs a latent of words, and the latent of factor {name} is "
            f"{latent.qualified or type(latent).__name__}: use text, or objective critic, which takes any latent"
        )
    return cast("Text", latent)


def batch_texts(batch: Batch, field: str) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Return a field's words (b t), the valid ones first, and their mask.

    Raises:
        BuildError: the batch has no such field.
    """
    if field not in batch:
        raise BuildError(f"the batch has no field {field!r} of texts; it has {', '.join(batch)}")
    words, mask = batch[field], batch.get(f"{field}_mask")
    if mask is None:
        return words, torch.ones_like(words, dtype=torch.bool)
    order = (~mask).long().argsort(dim=1, stable=True)
    return words.gather(1, order), mask.gather(1, order)
