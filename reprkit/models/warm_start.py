"""Warm start: initialize a model from one of an earlier stage of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from reprkit.errors import BuildError
from reprkit.utils.added_state import added_state

if TYPE_CHECKING:
    from reprkit.models.model import Model


@torch.no_grad()
def warm_start(model: Model, start: Model) -> None:
    """Copy the weights and statistics of ``start``'s parts into the parts of the same names of ``model``.

    Parts are factors, the decoder, and the linear map between the two of each factor; objectives are left as they are.

    Raises:
        BuildError: no part of the same name, or a part that does not fit; nothing was copied then.
    """
    known = _named_parts(start)
    pairs = {name: (part, known[name]) for name, part in _named_parts(model).items() if name in known}
    if not pairs:
        raise BuildError(
            f"start= has no part that this model has: its parts are {', '.join(known) or 'none'}, "
            f"this model's {', '.join(_named_parts(model)) or 'none'}"
        )
    for name, (part, other) in pairs.items():
        mine, theirs = ({n: tuple(v.shape) for n, v in m.state_dict().items()} for m in (part, other))
        optional = added_state(part)
        different = [k for k in mine | theirs if mine.get(k) != theirs.get(k) and k not in optional]
        if different:
            key = different[0]
            raise BuildError(
                f"start=: its {name} does not fit this model's, {len(different)} tensors differ, such as {key}: "
                f"{theirs.get(key, 'none')} there, {mine.get(key, 'none')} here\n"
                "  build both stages with equal parts, or rename the factor"
            )
    for part, other in pairs.values():
        part.load_state_dict(other.state_dict())


def _named_parts(model: Model) -> dict[str, nn.Module]:
    """Return the parts by their names in error messages."""
    parts: dict[str, nn.Module] = {f"factor {name!r}": factor for name, factor in model.factors.items()}
    several = len(model.outputs) > 1
    for output in model.outputs.values():
        title = f"decoder of output {output.name!r}" if several else "decoder"
        parts[title] = output.decoder
        parts |= {f"map from factor {name!r} to the {title}": each for name, each in output.adapters.items()}
    return parts
