"""Find a torchvision network's last feature map and the blocks of each resolution, and cut the network there."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from reprkit.errors import BuildError, PartArgumentError, nearest

_HEADS = ("avgpool", "classifier", "fc", "head", "heads")  # names of the heads of torchvision's networks
_CONTAINERS = ("features", "layers", "trunk_output", "encoder", "blocks")  # their children are the blocks
_PROBE_SIZE = 224  # image side in pixels at which every network has a last map of several cells


@dataclass(frozen=True)
class Plan:
    """Where to cut a network.

    Attributes:
        node: the graph node whose output is the last feature map (b c h w), or the tokens (b 1+n d) of a ViT.
        stages: the names of the blocks of each resolution, from the input on.
    """

    node: str
    stages: tuple[tuple[str, ...], ...]


def network_names() -> list[str]:
    """Names of all image classification networks of torchvision."""
    return models.list_models(module=models)


def check_name(name: Any) -> str:
    """Return the name if torchvision has such a network.

    Raises:
        PartArgumentError: torchvision has none of that name.
    """
    known = network_names()
    if name not in known:
        raise PartArgumentError(
            f"torchvision has no image network {name!r}.{nearest(str(name), known)}\n  known: {', '.join(known)}"
        )
    return str(name)


def make_network(name: str, height: int, width: int, *, pretrained: bool = False) -> nn.Module:
    """Make a torchvision network for images of a size, with randomly initialized weights.

    Raises:
        BuildError: the network cannot be made for that size.
    """
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Their weights were trained with another input normalization, which torchvision then applies inside.
        options = {"init_weights": True, "transform_input": pretrained}
    elif is_vit(name):
        if height != width:
            raise BuildError(f"{name} reads square images, and these are {height} x {width}: give resize=224")
        options = {"image_size": height}
    elif name.startswith("maxvit"):
        options = {"input_size": (height, width)}
    try:
        return models.get_model(name, weights=None, **options)
    except NotImplementedError:  # an operation without data on the meta device: the size is not at fault
        raise
    except (ValueError, AssertionError, RuntimeError) as error:
        raise _size_error(name, height, width, error) from error


def is_vit(name: str) -> bool:
    """Whether the network is a plain vision transformer: a class token, then patch tokens."""
    return name.startswith("vit_")


@functools.lru_cache
def plan_cut(name: str) -> Plan:
    """Find where to cut a network, from shapes on the meta device: nothing is computed, no random numbers are drawn."""
    network = _meta_network(name, _PROBE_SIZE, _PROBE_SIZE)
    nodes = get_graph_node_names(network, suppress_diff_warning=True)[1][1:]  # the first is the input
    outputs = cut_network(network, nodes)(_meta_images(_PROBE_SIZE, _PROBE_SIZE))
    body = {
        node: tuple(value.shape)
        for node, value in outputs.items()
        if isinstance(value, Tensor) and node.partition(".")[0] not in _HEADS
    }
    if is_vit(name):
        return Plan("encoder.ln", tuple((block,) for block in _block_names(network)))
    last = [node for node, shape in body.items() if len(shape) == 4 and shape[2] == shape[3] > 1][-1]
    stages: list[tuple[str, ...]] = []
    level = -1
    for block in _block_names(network):
        sides = [
            _map_side(shape) for node, shape in body.items() if node == block or node.startswith(f"{block}.")
        ]
        halvings = next((round(math.log2(_PROBE_SIZE / side)) for side in reversed(sides) if side > 1), level)
        stages = [*stages, (block,)] if halvings > level else [*stages[:-1], (*stages[-1], block)]
        level = max(level, halvings)
    return Plan(last, tuple(stages))


@functools.lru_cache
def output_shape(name: str, height: int, width: int) -> tuple[int, ...]:
    """The shape of the last feature map (1 c h w), or of a ViT's tokens (1 1+n d), for images of a size.

    Raises:
        BuildError: the images are too small for the network, or of a size that it cannot divide.
    """
    body = cut_network(_meta_network(name, height, width), {plan_cut(name).node: "x"})
    try:
        return tuple(body(_meta_images(height, width))["x"].shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _size_error(name, height, width, error) from error


def cut_network(network: nn.Module, nodes: list[str] | dict[str, str]) -> nn.Module:
    """The network in evaluation mode up to some nodes; it returns their outputs by name, later layers are removed."""
    extractor = create_feature_extractor(network, nodes, suppress_diff_warning=True).eval()
    # The extractor holds a graph per mode, which copying loses; a module of the evaluation graph can be copied.
    return fx.GraphModule(extractor, extractor.graph).eval()


def _meta_network(name: str, height: int, width: int) -> nn.Module:
    """The network on the meta device: shapes without values."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make_network(name, height, width).eval()
        except NotImplementedError:  # RegNet computes its widths with tensors
            return make_network(name, height, width).eval().to("meta")


def _meta_images(height: int, width: int) -> Tensor:
    return torch.zeros(1, 3, height, width, device="meta")


def _block_names(module: nn.Module, path: str = "") -> Iterator[str]:
    """Yield the paths of the blocks with weights, from the input on, without the head."""
    for name, child in module.named_children():
        if (not path and name in _HEADS) or name.startswith("aux") or name.startswith("Aux"):
            continue
        if name in _CONTAINERS:
            yield from _block_names(child, f"{path}{name}.")
        elif any(True for _ in child.parameters()):
            yield path + name


def _map_side(shape: tuple[int, ...]) -> int:
    """Cells along a side of a square map, channels first or last; 0 if the shape is not one of a square map."""
    if len(shape) == 4 and shape[2] == shape[3]:
        return shape[2]
    return shape[1] if len(shape) == 4 and shape[1] == shape[2] else 0


def _size_error(name: str, height: int, width: int, error: Exception) -> BuildError:
    reason = " ".join(str(error).split())
    return BuildError(
        f"{name} cannot read images of {height} x {width}: {reason[:200]}\n  have them resized: resize=224"
    )
