"""Sharded encoders and decoders, one shard per process (FSDP2, Zhao et al. 2023, arXiv 2304.11277).

With several groups of processes (hybrid sharding, section 3.2.2), each group holds a whole model, a shard per process.
Gradients are summed over the processes of a group first, then over the groups.

Every encoder and the decoder are sharded, each with its stacks of blocks.  Latents, adapters and the objective's modules stay
whole on every process, so that codebooks, k-means and revival work unchanged; their gradients are averaged after the backward.
"""

from __future__ import annotations

import copy
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.utils import collectives
from reprkit.utils.sharded_tensors import is_sharded, local_shard, whole

if TYPE_CHECKING:
    from reprkit.models.model import Model
    from reprkit.training.resume.state import Scalars

BLOCK = 100_000  # parameters from which a block of a stack is gathered and freed by itself
_SHARDS = "shards"  # the dimension of the mesh over which a model is divided
_FORWARD_METHODS = (
    "start",
    "step",
)  # methods of a decoder, besides forward, that need its weights

_sharded_models: weakref.WeakKeyDictionary[Model, Shards] = weakref.WeakKeyDictionary()


def broadcast_from_rank_0(tensors: Iterable[Tensor]) -> None:
    """Broadcast rank 0's values of these tensors to all ranks; does nothing in one process."""
    if collectives.processes() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


class Shards:
    """Replace a model's encoders and decoder by sharded copies; ``undo`` puts the originals back.

    Every process of a group gets one shard.  Scalars and weights that are used in more than one place are not sharded;
    copies and originals share those, and all buffers.  No public function undoes FSDP's changes to a module, therefore it gets
    copies, which are thrown away.

    Args:
        model: the model, on its device; with equal weights on all ranks.
        device: the device it computes on.
        shards: the processes of a group, which holds one model; None for all.  Groups are of neighboring ranks.

    Attributes:
        group: the processes that hold this process's model.
    """

    def __init__(self, model: Model, device: torch.device, shards: int | None = None) -> None:
        self._mesh = _mesh(device, shards)
        self.group = self._mesh.get_group(_SHARDS)
        self._divide(model)

    def _divide(self, model: Model) -> None:
        """Replace the encoders and decoders by copies, and shard these."""
        from reprkit.training.resume import state  # imported here: it imports this module

        self.model = weakref.ref(model)
        encoders = [factor.encoder for factor in model.factors.values()]
        tops = [*encoders, *(output.decoder for output in model.outputs.values())]
        self._tops = list({id(top): top for top in tops}.values())
        unsharded = self._unsharded_parameters()
        self._copies = _copies(self._tops)
        _replace_modules(model, self._tops, self._copies)
        self._sharded: list[nn.Module] = []
        for top in self._copies:
            self._shard_top(top, unsharded)
        self._before = [state.scalars_of(top) for top in self._copies]
        self._sharded_parameters = [
            parameter
            for top, copied in zip(self._tops, self._copies, strict=True)
            for parameter, held in zip(top.parameters(), copied.parameters(), strict=True)
            if is_sharded(held)
        ]
        for parameter in self._sharded_parameters:
            parameter.data = parameter.data.new_empty(0)  # kept for `undo`, without memory
        self._replicated = [p for p in model.parameters() if p.requires_grad and not is_sharded(p)]
        _sharded_models[model] = self

    def _unsharded_parameters(self) -> set[nn.Parameter]:
        """Return parameters of encoders and decoder that cannot be sharded: scalars, and those used in several places."""
        model = self.model()
        assert model is not None
        places = Counter(
            parameter
            for module in model.modules()
            for _, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        )
        inside = {parameter for top in self._tops for parameter in top.parameters()}
        return {p for p in inside if p.ndim == 0 or places[p] > 1}

    def _shard_top(self, top: nn.Module, whole: set[nn.Parameter]) -> None:
        """Shard an encoder or a decoder, each of its blocks by itself; ``whole`` are the parameters that are not sharded."""
        for block in _blocks(top):
            self._shard(block, whole)
        self._shard(top, whole)
        _register_forward_methods(top)

    def _shard(self, module: nn.Module, whole: set[nn.Parameter]) -> None:
        from torch.distributed.fsdp import fully_shard

        self._sharded.append(module)
        fully_shard(module, mesh=self._mesh, ignored_params=whole)

    def reshard(self) -> None:
        """Free gathered weights, so that the next forward gathers them again; call it before and after weights change."""
        for module in self._sharded:
            module.reshard()  # type: ignore[operator]

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Average the gradients of unsharded parameters over the ranks; all must call it.  Calling it twice changes nothing."""
        average_gradients(self._replicated)

    def check(self, optimizers: Iterable[Optimizer]) -> None:
        """Refuse optimizers that hold the weights from before sharding.

        Raises:
            TrainingError: an optimizer holds them; the message says what to pass instead.
        """
        before = {id(parameter) for parameter in self._sharded_parameters}
        for optimizer in optimizers:
            if any(id(p) in before for group in optimizer.param_groups for p in group["params"]):
                name = type(optimizer).__name__
                raise TrainingError(
                    f"the strategy shards the weights, and this {name} holds the whole ones: give it by name, "
                    f"such as optimizer='{name.lower()}(...)', or use strategy='ddp'"
                )

    @torch.no_grad()
    def undo(self) -> None:
        """Make the model whole again on every process, with its original modules and parameters; all must call it.

        Weights, buffers and all else that training changes are copied to the originals, as a resumed run would read them.
        """
        self.reshard()
        for top, copied, before in zip(self._tops, self._copies, self._before, strict=True):
            now = dict(copied.named_parameters())
            for name, parameter in top.named_parameters():
                held = now[name]
                if is_sharded(held):
                    parameter.data = whole(held).clone()  # without the padding
                parameter.grad = None
                parameter.requires_grad_(held.requires_grad)
            _copy_state_back(top, copied, before)
        model = self.model()
        if model is not None:
            _replace_modules(model, self._copies, self._tops)
            _sharded_models.pop(model, None)


def average_gradients(parameters: Sequence[nn.Parameter], group: dist.ProcessGroup | None = None) -> None:
    """Average gradients, or this process's shards of them, over the processes of a group (None: all); all of them must call it."""
    dtypes = {parameter.dtype for parameter in parameters}
    for dtype in sorted(dtypes, key=str):
        _average_gradients([p for p in parameters if p.dtype == dtype], group)


