"""Start the pointer of a latent of words: which word stands at a position, from the features of random texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.registry.constraints import Count, Seed
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit import Model
    from reprkit_text.latents.text import Text

_FLOOR = 1e-2  # smallest variance of a feature, relative to the mean variance over all features


@torch.no_grad()
def start_pointer(
    model: Model, *, repeats: Count = 4, length: Count = 32, batch: Count = 64, seed: Seed = 0
) -> None:
    """Set the pointer's linear map so that it names the word at a position before any training.

    Linear discriminant analysis with a diagonal covariance: the features of each word have a mean over random positions and
    neighbors, and all words share their variance.  The texts are permutations of the vocabulary, so every word is seen
    ``repeats`` times, and no data is needed.  A factor whose latent writes no words, or has no pointer, is left as it is.

    Args:
        model: a model whose factors read symbols.
        repeats: how often each word is seen.
        length: symbols of a text.
        batch: number of texts encoded at a time.
        seed: of the permutations.

    Raises:
        PartArgumentError: an argument out of its range.
    """
    for factor in model.factors.values():
        if "words" not in factor.latent.provides:
            continue
        spoken = cast("Text", factor.latent).generator.spoken
        if spoken is None:
            continue
        texts = _permuted_texts(len(spoken.weight), repeats, length, seed)
        with eval_mode(factor):
            features = torch.cat(
                [
                    factor.features(model.to_device({factor.input: rows})).x.float().cpu()
                    for rows in texts.split(batch)
                ]
            )
        weight, bias = _discriminant(features.flatten(0, 1), texts.flatten(), len(spoken.weight))
        spoken.weight.copy_(weight)
        spoken.bias.copy_(bias)


def _permuted_texts(vocab: int, repeats: int, length: int, seed: int) -> Int[Tensor, "b t"]:
    """Return texts of ``length`` symbols, in which every symbol occurs at least ``repeats`` times."""
    draw = torch.Generator().manual_seed(seed)
    symbols = torch.cat([torch.randperm(vocab, generator=draw) for _ in range(repeats)])
    missing = -len(symbols) % length
    return torch.cat([symbols, torch.randint(vocab, (missing,), generator=draw)]).view(-1, length)


def _discriminant(
    features: Float[Tensor, "n d"], words: Int[Tensor, " n"], vocab: int
) -> tuple[Float[Tensor, "v d"], Float[Tensor, " v"]]:
    """Return weight and bias of the classifier of words with equal diagonal covariances."""
    counts = torch.bincount(words, minlength=vocab).unsqueeze(1)
    means = torch.zeros(vocab, features.shape[1]).index_add_(0, words, features) / counts
    variance = (features - means[words]).square().mean(0)
    variance = variance.clamp(min=_FLOOR * float(features.var(0).mean()))
    weight = means / variance
    return weight, -0.5 * (weight * means).sum(1)
