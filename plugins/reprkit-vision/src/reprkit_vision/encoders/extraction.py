"""Where a torchvision network's last map is, and which of its blocks work at which resolution."""

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

_HEADS = ("avgpool", "classifier", "fc", "head", "heads")  # what torchvision's networks end in
_CONTAINERS = ("features", "layers", "trunk_output", "encoder", "blocks")  # whose children are the blocks
_PROBE = 224  # pixels at which every network has a map of several cells


@dataclass(frozen=True)
class Plan:
    """How a network is cut.

    Attributes:
        node: whose output is the last map (b c h w), or the tokens (b 1+n d) of a ViT.
        stages: the names of the blocks of each resolution, from the input on.
    """

    node: str
    stages: tuple[tuple[str, ...], ...]


def network_names() -> list[str]:
    """All image classification networks of torchvision."""
    return models.list_models(module=models)


def checked_name(name: Any) -> str:
    """A network's name.

    Raises:
        PartArgumentError: torchvision has none of that name.
    """
    known = network_names()
    if name not in known:
        raise PartArgumentError(
            f"torchvision has no image network {name!r}.{nearest(str(name), known)}\n  known: {', '.join(known)}"
        )
    return str(name)


def network(name: str, height: int, width: int, *, pretrained: bool = False) -> nn.Module:
    """A torchvision network for images of a size, with fresh weights.

    Raises:
        BuildError: it cannot be made for that size.
    """
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Their weights were trained on another normalisation, which torchvision puts right inside.
        options = {"init_weights": True, "transform_input": pretrained}
    elif is_vit(name):
        if height != width:
            raise BuildError(f"{name} reads square images, and these are {height} x {width}: give resize=224")
        options = {"image_size": height}
    elif name.startswith("maxvit"):
        options = {"input_size": (height, width)}
    try:
        return models.get_model(name, weights=None, **options)
    except NotImplementedError:  # of numbers that are not there: not the size's fault
        raise
    except (ValueError, AssertionError, RuntimeError) as error:
        raise _unfit(name, height, width, error) from error


def is_vit(name: str) -> bool:
    """Whether it is a plain vision transformer: tokens of patches after a class token."""
    return name.startswith("vit_")


@functools.lru_cache
def plan(name: str) -> Plan:
    """How to cut a network; looked up on shapes alone, so nothing is computed and nothing drawn."""
    made = _outline(name, _PROBE, _PROBE)
    nodes = get_graph_node_names(made, suppress_diff_warning=True)[1][1:]  # the first is the input
    found = cut(made, nodes)(_blank(_PROBE, _PROBE))
    body = {
        node: tuple(value.shape)
        for node, value in found.items()
        if isinstance(value, Tensor) and node.partition(".")[0] not in _HEADS
    }
    if is_vit(name):
        return Plan("encoder.ln", tuple((block,) for block in _blocks(made)))
    last = [node for node, shape in body.items() if len(shape) == 4 and shape[2] == shape[3] > 1][-1]
    stages: list[tuple[str, ...]] = []
    level = -1
    for block in _blocks(made):
        sides = [
            _side(shape) for node, shape in body.items() if node == block or node.startswith(f"{block}.")
        ]
        here = next((round(math.log2(_PROBE / side)) for side in reversed(sides) if side > 1), level)
        stages = [*stages, (block,)] if here > level else [*stages[:-1], (*stages[-1], block)]
        level = max(level, here)
    return Plan(last, tuple(stages))


@functools.lru_cache
def shape_of(name: str, height: int, width: int) -> tuple[int, ...]:
    """The shape of the last map (1 c h w), or of a ViT's tokens (1 1+n d), for images of a size.

    Raises:
        BuildError: they are too small for it, or of a size that it cannot divide.
    """
    body = cut(_outline(name, height, width), {plan(name).node: "x"})
    try:
        return tuple(body(_blank(height, width))["x"].shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _unfit(name, height, width, error) from error


def cut(made: nn.Module, nodes: list[str] | dict[str, str]) -> nn.Module:
    """The network in evaluation up to some nodes, whose outputs it gives by name; what comes after is gone."""
    found = create_feature_extractor(made, nodes, suppress_diff_warning=True).eval()
    # It holds a graph for each mode, which a copy of it loses; a module of the one for evaluation can be copied.
    return fx.GraphModule(found, found.graph).eval()


def _outline(name: str, height: int, width: int) -> nn.Module:
    """The network without numbers: shapes only."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return network(name, height, width).eval()
        except NotImplementedError:  # RegNet computes its widths with tensors
            return network(name, height, width).eval().to("meta")


def _blank(height: int, width: int) -> Tensor:
    return torch.zeros(1, 3, height, width, device="meta")


def _blocks(module: nn.Module, path: str = "") -> Iterator[str]:
    """Paths of the blocks with weights, from the input on, the head left out."""
    for name, child in module.named_children():
        if (not path and name in _HEADS) or name.startswith("aux") or name.startswith("Aux"):
            continue
        if name in _CONTAINERS:
            yield from _blocks(child, f"{path}{name}.")
        elif any(True for _ in child.parameters()):
            yield path + name


def _side(shape: tuple[int, ...]) -> int:
    """Cells along a side of a square map, channels first or last; 0 of what is none."""
    if len(shape) == 4 and shape[2] == shape[3]:
        return shape[2]
    return shape[1] if len(shape) == 4 and shape[1] == shape[2] else 0


def _unfit(name: str, height: int, width: int, error: Exception) -> BuildError:
    said = " ".join(str(error).split())
    return BuildError(
        f"{name} cannot read images of {height} x {width}: {said[:200]}\n  let them be resized: resize=224"
    )
