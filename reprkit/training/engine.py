"""Device, precision, DistributedDataParallel and trackers through Accelerate; the only file that uses it.

FSDP2 is torch's own, see ``reprkit.training.fsdp``: Accelerate's does not run on the CPU and shards the latents too.

Accelerate prepares neither the schedule (it would step once per process) nor the data (it would change their order), nor the
optimizers, which need no preparation: bf16 needs no loss scaling, and that of fp16 is in ``reprkit.training.loss_scaling``, since
Accelerate's does not run on the CPU.
"""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.models.model import Model
from reprkit.runs.filenames import METRICS
from reprkit.training import fsdp, tensor_parallel
from reprkit.training.loss_scaling import LossScaler
from reprkit.training.sparse_gradients import gradient_values, merge_rows
from reprkit.training.strategies import strategy_from
from reprkit.utils import collectives, sharded_tensors
from reprkit.utils.devices import find_device

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "no", "fp64": "no"}  # the option's value -> Accelerate's

# Accelerate's state is global to the process.  If it was created here, it is reset after the last loop.
_open_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_owns_state = False


class Engine:
    """Device, precision and parallelism of a training run.

    Args:
        device: None (a GPU when there is one), "cpu", "cuda", "cuda:1", ...; with several processes each uses its own GPU.
        precision: "fp32", "bf16" (autocast; weights, optimizer and latents stay in float32), "fp16" (the same, with loss scaling),
            or "fp64".
        strategy: "ddp" (every process holds the model), "fsdp" (encoders and decoder are sharded over the processes) or "hsdp"
            (sharded over groups of processes), or "tp" (layers are divided over groups of processes).
        turns: the objective's turns; with more than one, some parameters get no gradient in a turn.

    Attributes:
        shards: the sharded modules of the prepared model; None if nothing is sharded.
        ranks, rank: the number of processes, and of this one.
        data_ranks, data_rank: the number of parts of a batch, and of this process's: with "tp" several processes have one part.
        scaler: multiplies the loss and skips steps that overflow; None except with "fp16".

    Raises:
        PartArgumentError: the device does not exist.
        TrainingError: Accelerate is already set up for another device in this process, or the processes do not divide into groups
            of shards.
    """

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        precision: str = "fp32",
        strategy: str = "ddp",
        turns: Iterable[str] = ("main",),
    ) -> None:
        self.strategy = strategy_from(strategy)
        self._dtype = torch.float64 if precision == "fp64" else torch.float32
        chosen = find_device(device)
        several = len(tuple(turns)) > 1
        self._accelerator = _accelerator(chosen, PRECISIONS[precision], several)
        _open_engines.add(self)
        self._tracking = False
        self.shards: fsdp.Shards | None = None
        self.device: torch.device = self._accelerator.device
        self.ranks, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        self._mesh: DeviceMesh | None = None
        self._released = True  # nothing is set yet that `release` would undo
        try:
            self._group_size = self.strategy.shards_of(self.ranks)
        except TrainingError:
            self.release(None)
            raise
        self.data_ranks, self.data_rank = self.ranks, self.rank
        group = None
        if self.strategy.name == "tp" and self.ranks > 1:
            self._mesh = tensor_parallel.create_mesh(self.device, self._group_size)
            group = tensor_parallel.data_group(self._mesh)
        self._outer_group, self._released = collectives.set_data_group(group), False
        if group is not None:
            self.data_ranks, self.data_rank = collectives.world_size(), collectives.rank()
        self.scaler = LossScaler(self.device) if precision == "fp16" else None
        if precision == "bf16":
            _warn_of_emulation(self.device)
        if self.device.type != chosen.type:
            self.release(None)
            raise TrainingError(
                f"device {chosen} was requested, but Accelerate is already set up for {self.device} in this process"
            )

    def prepare(self, model: Model) -> nn.Module:
        """Return the module to train: on its device, with autocast if requested, wrapped by DDP or sharded if there are ranks.

        All ranks start from rank 0's parameters and buffers.
        """
        shards = fsdp.shards_of(model)
        if shards is not None:  # by a loop that did not finish
            shards.undo()
        if torch.float64 in (self._dtype, model.dtype):
            model.to(self._dtype)
        if self.scaler is not None:
            autocast = torch.autocast(self.device.type, dtype=torch.float16)
            model.forward = MethodType(autocast(type(model).forward), model)  # type: ignore[method-assign]
        if not self.strategy.sharded or self.ranks == 1:
            module: nn.Module = self._accelerator.prepare_model(model)
            fsdp.broadcast_from_rank_0(model.buffers())  # DDP has broadcast the parameters
            return module
        module = self._accelerator.prepare_model(model, evaluation_mode=True)  # without DDP
        fsdp.broadcast_from_rank_0((*model.parameters(), *model.buffers()))
        self.shards = (
            fsdp.Shards(model, self.device, self._group_size)
            if self._mesh is None
            else tensor_parallel.TensorShards(model, self._mesh)
        )
        return module

    def backward(self, total: Tensor, *, last_piece: bool = True, **options: Any) -> None:
        """Compute the gradients of a loss; at the last piece of a step they are averaged over all ranks."""
        scaled = total if self.scaler is None else self.scaler.scale(total)
        # Accelerate's own would first divide by its number of pieces, which is 1 here.
        scaled.backward(**options)
        if last_piece and self.shards is not None:
            self.shards.average_gradients()

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients of a turn by the scale of the loss, before they are checked and clipped."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> None:
        """Update the weights; with loss scaling only if the unscaled gradients are finite, and then the scale."""
        if self.scaler is not None:
            self.scaler.step(optimizer)
            self.scaler.update()
        elif closure is None:
            optimizer.step()
        else:
            optimizer.step(closure)

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Return the joint norm of the gradients, on the device; equal on all ranks.  Equal rows of sparse gradients are merged."""
        merge_rows(parameters)  # once: clipping and the optimizer get merged rows
        whole = [
            gradient_values(p.grad)
            for p in parameters
            if p.grad is not None and not sharded_tensors.is_sharded(p)
        ]
        if self.shards is None:
            if not whole:
                return torch.zeros(())
            # torch's get_total_norm without sorting by device and dtype, which would double the time of every step.
            return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(whole)))
        shards = [
            sharded_tensors.local_shard(p.grad)
            for p in parameters
            if p.grad is not None and sharded_tensors.is_sharded(p)
        ]
        square = torch.stack(
            [nn.utils.get_total_norm(part).to(self.device).square() for part in (whole, shards)]
        )
        dist.all_reduce(square[1], group=self.shards.group)  # one model's shards: replicas have the same ones
        return square.sum().sqrt()

    def clip(self, parameters: Sequence[nn.Parameter], limit: float, norm: Tensor) -> None:
        """Scale gradients of a joint norm down to ``limit``, without waiting for the device."""
        if self.shards is None:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
            return
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch's own
        for parameter in parameters:
            if parameter.grad is not None:
                sharded_tensors.local_shard(parameter.grad).mul_(factor)

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """Context in which gradients are accumulated and not exchanged between ranks.

        Sharded gradients are exchanged all the same: whole gradients would need the memory that pieces are meant to save.
        """
        return self._accelerator.no_sync(module)

    def reshard(self) -> None:
        """Free gathered weights; call it before and after weights change."""
        if self.shards is not None:
            self.shards.reshard()

    def start_tracking(self, trackers: tuple[str, ...], out: Path | None, facts: Mapping[str, Any]) -> None:
        """Start sending metrics to TensorBoard, Weights & Biases, ... through Accelerate's trackers.

        Raises:
            TrainingError: a tracker that is not installed or cannot be started, or no folder to write to.
        """
        if not trackers:
            return
        if out is None:
            raise TrainingError(f"track={trackers!r} needs out=, the folder to write to")
        from accelerate.tracking import filter_trackers

        try:
            chosen = filter_trackers(list(trackers), str(out))
        except ValueError as error:
            raise TrainingError(f"track={trackers!r}: {error}") from error
        available = [str(getattr(tracker, "value", tracker)) for tracker in chosen]
        missing = [name for name in trackers if name not in available]
        if missing:
            raise TrainingError(
                f"track={trackers!r}: not installed here: {', '.join(missing)}\n"
                f"  pip install {' '.join(missing)}, or leave track= out: metrics go to {out}/{METRICS} anyway"
            )
        self._accelerator.project_configuration.set_directories(str(out))
        self._accelerator.log_with = chosen
        settings = {key: value for key, value in facts.items() if isinstance(value, bool | int | float | str)}
        # By default Weights & Biases writes into the working folder and names the run by two random words.
        folder = {} if "WANDB_DIR" in os.environ else {"dir": str(out)}
        own = {"wandb": {"name": os.environ.get("WANDB_NAME", out.resolve().name), **folder}}
        try:
            self._accelerator.init_trackers("tracked", config=settings, init_kwargs=own)
        except Exception as error:  # each tracker has its own errors: no key, no network
            raise TrainingError(
                f"track={trackers!r} cannot be started: {type(error).__name__}: {error}\n"
                "  WANDB_MODE=offline keeps what Weights & Biases would send; or leave track= out"
            ) from error
        self._tracking = True

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Send the metrics of a step."""
        if self._tracking:
            self._accelerator.log(dict(values), step=step)

    def release(self, model: Model | None, *, whole: bool = True) -> None:
        """Undo ``prepare`` on the model, and leave Accelerate's state as it was before.

        A sharded model becomes whole again, and all ranks must call it.  ``whole=False`` skips that, for a rank that may be the
        only one to leave.
        """
        global _owns_state
        if self.shards is not None and whole:
            self.shards.undo()
        self.shards = None
        if not self._released:
            collectives.set_data_group(self._outer_group)
            self._released = True
        if model is not None:
            # Autocast replaced the instance's forward; deleting it restores the class's own.
            for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
                model.__dict__.pop(name, None)
        if self._tracking:
            for tracker in self._accelerator.trackers:  # end_training() would also destroy the process group
                tracker.finish()
            self._tracking = False
        _open_engines.discard(self)
        if _owns_state and not _open_engines:
            _reset()
            _owns_state = False


