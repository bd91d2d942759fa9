"""Tensor parallelism: processes that share a model each compute some heads and hidden units of its transformer blocks.

Shoeybi et al. 2019 (Megatron-LM, arXiv 1909.08053, section 3).  The layers are known by their class, ``PLANS``, so parts contain
nothing of it: queries, keys, values and the first matrix of an MLP are divided by their outputs, the matrices after them by their
inputs, and each such pair needs one sum over the processes in the forward pass and one in the backward pass.  Every process
computes all else alike.  The processes of a group get the same examples: ``reprkit.utils.collectives.set_data_group``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from reprkit.errors import TrainingError
from reprkit.layers.attention import Attention, Block
from reprkit.models.model import Model
from reprkit.training.fsdp import Shards, average_gradients
from reprkit.utils import collectives
from reprkit.utils.sharded_tensors import is_sharded, local_shard

_DATA, _SHARDS = "data", "shards"


def create_mesh(device: torch.device, shards: int) -> DeviceMesh:
    """Return all processes as a mesh: groups with different examples, and in each the ``shards`` processes that hold a model."""
    groups = collectives.processes() // shards
    return init_device_mesh(device.type, (groups, shards), mesh_dim_names=(_DATA, _SHARDS))


def data_group(mesh: DeviceMesh) -> dist.ProcessGroup:
    """Return the processes that hold the same shard, and have different examples."""
    return mesh.get_group(_DATA)


class TensorShards(Shards):
    """A model whose transformer blocks are divided over a group of processes; ``undo`` puts the originals back.

    Args:
        model: the model, on its device; with equal weights on all ranks.
        mesh: of ``create_mesh``.

    Attributes:
        share: the divided share of the parameters, from 0 to 1.
        size: the processes of a group.

    Raises:
        TrainingError: no layer can be divided, or heads do not divide.
    """

    def __init__(self, model: Model, mesh: DeviceMesh) -> None:
        self._mesh, self.group = mesh[_SHARDS], mesh.get_group(_SHARDS)
        self._data_group = data_group(mesh)
        tops: list[nn.Module] = [factor.encoder for factor in model.factors.values()]
        tops += [output.decoder for output in model.outputs.values()]
        inside = {module for top in tops for module in top.modules()}
        parameters = sum(p.numel() for p in model.parameters())
        self.size = size = self._mesh.size()
        for name, layer in _layers_with_plan(model):
            if isinstance(layer, Attention) and layer.heads % size and layer in inside:
                raise TrainingError(
                    f"strategy='tp': {layer.heads} heads of {name} do not divide over {size} processes; use a number of heads "
                    f"that is a multiple of {size}, 'tp(shards=N)' with N processes for a model, or strategy='fsdp'"
                )
        self._divide(model)
        self._divided = [p for p in model.parameters() if p.requires_grad and is_sharded(p)]
        divided = sum(p.numel() for p in model.parameters() if is_sharded(p))
        self.share = divided / parameters
        if not divided:
            self.undo()
            raise TrainingError(
                "strategy='tp' divides transformer blocks, and encoders and decoders have none (or only ones whose weights are "
                "used in several places): use strategy='fsdp', which shards every layer"
            )

    def _shard_top(self, top: nn.Module, whole: set[nn.Parameter]) -> None:
        for _, layer in list(_layers_with_plan(top)):
            if not whole.intersection(layer.parameters()):
                PLANS[type(layer)](layer, self._mesh)

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Average all gradients over the ranks; all processes must call it.  Calling it twice changes nothing."""
        super().average_gradients()
        average_gradients(self._divided, self._data_group)


# ------------------------------------------------------------------ layers of which a process has a part


class _Columns(nn.Linear):
    """A linear map of which this process computes some outputs; its input's gradient is summed by the layer before it."""

    # Properties, so that a caller that slices the weight (of queries alone) finds this process's rows.
    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The rows of this process, with gradient."""
        return _local(self._parameters["weight"])

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """The elements of this process, with gradient."""
        bias = self._parameters["bias"]
        return None if bias is None else _local(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (... width) to this process's outputs."""
        return F.linear(x, self.weight, self.bias)


