"""Training in stages: what a model takes over from the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from reprkit.errors import BuildError

if TYPE_CHECKING:
    from reprkit.models.model import Model


@torch.no_grad()
def warm_start(model: Model, start: Model) -> None:
    """Copy the weights and statistics of ``start``'s parts into the parts of the same names of ``model``.

    Parts are factors, the decoder, and the linear map between the two of each factor; objectives are left as they are.

    Raises:
        BuildError: a part that does not fit, before anything was copied, or no part of the same name.
    """
    known = _named_parts(start)
    both = {name: (part, known[name]) for name, part in _named_parts(model).items() if name in known}
    if not both:
        raise BuildError(
            f"start= has no part that this model has: its parts are {', '.join(known) or 'none'}, "
            f"this model's {', '.join(_named_parts(model)) or 'none'}"
        )
    for name, (part, other) in both.items():
        mine, theirs = ({n: tuple(v.shape) for n, v in each.state_dict().items()} for each in (part, other))
        differ = [each for each in mine | theirs if mine.get(each) != theirs.get(each)]
        if differ:
            one = differ[0]
            raise BuildError(
                f"start=: its {name} does not fit this model's, {len(differ)} tensors differ, such as {one}: "
                f"{theirs.get(one, 'none')} there, {mine.get(one, 'none')} here\n"
                "  build both stages with equal parts, or give the factor another name"
            )
    for part, other in both.values():
        part.load_state_dict(other.state_dict())


def _named_parts(model: Model) -> dict[str, nn.Module]:
    """By what an error calls them."""
    found: dict[str, nn.Module] = {f"factor {name!r}": path for name, path in model.factors.items()}
    if model.decoder is not None:
        found["decoder"] = model.decoder
    found |= {f"map from factor {name!r} to the decoder": each for name, each in model.adapters.items()}
    return found
