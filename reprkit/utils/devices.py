"""The device that a user names, checked before anything is moved there."""

from __future__ import annotations

import torch

from reprkit.errors import PartArgumentError


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device that can be used here; None is a GPU if there is one, else the CPU.

    Raises:
        PartArgumentError: torch knows no such device, or has none of it here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise PartArgumentError(
            f"device={device!r} is not a device known to torch: {str(error).splitlines()[0]}"
        ) from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise PartArgumentError(
                f"device={device!r}: torch sees no CUDA device here; leave device= out, or give 'cpu'"
            )
        if (chosen.index or 0) >= count:
            raise PartArgumentError(f"device={device!r}: there are {count} CUDA devices, numbered from 0")
    elif chosen.type not in ("cpu", "meta"):
        try:
            torch.empty(1, device=chosen)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise PartArgumentError(
                f"device={device!r} cannot be used here: {str(error).splitlines()[0]}; leave device= out, or give 'cpu'"
            ) from error
    return chosen
