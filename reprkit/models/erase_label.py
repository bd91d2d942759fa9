"""Erase a label from a factor in closed form: afterwards no linear classifier tells it from the factor's vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.errors import DataError
from reprkit.models.factor import masked_mean, resolve_factor
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


@torch.no_grad()
def erase_label(model: Model, data: Dataset, *, label: str, factor: str | None = None) -> None:
    """Change a factor's linear map so that its vectors have the same mean in every class of a label.

    LEACE (Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form", arXiv 2306.03819, theorem 4.3): of all
    affine maps after which no linear classifier does better than a constant, the one that changes the vectors least.  The
    vectors are what the latent reads, averaged over an example's tokens.  The map is applied to every token and joined with the
    factor's adapter, so that the model stays as large as it was.  A latent that is not linear may make the label readable again,
    and a classifier that is not linear may read it still.

    Args:
        model: trained; its weights are changed in place.
        data: labeled examples whose means and covariance count: a training part.
        label: the label field.
        factor: the factor; the only one if None.

    Raises:
        BuildError: no such factor or field.
        DataError: only one class in the data.
    """
    name = resolve_factor(model.factors, factor, "erase_label")
    part = model.factors[name]
    vectors, labels = [], []
    data.signature[label]  # raises and names the known fields
    with eval_mode(model):
        for batch in data.batches():
            features = part.features(model.to_device(batch))
            vectors.append(masked_mean(features.x, features.mask).double().cpu())
            labels.append(batch[label].cpu())
    mean, keep = erasing_map(torch.cat(vectors), torch.cat(labels))
    weight, bias = part.adapter.weight, part.adapter.bias
    moved = mean - keep @ mean
    weight.copy_(keep @ weight.double().cpu())
    bias.copy_(keep @ bias.double().cpu() + moved)


def erasing_map(
    vectors: Float[Tensor, "n d"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Return the mean m of vectors and the matrix P of LEACE: m + P (x - m) has the same mean in every class.

    Raises:
        DataError: only one class.
    """
    classes = labels.unique()
    if len(classes) < 2:
        raise DataError(f"erase_label: every label is {classes.tolist()}, and it needs two classes or more")
    mean = vectors.mean(0)
    centered = vectors - mean
    shifts = torch.stack([centered[labels == each].mean(0) for each in classes], 1)  # (d k)
    whitened = torch.linalg.pinv(centered.T @ centered / len(centered), hermitian=True) @ shifts
    overlap = torch.linalg.pinv(shifts.T @ whitened, hermitian=True, rtol=1e-6)
    return mean, torch.eye(len(mean), dtype=vectors.dtype) - shifts @ overlap @ whitened.T