def _accelerator(device: torch.device, precision: str, several_turns: bool) -> Any:
    """Return an Accelerator for this device, on a process-wide state that fits it."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, patch_environment

    global _owns_state
    if (
        _owns_state
    ):  # created by an outer loop, which no longer needs it, or by one that an exception left open
        _reset()
    if not AcceleratorState._shared_state:
        _owns_state = True
    # A turn leaves some parameters without a gradient.  Parts reduce their buffers (statistics) over ranks in `update`; a broadcast
    # at every forward would overwrite what the latents of other ranks accumulated in this step.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=several_turns, broadcast_buffers=False)
    handlers: list[Any] = [ddp]
    # The loop's options decide; `accelerate launch` may set other values from the user's configuration.
    settings = {
        "ACCELERATE_USE_FSDP": "false",
        "ACCELERATE_USE_DEEPSPEED": "false",
        "ACCELERATE_DYNAMO_BACKEND": "no",
    }
    launched = "LOCAL_RANK" in os.environ
    if collectives.processes() > 1 and not launched:
        settings |= {
            "RANK": str(dist.get_rank()),
            "WORLD_SIZE": str(collectives.processes()),
            "LOCAL_RANK": str(dist.get_rank()),
        }
        launched = True
    if launched and device.type == "cpu":
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
        if (
            "OMP_NUM_THREADS" not in os.environ
        ):  # otherwise Accelerate sets the number of threads of the whole process
            settings["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    if (not launched and device.type not in ("cpu", "cuda")) or (not launched and device.index):
        settings["ACCELERATE_TORCH_DEVICE"] = str(device)
    grouped = dist.is_available() and dist.is_initialized()
    with patch_environment(**settings):
        try:
            accelerator = Accelerator(
                mixed_precision=precision, cpu=device.type == "cpu", kwargs_handlers=handlers
            )
        except ValueError as error:
            raise TrainingError(
                f"Accelerate is already in use in this process with other settings: {error}"
            ) from error
    if not grouped and dist.is_available() and dist.is_initialized():
        atexit.register(_destroy_group)  # torch warns about a group that is never destroyed
    return accelerator


def _warn_of_emulation(device: torch.device) -> None:
    """Warn of a GPU that computes bfloat16 by float32."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        warnings.warn(
            f"precision='bf16' on a device without it ({torch.cuda.get_device_name(device)}): it computes in float32 and converts, "
            "which is slow; use precision='fp16', which scales the loss",
            stacklevel=6,
        )


def _destroy_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _reset() -> None:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