class _FirstColumns(_Columns):
    """The same with the sum of its input's gradient."""

    mesh: DeviceMesh

    def forward(self, x: Tensor) -> Tensor:
        """Map (... width) to this process's outputs."""
        return super().forward(_copy(x, self.mesh))


class _Rows(nn.Linear):
    """A linear map of which this process has some inputs; the outputs are summed over the processes, then the bias is added."""

    mesh: DeviceMesh

    def forward(self, x: Tensor) -> Tensor:
        """Map this process's inputs to (... width)."""
        total: Tensor = _Sum.apply(F.linear(x, _local(self.weight)), self.mesh.get_group())
        return total if self.bias is None else total + self.bias.to(total.dtype)


class _SomeHeads(Attention):
    """Attention with this process's heads."""

    mesh: DeviceMesh

    def forward(self, x: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        """Map (b n d) to (b n d), as ``Attention``."""
        return super().forward(_copy(x, self.mesh), *arguments, **keywords)


def _divide_attention(layer: nn.Module, mesh: DeviceMesh) -> None:
    assert isinstance(layer, Attention)
    layer.heads //= mesh.size()
    _divide_columns(layer.qkv, mesh, _Columns, parts=3)
    _divide_rows(layer.out, mesh)
    _become(layer, _SomeHeads, mesh)


def _divide_block(layer: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the MLP of a block."""
    assert isinstance(layer, Block)
    first, second = layer.feed[1], layer.feed[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    _divide_columns(first, mesh, _FirstColumns)
    _divide_rows(second, mesh)


PLANS: dict[type[nn.Module], Callable[[nn.Module, DeviceMesh], None]] = {
    Attention: _divide_attention,
    Block: _divide_block,
}


def _layers_with_plan(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers that can be divided, and their names; of the exact class, since another may compute something else."""
    return ((name, layer) for name, layer in module.named_modules() if type(layer) in PLANS)


def _divide_columns(layer: nn.Linear, mesh: DeviceMesh, cls: type[_Columns], parts: int = 1) -> None:
    """Divide the outputs of a layer, which are ``parts`` vectors, each divided by itself."""
    placement = Shard(0) if parts == 1 else _StridedShard(0, split_factor=parts)
    _set(layer, "weight", mesh, placement)
    _set(layer, "bias", mesh, placement)
    _become(layer, cls, mesh)


def _divide_rows(layer: nn.Linear, mesh: DeviceMesh) -> None:
    _set(layer, "weight", mesh, Shard(1))
    _become(layer, _Rows, mesh)


def _set(layer: nn.Module, name: str, mesh: DeviceMesh, placement: Any) -> None:
    """Replace a parameter by its shard."""
    parameter = layer._parameters[name]
    if parameter is not None:
        shard = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
        # Cloned: a view would keep the whole weight in memory.
        layer._parameters[name] = nn.Parameter(shard.clone(), requires_grad=parameter.requires_grad)


def _become(layer: nn.Module, cls: type[nn.Module], mesh: DeviceMesh) -> None:
    # The mesh is the class's, so that a copy of the module, such as a fine-tuned one, does not copy process groups.
    layer.__class__ = type(cls.__name__, (cls,), {"mesh": mesh, "__module__": cls.__module__})


def _local(parameter: Tensor | None) -> Tensor:
    assert parameter is not None
    return local_shard(parameter)


def _copy(x: Tensor, mesh: DeviceMesh) -> Tensor:
    copied: Tensor = _Copy.apply(x, mesh.get_group())
    return copied


class _Copy(torch.autograd.Function):
    """The value; its gradient summed over the processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _Sum(torch.autograd.Function):
    """The value summed over the processes; its gradient as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        total = x.detach().contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
