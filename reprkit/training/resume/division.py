"""Which tensors of a captured state the ranks divide among themselves, and which rows each of them writes.

Divided are the parameters, their moments and their average: they are large, and equal on all ranks or sharded over them.  All
else (buffers, numbers, random states, extras) is small and may differ between ranks; rank 0's is saved, as in a gathered state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprkit.errors import TrainingError
from reprkit.utils import collectives
from reprkit.utils.sharded_tensors import is_block, is_sharded, local_shard, whole

# A divided tensor's entry in the rest of the state: its name in the parts, and the parameter whose shape and sharding it has.
KEY, OF = "in parts", "of"
WEIGHT = "model/"  # begins the names of the model's own tensors in the parts
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Chunk:
    """What one rank writes of a tensor.

    Attributes:
        key: the tensor's name in the parts.
        values: a block of it, sharing its memory.
        offsets: the block's first index along each axis of the whole tensor.
        shape: of the whole tensor.
    """

    key: str
    values: Tensor
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


def divide(
    captured: Mapping[str, Any], model: nn.Module, rank: int, ranks: int
) -> tuple[dict[str, Any], list[Chunk]]:
    """Divide a captured state; all ranks derive the same division.

    Only tensors whose shards are not blocks are gathered, such as the queries, keys and values of one matrix under "tp".

    Args:
        captured: what ``snapshot.capture(..., whole=False)`` returned.
        model: the model, for the names of its parameters.
        rank: of this process.
        ranks: number of processes.

    Returns:
        The state with an entry ``{KEY: ..., OF: ...}`` in place of each divided tensor; and what this rank writes.

    Raises:
        TrainingError: a tensor is sharded in a way that has no single block for each process.
    """
    rest = _copy_of_places(captured)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    found: dict[str, Tensor] = {}
    for container, place, key, of in _places(rest, trained):
        value = container[place]
        if not isinstance(value, Tensor) or value.dtype not in DTYPES or not value.numel():
            continue
        if is_sharded(value) and not is_block(value):
            value = whole(value)
        if is_sharded(value) or (of is not None and shapes.get(of) == value.shape):
            found[key] = value.detach()
            container[place] = {KEY: key, OF: of}
    replicated = {key: tensor for key, tensor in found.items() if not is_sharded(tensor)}
    total, before = sum(_bytes(tensor) for tensor in replicated.values()), 0
    chunks = []
    for key, tensor in found.items():
        if key in replicated:
            low, high = (total * each // ranks for each in (rank, rank + 1))
            chunk = _rows(key, tensor, tensor.shape, (0,) * tensor.ndim, low - before, high - before)
            before += _bytes(tensor)
        else:
            chunk = _shard(key, tensor, ranks)
        if chunk.values.numel():
            chunks.append(chunk)
    return rest, chunks


def join(rest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the state with the tensors in their places.

    Raises:
        KeyError: one of them is missing.
    """
    state = _copy_of_places(rest)
    for container, place, _, _ in _places(state, ()):
        entry = container[place]
        if is_entry(entry):
            container[place] = tensors[entry[KEY]]
    return state


def entries_of(rest: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Iterate over the divided tensors of a state: name in the parts, and name of their parameter."""
    for container, place, _, _ in _places(_copy_of_places(rest), ()):
        if is_entry(container[place]):
            yield container[place][KEY], container[place].get(OF)


def is_entry(value: Any) -> bool:
    """Whether a value of a state stands for a divided tensor."""
    return isinstance(value, dict) and isinstance(value.get(KEY), str)


def _copy_of_places(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the containers that ``_places`` iterates over; the tensors are shared."""
    average = state.get("average")
    return {
        **state,
        "model": {**state["model"], "tensors": dict(state["model"]["tensors"])},
        "optimisers": {
            turn: {**saved, "state": {index: dict(each) for index, each in saved["state"].items()}}
            for turn, saved in state["optimisers"].items()
        },
        **({"average": {**average, "average": list(average["average"])}} if average else {}),
    }


def _places(state: Mapping[str, Any], trained: Sequence[str]) -> Iterator[tuple[Any, Any, str, str | None]]:
    """Iterate over the places of tensors that may be divided: container, index in it, name, and name of the parameter."""
    for name in state["model"]["tensors"]:
        yield state["model"]["tensors"], name, f"{WEIGHT}{name}", name
    for turn, saved in state["optimisers"].items():
        names = saved.get("names", ())
        for index, entries in saved["state"].items():
            name = names[index] if type(index) is int and index < len(names) else None
            for entry in entries:
                yield entries, entry, f"optimizers/{turn}/{name or index}/{entry}", name
    if state.get("average"):
        averages = state["average"]["average"]
        for index in range(len(averages)):
            yield averages, index, f"average/{index}", trained[index] if index < len(trained) else None


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _rows(
    key: str, values: Tensor, shape: tuple[int, ...], offsets: tuple[int, ...], low: int, high: int
) -> Chunk:
    """Return the rows of a block that begin in a range of its bytes."""
    if not values.ndim:
        rows = values if low <= 0 < high else values.new_empty(0)
        return Chunk(key, rows, (), ())
    count = len(values)
    width = max(1, _bytes(values) // max(1, count))
    start, stop = (min(max(-(-edge // width), 0), count) for edge in (low, high))
    return Chunk(key, values[start:stop], (offsets[0] + start, *offsets[1:]), tuple(shape))


def _shard(key: str, tensor: Tensor, ranks: int) -> Chunk:
    """Return this rank's block of a sharded tensor; ranks with equal blocks divide its rows."""
    blocks = tensor.__create_chunk_list__()  # type: ignore[attr-defined]  # the protocol of torch.distributed.checkpoint
    local = local_shard(tensor)
    if len(blocks) != 1 or tuple(blocks[0].sizes) != tuple(local.shape):
        raise TrainingError(
            f"saving='sharded' cannot write {key}: its shards are not blocks of the whole tensor; use saving='gathered'"
        )
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    # Under "tp" several groups of processes have meshes of their own, with equal shards.
    number, count = collectives.rank() if mesh.size() < ranks else 0, ranks // mesh.size()
    for axis, placement in enumerate(placements):
        if placement.is_replicate():
            number = number * mesh.size(axis) + mesh.get_local_rank(axis)
            count *= mesh.size(axis)
    size = _bytes(local)
    low, high = (size * each // count for each in (number, number + 1))
    return _rows(key, local, tuple(tensor.shape), tuple(blocks[0].offsets), low, high)