def _average_gradients(parameters: Sequence[nn.Parameter], group: dist.ProcessGroup | None) -> None:
    mine = [parameter.grad is not None for parameter in parameters]
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    parts = [local_shard(gradient).flatten() for gradient in gradients]
    # Flags for existing gradients are sent along, and read only by ranks that lack one, to avoid a device synchronization.
    flat = torch.cat([*parts, torch.tensor(mine).to(parts[0])])
    dist.all_reduce(flat, group=group)
    flat /= dist.get_world_size(group)
    *values, counts = flat.split([*(len(part) for part in parts), len(mine)])
    anywhere = mine if all(mine) else (counts > 0).tolist()
    for parameter, gradient, value, exists in zip(parameters, gradients, values, anywhere, strict=True):
        if exists:
            shard = local_shard(gradient)
            shard.copy_(value.view_as(shard))
            parameter.grad = gradient


def shards_of(model: Model) -> Shards | None:
    """Return the shards of a model whose loop ended early, or None."""
    return _sharded_models.get(model)


def _mesh(device: torch.device, shards: int | None) -> DeviceMesh:
    """Return all processes as a mesh: the shards of a model, and before them its replicas, if there are several."""
    ranks = collectives.processes()
    if shards is None or shards == ranks:
        return init_device_mesh(device.type, (ranks,), mesh_dim_names=(_SHARDS,))
    return init_device_mesh(device.type, (ranks // shards, shards), mesh_dim_names=("replicas", _SHARDS))


def _blocks(top: nn.Module) -> list[nn.Module]:
    """Return the blocks of its stacks that are large enough to be gathered by themselves, inner ones first."""
    blocks: list[nn.Module] = []
    for module in top.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            blocks += [
                block
                for block in module
                if any(True for _ in block.children())
                and not isinstance(block, nn.ModuleList | nn.ModuleDict)
                and sum(p.numel() for p in block.parameters()) >= BLOCK
            ]
    return list({id(block): block for block in reversed(blocks)}.values())


def _register_forward_methods(top: nn.Module) -> None:
    """Make a decoder's other methods gather its weights too, as ``forward`` does."""
    from torch.distributed.fsdp import register_fsdp_forward_method

    for name in _FORWARD_METHODS:
        if callable(getattr(top, name, None)):
            register_fsdp_forward_method(top, name)


def _copies(tops: Sequence[nn.Module]) -> list[nn.Module]:
    """Copy modules; the copies share the parameters and buffers of the originals."""
    memo: dict[int, Any] = {
        id(tensor): tensor for top in tops for tensor in (*top.parameters(), *top.buffers())
    }
    return [copy.deepcopy(top, memo) for top in tops]


def _replace_modules(model: nn.Module, olds: Sequence[nn.Module], news: Sequence[nn.Module]) -> None:
    """Replace modules by others, wherever they occur in the model."""
    replacements = {id(old): new for old, new in zip(olds, news, strict=True)}
    matches = [
        (name, replacements[id(m)])
        for name, m in model.named_modules(remove_duplicate=False)
        if id(m) in replacements
    ]
    for name, new in matches:
        model.set_submodule(name, new)


def _copy_state_back(top: nn.Module, copied: nn.Module, before: Scalars) -> None:
    """Copy to a module what training changed in its copy besides parameters: buffers, numbers, random states, modes."""
    from reprkit.training.resume import state

    modules, copies = dict(top.named_modules()), dict(copied.named_modules())
    for name, buffer in copied.named_buffers():
        owner, _, own = name.rpartition(".")
        if modules[owner].get_buffer(own) is not buffer:
            setattr(modules[owner], own, buffer)
    for name, values in state.changed_scalars(state.scalars_of(copied), before).items():
        for key, value in values.items():
            setattr(modules[name], key, value)
    generators = state.generators_of(copied)
    for name, generator in state.generators_of(top).items():
        generator.set_state(generators[name].get_state())
    for name, module in modules.items():
        module.training = copies[name].training
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
