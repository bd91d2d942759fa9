"""The files of a state's divided tensors, one a rank, written and read through torch.distributed.checkpoint.

::

    OUT/state/step-000001200/state.json               as in a gathered state, and the size and SHA-256 of each part
    OUT/state/step-000001200/tensors.pt               the state with an entry in place of each divided tensor
    OUT/state/step-000001200/part-00000.safetensors   blocks of the divided tensors, as rank 0 wrote them
    OUT/state/step-000001200/part-00001.safetensors   ...

torch's own writer pickles an index; loading a pickle can run code.  Here the header of each file holds the blocks' places in
their tensors (``__metadata__``), and the index is made of the headers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    LoadPlan,
    LoadPlanner,
    Metadata,
    SavePlan,
    SavePlanner,
    StorageReader,
    StorageWriter,
    load,
)
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from reprkit.checkpoints.reader import StoredTensor, read_header
from reprkit.training.resume.division import DTYPES
from reprkit.training.resume.staging import StagedChunk, non_finite_weights
from reprkit.utils.json_shape import Each, Items, Needed, check_shape
from reprkit.utils.sharded_tensors import is_block, is_sharded
from reprkit.utils.untrusted_json import parse_json

PIECE = 1 << 23  # bytes that are written and hashed at a time
_FROM_NAME = {name: dtype for dtype, name in DTYPES.items()}


def part_name(number: int) -> str:
    """Return the name of a rank's file."""
    return f"part-{number:05d}.safetensors"


# ------------------------------------------------------------------ writing


class Part(NamedTuple):
    """What is recorded of a written file."""

    name: str
    bytes: int
    sha256: str


class NonFinitePartError(Exception):
    """Weights in a rank's file are not finite, so the state is not saved; the arguments are their names."""


