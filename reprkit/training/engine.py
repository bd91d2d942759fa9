"""Accelerate, narrowly used: device, precision, DistributedDataParallel, trackers.  The one file that knows it.

FSDP2 is torch's own, from ``reprkit.training.fsdp``: Accelerate's has no CPU and takes the whole model, latents included.

Accelerate prepares neither the schedule (it would step once a process) nor the data (it would change their order), and not the
optimisers, which need nothing where there is no loss scaling: bf16 needs none.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reprkit.errors import TrainingError
from reprkit.interfaces import require
from reprkit.models.model import Model
from reprkit.runs.filenames import METRICS
from reprkit.training import fsdp
from reprkit.utils import collectives

PRECISIONS = {"fp32": "no", "bf16": "bf16"}  # the option's value -> Accelerate's

# Accelerate's state is one for the whole process.  After the last loop what was made here is taken away again.
_alive: weakref.WeakSet[Engine] = weakref.WeakSet()
_owns_state = False


class Engine:
    """Where and how the model computes.

    Args:
        device: None (a GPU when there is one), "cpu", "cuda", "cuda:1", ...; under several processes each takes its own GPU.
        precision: "fp32", or "bf16" (autocast; weights, optimiser and latents stay in float32).
        strategy: "ddp" (every process holds the model) or "fsdp" (encoders and decoder are cut into a shard for each).
        turns: of the objective; with more than one, some parameters get no gradient in a turn.

    Attributes:
        shards: what is cut of the model that was prepared; None where nothing is.

    Raises:
        PartArgumentError: no such device.
        TrainingError: a process-wide Accelerate state of another kind is in use.
    """

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        precision: str = "fp32",
        strategy: str = "ddp",
        turns: Iterable[str] = ("main",),
    ) -> None:
        self.strategy = strategy
        chosen = _device(device)
        several = len(tuple(turns)) > 1
        self._accelerator = _accelerator(chosen, PRECISIONS[precision], several)
        _alive.add(self)
        self._tracking = False
        self.shards: fsdp.Shards | None = None
        self.device: torch.device = self._accelerator.device
        self.ranks, self.rank = self._accelerator.num_processes, self._accelerator.process_index
        if self.device.type != chosen.type:
            self.release(None)
            raise TrainingError(
                f"asked for {chosen}, and Accelerate is set up for {self.device} in this process already"
            )

    def prepare(self, model: Model) -> nn.Module:
        """The module to train with: on its device, under autocast where asked, wrapped by DDP or cut where there are ranks.

        All ranks start from rank 0's parameters and buffers.
        """
        left = fsdp.shards_of(model)
        if left is not None:  # by a loop that has not come to its end
            left.undo()
        if self.strategy == "ddp" or self.ranks == 1:
            module: nn.Module = self._accelerator.prepare_model(model)
            fsdp.broadcast_from_rank_0(model.buffers())  # DDP has seen to the parameters
            return module
        module = self._accelerator.prepare_model(model, evaluation_mode=True)  # which leaves DDP out
        fsdp.broadcast_from_rank_0((*model.parameters(), *model.buffers()))
        self.shards = fsdp.Shards(model, self.device)
        return module

    def backward(self, total: Tensor, *, last_piece: bool = True, **options: Any) -> None:
        """Gradients of a loss; on the closing piece of a step they are those of all ranks."""
        total.backward(**options)  # Accelerate's would first divide by its count of pieces, which is one here
        if last_piece and self.shards is not None:
            self.shards.average_gradients()

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The joint norm of the gradients, on the device; equal on all ranks."""
        whole = [p.grad for p in parameters if p.grad is not None and not fsdp.is_sharded(p)]
        if self.shards is None:
            if not whole:
                return torch.zeros(())
            # torch's get_total_norm without its sorting by device and type: half the time, in every step.
            return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(whole)))
        cut = [fsdp.local_shard(p.grad) for p in parameters if p.grad is not None and fsdp.is_sharded(p)]
        square = torch.stack(
            [nn.utils.get_total_norm(part).to(self.device).square() for part in (whole, cut)]
        )
        return (square[0] + collectives.sum_over_ranks(square[1])).sqrt()

    def clip(self, parameters: Sequence[nn.Parameter], limit: float, norm: Tensor) -> None:
        """Scale gradients of a joint norm down to ``limit``, without waiting for the device."""
        if self.shards is None:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
            return
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch's own
        for parameter in parameters:
            if parameter.grad is not None:
                fsdp.local_shard(parameter.grad).mul_(factor)

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """A block in which gradients are only added up, not exchanged between ranks.

        Shards are exchanged all the same: whole gradients would be kept otherwise, and pieces are made to save memory.
        """
        return self._accelerator.no_sync(module)

    def reshard(self) -> None:
        """Before and after weights change: forget what was gathered of them."""
        if self.shards is not None:
            self.shards.reshard()

    def start_tracking(self, trackers: tuple[str, ...], out: Path | None, facts: Mapping[str, Any]) -> None:
        """Send metrics to TensorBoard, Weights & Biases, ... from now on, through Accelerate's trackers.

        Raises:
            TrainingError: a tracker that is not installed or cannot be started, or no folder to write to.
        """
        if not trackers:
            return
        if out is None:
            raise TrainingError(f"track={trackers!r} needs out=, the folder to write to")
        from accelerate.tracking import filter_trackers

        try:
            found = filter_trackers(list(trackers), str(out))
        except ValueError as error:
            raise TrainingError(f"track={trackers!r}: {error}") from error
        there = [str(getattr(one, "value", one)) for one in found]
        missing = [each for each in trackers if each not in there]
        if missing:
            raise TrainingError(
                f"track={trackers!r}: not installed here: {', '.join(missing)}\n"
                f"  pip install {' '.join(missing)}, or leave track= out: metrics go to {out}/{METRICS} anyway"
            )
        self._accelerator.project_configuration.set_directories(str(out))
        self._accelerator.log_with = found
        settings = {key: value for key, value in facts.items() if isinstance(value, bool | int | float | str)}
        # Weights & Biases would write into the working folder, and call the run by two random words.
        here = {} if "WANDB_DIR" in os.environ else {"dir": str(out)}
        own = {"wandb": {"name": os.environ.get("WANDB_NAME", out.resolve().name), **here}}
        try:
            self._accelerator.init_trackers("tracked", config=settings, init_kwargs=own)
        except Exception as error:  # each tracker has errors of its own: no key, no network
            raise TrainingError(
                f"track={trackers!r} cannot be started: {type(error).__name__}: {error}\n"
                "  WANDB_MODE=offline keeps what Weights & Biases would send; or leave track= out"
            ) from error
        self._tracking = True

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Send metrics of a step."""
        if self._tracking:
            self._accelerator.log(dict(values), step=step)

    def release(self, model: Model | None, *, whole: bool = True) -> None:
        """Take off what ``prepare`` put on the model, and leave Accelerate's state as it was found.

        Where the model is cut, it becomes whole again, and all ranks must call it; not so with ``whole=False``, for a rank that
        may be the only one that leaves.
        """
        global _owns_state
        if self.shards is not None and whole:
            self.shards.undo()
        self.shards = None
        if model is not None:
            # Autocast was put over the instance's forward; without it the class's own shows again.
            for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
                model.__dict__.pop(name, None)
        if self._tracking:
            for tracker in self._accelerator.trackers:  # end_training() would take the process group down too
                tracker.finish()
            self._tracking = False
        _alive.discard(self)
        if _owns_state and not _alive:
            _reset()
            _owns_state = False


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        require(False, f"device={device!r} is not a device that torch knows: {str(error).splitlines()[0]}")
        raise
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        require(
            count > 0, f"device={device!r}: torch sees no CUDA device here; leave device= out, or give 'cpu'"
        )
        require(
            (chosen.index or 0) < count, f"device={device!r}: there are {count} CUDA devices, counted from 0"
        )
    return chosen


def _accelerator(device: torch.device, precision: str, several_turns: bool) -> Any:
    """An Accelerator for this device, on a process-wide state that fits it."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, patch_environment

    global _owns_state
    if (
        _owns_state
    ):  # a loop's around this one, which has taken what it needs; or one's that an exception has left open
        _reset()
    if not AcceleratorState._shared_state:
        _owns_state = True
    # A turn leaves some parameters without a gradient.  Buffers are the parts' own business: they reduce their statistics over
    # ranks in `update`, and a broadcast at every forward would overwrite what other ranks' latents have seen in this step.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=several_turns, broadcast_buffers=False)
    handlers: list[Any] = [ddp]
    # How it is computed the loop's options say; `accelerate launch` may bring other wishes from a person's settings.
    settings = {
        "ACCELERATE_USE_FSDP": "false",
        "ACCELERATE_USE_DEEPSPEED": "false",
        "ACCELERATE_DYNAMO_BACKEND": "no",
    }
    launched = "LOCAL_RANK" in os.environ
    if collectives.world_size() > 1 and not launched:
        settings |= {
            "RANK": str(collectives.rank()),
            "WORLD_SIZE": str(collectives.world_size()),
            "LOCAL_RANK": str(collectives.rank()),
        }
        launched = True
    if launched and device.type == "cpu":
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
        if (
            "OMP_NUM_THREADS" not in os.environ
        ):  # else it would choose the number of threads for the whole process
            settings["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    if (not launched and device.type not in ("cpu", "cuda")) or (not launched and device.index):
        settings["ACCELERATE_TORCH_DEVICE"] = str(device)
    grouped = dist.is_available() and dist.is_initialized()
    with patch_environment(**settings):
        try:
            made = Accelerator(mixed_precision=precision, cpu=device.type == "cpu", kwargs_handlers=handlers)
        except ValueError as error:
            raise TrainingError(
                f"Accelerate is in use in this process already, set up otherwise: {error}"
            ) from error
    if not grouped and dist.is_available() and dist.is_initialized():
        atexit.register(_leave)  # torch complains about a group that nobody takes down
    return made


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _reset() -> None:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
