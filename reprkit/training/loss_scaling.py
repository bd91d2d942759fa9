"""Loss scaling for ``precision="fp16"`` (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2), by torch's GradScaler.

The loss is multiplied by a scale, so that small gradients do not become zero in float16.  A step whose scaled gradients overflow is
skipped, and the scale halved; after 2,000 steps without an overflow it is doubled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from reprkit.utils import collectives, sharded_tensors

LOWEST = 2.0**-13  # below, an overflow is one of the gradients themselves


class LossScaler(GradScaler):
    """torch's GradScaler for whole and sharded gradients, which also counts the steps that were skipped.

    Args:
        device: the device of the weights.

    Attributes:
        skipped: number of skipped steps, a scalar on the device.
        overflow: the scale of the last step's loss if its gradients overflowed, else 0; a scalar on the device.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device.type)
        self.skipped = torch.zeros((), device=device)
        self.overflow = torch.zeros((), device=device)
        # Creates the scale, also for a step without a backward pass.
        self.scale(torch.zeros((), device=device))

    def _unscale_grads_(
        self, optimizer: Optimizer, inv_scale: Tensor, found_inf: Tensor, allow_fp16: bool
    ) -> dict[torch.device, Tensor]:
        """Divide the gradients by the scale, and set ``found_inf`` if any rank's is not finite: torch's for shards, too."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        sharded = False
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    sharded = sharded or sharded_tensors.is_sharded(parameter.grad)
                    gradient = sharded_tensors.local_shard(parameter.grad)
                    by_dtype.setdefault(gradient.dtype, []).append(gradient)
        with torch.no_grad():
            for gradients in by_dtype.values():
                torch._amp_foreach_non_finite_check_and_unscale_(gradients, found_inf, inv_scale)
            if sharded:  # whole gradients are the same on all ranks
                found_inf = collectives.max_over_processes(found_inf)
            self.skipped += found_inf
            self.overflow = torch.where(found_inf > 0, inv_scale.reciprocal(), torch.zeros_like(inv_scale))
        return {found_inf.device: found_inf}

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, the steps since it last changed, and the number of skipped steps, as plain numbers."""
        state = super().state_dict()
        return {
            "scale": state["scale"],
            "steps": state["_growth_tracker"],
            "skipped": int(self.skipped.item()),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore from ``state_dict``.

        Raises:
            ValueError: a number is out of its range.
        """
        scale, steps, skipped = (state_dict[name] for name in ("scale", "steps", "skipped"))
        if not (math.isfinite(scale) and scale > 0 and steps >= 0 and skipped >= 0):
            raise ValueError(f"its loss scale {scale}, {steps} steps old, after {skipped} skipped steps")
        super().load_state_dict(
            {**super().state_dict(), "scale": float(scale), "_growth_tracker": int(steps)}
        )
        self.skipped.fill_(skipped)