class PartPlanner(DefaultSavePlanner):
    """Plan of a save: each rank writes the chunks that it has staged, and together they must cover every tensor."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        """Return an item for each staged chunk."""
        self.plan = SavePlan([_write_item(chunk) for chunk in self.state_dict.values()])
        return self.plan


def _write_item(chunk: StagedChunk) -> WriteItem:
    place = ChunkStorageMetadata(offsets=torch.Size(chunk.offsets), sizes=torch.Size(chunk.sizes))
    return WriteItem(
        index=MetadataIndex(chunk.key, chunk.offsets),
        type=WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=place, properties=TensorProperties(dtype=chunk.dtype), size=torch.Size(chunk.shape)
        ),
    )


class PartWriter(StorageWriter):
    """Writer of one state: a file a rank; ``create`` and ``complete`` are called on rank 0 only.

    Args:
        folder: of the states.
        staged: name -> chunk of this rank, in the buffer.
        buffer: the bytes of all of them.
        create: creates the temporary folder of the state, and returns it.
        complete: called with the temporary folder and the files of all ranks, once these are on the disk.
    """

    def __init__(
        self,
        folder: Path,
        staged: Mapping[str, StagedChunk],
        buffer: Tensor,
        create: Callable[[], Path],
        complete: Callable[[Path, list[Part]], None],
    ) -> None:
        self._folder, self._staged, self._buffer = folder, staged, buffer
        self._create, self._complete = create, complete
        self.fresh: Path | None = None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Do nothing: a writer writes one state."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the folder is created once every rank has a plan."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Create the temporary folder, and tell each rank its name and the number of its file."""
        self.fresh = self._create()
        return [
            SavePlan(plan.items, (self.fresh.name, number), plan.planner_data)
            for number, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's file to the disk, unless a weight in it is not finite."""
        name, number = plan.storage_data
        self.fresh = self._folder / name
        self.fresh.mkdir(exist_ok=True)  # on a shared disk another machine's folder may not be visible yet
        chunks = [self._staged[item.index.fqn] for item in plan.items]
        bad = non_finite_weights(chunks, self._buffer)
        if bad:
            raise NonFinitePartError(*bad)
        part = write_part(self.fresh / part_name(number), chunks, self._buffer)
        result: Future[list[WriteResult]] = Future()
        result.set_result([WriteResult(MetadataIndex(part.name), part.bytes, part)])
        return result

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Make the state visible; only rank 0 does, after all ranks have written."""
        assert self.fresh is not None
        self._complete(self.fresh, [result.storage_data for rank in results for result in rank])

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether a path can be written: any."""
        return True


def write_part(path: Path, chunks: Sequence[StagedChunk], buffer: Tensor) -> Part:
    """Write chunks of a buffer as a safetensors file, flush it to the disk, and return its digest.

    Raises:
        OSError: it cannot be written.
    """
    header: dict[str, Any] = {
        "__metadata__": {
            "format": "pt",
            "offsets": json.dumps({chunk.key: chunk.offsets for chunk in chunks}),
            "shapes": json.dumps({chunk.key: chunk.shape for chunk in chunks}),
        }
    }
    end = 0
    for chunk in chunks:
        start, end = end, end + chunk.stop - chunk.start
        header[chunk.key] = {
            "dtype": DTYPES[chunk.dtype],
            "shape": chunk.sizes,
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    memory, digest = _bytes_of(buffer), hashlib.sha256()
    start_of_file = len(text).to_bytes(8, "little") + text
    with path.open("wb") as file:
        file.write(start_of_file)
        digest.update(start_of_file)
        for chunk in chunks:
            for start in range(chunk.start, chunk.stop, PIECE):
                piece = memory[start : min(start + PIECE, chunk.stop)]
                file.write(piece)
                digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return Part(path.name, size, digest.hexdigest())


def _bytes_of(buffer: Tensor) -> memoryview:
    """Return the memory of a tensor of bytes."""
    array: Any = buffer.numpy()
    return memoryview(array)


# ------------------------------------------------------------------ reading


@dataclass(frozen=True)
class StoredChunk:
    """A chunk in a file."""

    path: Path
    stored: StoredTensor


def damaged_part(folder: Path, parts: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the first damaged file of these, or None."""
    for part in parts:
        path = folder / part["name"]
        try:
            if path.stat().st_size != part["bytes"]:
                return f"{path.name} has {path.stat().st_size} bytes and was written with {part['bytes']}"
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{path.name} cannot be read: {error.strerror or error}"
        if digest != part["sha256"]:
            return f"the digest of {path.name} does not match: it was changed after it was written"
    return None


def read_parts(folder: Path, names: Sequence[str], wanted: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Read divided tensors: of a sharded one this rank's shard, without communication.

    Args:
        folder: of the state.
        names: of its files.
        wanted: name -> a tensor; if it is sharded in blocks and the saved one has its shape, the result is sharded in the same way,
            on the same device.  Else the result is whole and on the CPU.

    Raises:
        ReprkitError: a file is no safetensors file.
        ValueError: the chunks are not those of the tensors.
    """
    reader = PartReader(folder, names)
    targets = {key: reader.empty(key, like) for key, like in wanted.items()}
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(targets, storage_reader=reader, planner=planner, no_dist=True)
    return targets


class PartReader(StorageReader):
    """Reader of a state's parts, which reads the rows that are asked for; the index is made of the files' headers."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._chunks: dict[MetadataIndex, StoredChunk] = {}
        tensors: dict[str, TensorStorageMetadata] = {}
        for name in names:
            stored, metadata = read_header(folder / name)
            places = {what: parse_json(metadata.get(what, "null")) for what in ("offsets", "shapes")}
            check_shape(places, Each(Needed(Each(Needed(Items(Needed(int)))))))
            for key, tensor in stored.items():
                offsets, shape = (places[what].get(key, []) for what in ("offsets", "shapes"))
                _check_place(f"{name}: {key[:80]!a}", tensor, offsets, shape)
                known = tensors.setdefault(
                    key,
                    TensorStorageMetadata(
                        TensorProperties(dtype=_FROM_NAME[tensor.dtype]), torch.Size(shape), []
                    ),
                )
                index = MetadataIndex(key, offsets)
                if known.size != torch.Size(shape) or index in self._chunks:
                    raise ValueError(f"{name}: {key[:80]!a} does not fit its other chunks")
                known.chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(tensor.shape)))
                self._chunks[index] = StoredChunk(folder / name, tensor)
        for key, known in tensors.items():
            if sum(math.prod(chunk.sizes) for chunk in known.chunks) != math.prod(known.size):
                raise ValueError(f"chunks of {key[:80]!a} are missing")
        self._metadata = Metadata(state_dict_metadata=dict(tensors))
        self._tensors = tensors

    def empty(self, key: str, like: Tensor | None) -> Tensor:
        """Return a tensor to read into."""
        if key not in self._tensors:
            raise ValueError(f"{key[:80]!a} is in none of the parts")
        size, dtype = self._tensors[key].size, self._tensors[key].properties.dtype
        if like is not None and is_sharded(like) and is_block(like) and like.shape == size:
            return torch.zeros_like(like, dtype=dtype, requires_grad=False)
        return torch.zeros(size, dtype=dtype)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Do nothing: a reader reads one state."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index."""
        return self._metadata

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: the index is made with the reader."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return the plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read the blocks of the plan, in the order in which they lie in the files."""
        items = sorted(plan.items, key=lambda item: self._order(item.storage_index))
        for item in items:
            chunk = self._chunks[item.storage_index]
            rows = _read_rows(chunk, item.storage_offsets, item.lengths)
            target = planner.resolve_tensor(item).detach()
            target.copy_(rows)
            planner.commit_tensor(item, target)
        result: Future[None] = Future()
        result.set_result(None)
        return result

    def _order(self, index: MetadataIndex) -> tuple[str, int]:
        chunk = self._chunks[index]
        return chunk.path.name, chunk.stored.start

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether a path can be read: any."""
        return True


def _check_place(what: str, tensor: StoredTensor, offsets: list[int], shape: list[int]) -> None:
    if tensor.dtype not in _FROM_NAME:
        raise ValueError(f"{what} has values of type {tensor.dtype}")
    inside = len(offsets) == len(shape) == len(tensor.shape) and all(
        offset >= 0 and offset + size <= whole
        for offset, size, whole in zip(offsets, tensor.shape, shape, strict=True)
    )
    if not inside:
        raise ValueError(f"{what} does not lie inside of its tensor")


def _read_rows(chunk: StoredChunk, offsets: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """Read a block of a chunk: whole rows from the file, then their part."""
    sizes, dtype = chunk.stored.shape, _FROM_NAME[chunk.stored.dtype]
    first, count, width = 0, 1, chunk.stored.bytes
    if sizes:
        first, count, width = offsets[0], lengths[0], chunk.stored.bytes // sizes[0]
    values = torch.empty(count * width, dtype=torch.uint8)
    with chunk.path.open("rb") as file:
        file.seek(chunk.stored.start + first * width)
        if file.readinto(_bytes_of(values)) != count * width:
            raise ValueError(f"{chunk.path.name} was cut short")
    rows = values.view(dtype).view(count, *sizes[1:]) if sizes else values.view(dtype).view(())
    for axis in range(1, len(sizes)):
        rows = rows.narrow(axis, offsets[axis], lengths[axis])
    return rows
