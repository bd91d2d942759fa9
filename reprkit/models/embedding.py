"""``rk.embed``: the vectors of a whole data set, in memory or as a file, in batches, resumable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int

from reprkit.data.checks import check_batch
from reprkit.data.compatibility import match_model, require_same_fields
from reprkit.data.formats.frame_writer import require_parquet_writer, write_frame
from reprkit.data.formats.value_readers import class_names
from reprkit.data.raw_files import raw_files
from reprkit.data.raw_input import as_batch, not_learned
from reprkit.errors import DataError, PartArgumentError, nearest
from reprkit.models.exchange import Form, require_form
from reprkit.models.fingerprints import module_fingerprint
from reprkit.models.isolation import isolate, unwrap
from reprkit.utils.atomic_files import replace_file, require_absent, write_text
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model

SUFFIXES = (".npy", ".csv", ".parquet")
_LABEL = (
    "label "  # before the names of label fields in a stored batch, none of which is then called "x" or "file"
)
Pool = Literal["mean", "flatten"]


@dataclass(frozen=True)
class Encoded:
    """Representation of a data set (n d), float32 on the CPU, and its label fields (n,), int64."""

    x: Float[np.ndarray, "n d"]
    labels: dict[str, Int[np.ndarray, " n"]]


def encode_batch(
    model: Model, batch: Mapping[str, torch.Tensor], labels: Iterable[str], factor: str | None, pool: Pool
) -> Encoded:
    """Return ``model.represent`` of a batch, and its label fields; those that the batch lacks are left out."""
    vectors = model.represent(batch, factor, pool).float().cpu().numpy()
    return Encoded(vectors, {name: batch[name].cpu().numpy() for name in labels if name in batch})


def join(pieces: Iterable[Encoded]) -> Encoded:
    """Return the batches as one.

    Raises:
        DataError: vectors of different widths.
    """
    listed = list(pieces)
    if len({piece.x.shape[1] for piece in listed}) > 1:
        raise DataError(
            "examples have different lengths, so pool='flatten' gives vectors of different widths; use pool='mean'"
        )
    names = listed[0].labels
    return Encoded(
        np.concatenate([piece.x for piece in listed]),
        {name: np.concatenate([piece.labels[name] for piece in listed]) for name in names},
    )


def embed(
    model: Model,
    data: Any,
    *,
    factor: str | None = None,
    pool: Pool = "mean",
    to: Form = "numpy",
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    batch: int = 256,
    seed: int = 0,
    progress: bool | None = None,
) -> Any:
    """Encode a data set: one vector per example, in its order.

    Runs without gradients and in evaluation mode, and restores mode and random state.  With ``out`` each batch is stored in
    the folder ``OUT.partial`` until the file is complete: the same call after an interruption continues with the next batch.

    Args:
        model: a model with an encoder.
        data: a data set, what ``rk.dataset`` takes, or what ``model.encode`` takes: a DataFrame with the model's columns, an array,
            pictures or their files, texts, text or sound files.  A new table with a class that the model did not learn, or with
            a row without any value, is refused.
        factor: this factor only; None concatenates the vectors of all factors.
        pool: "mean" over tokens, or "flatten", which requires examples of one length.
        to: "numpy" float32 (n d), "torch" (n d), or "pandas", a DataFrame with the columns 0 to d - 1 and the data's labels.
        out: a file that is written too: .csv or .parquet with the columns of ``to="pandas"``, or .npy, which holds the vectors
            (n d) alone, without the labels.
        overwrite: whether ``out`` may be replaced if it exists.
        batch: examples per batch.
        seed: of random draws, where a latent draws in evaluation.
        progress: as in ``rk.evaluate``.

    Raises:
        DataError: data that does not fit the model, or ``out`` exists, has an unknown suffix, or was begun with other data.
        PartArgumentError: an unknown ``to`` or ``pool``, or a batch below 1.
        BuildError: the model has no encoder, or no such factor.
    """
    require_form(to, "embed")
    if pool not in get_args(Pool):
        raise PartArgumentError(
            f"embed: no pool={pool!r}.{nearest(str(pool), get_args(Pool))}\n  known: {', '.join(get_args(Pool))}"
        )
    if batch < 1:
        raise PartArgumentError(f"embed takes a batch of at least 1, not {batch}")
    model = unwrap(model)
    source = as_dataset(model, data)
    store = None if out is None else _Store(Path(out), overwrite)
    settings = {"factor": factor, "pool": pool, "batch": batch, "seed": seed}
    done = 0 if store is None else store.begin(_describe(model, source, settings))
    starts = range(done * batch, len(source), batch)
    labels = source.signature.label_fields()
    pieces: list[Encoded] = []
    with torch.no_grad(), isolate(model, seed) as reseed:
        for number, start in enumerate(track_progress(starts, "embedding", show=progress), done):
            reseed()  # so that a batch's draws do not depend on where the call began
            indices = torch.arange(start, min(start + batch, len(source)))
            piece = encode_batch(model, source.batch(indices), labels, factor, pool)
            if store is None:
                pieces.append(piece)
            else:
                store.write(number, piece)
    found = join(pieces if store is None else store.pieces())
    names = class_names(source.signature, source.facts)
    if store is not None:
        store.finish(found, names)
    if to == "pandas":
        return to_frame(found, names)
    return torch.from_numpy(found.x) if to == "torch" else found.x


def to_frame(found: Encoded, names: dict[str, list[Any]]) -> Any:
    """Return vectors and labels as a DataFrame: columns "0" to "d - 1", and labels by the names of their classes."""
    from reprkit.data.formats.frame_columns import numbered_frame

    frame = numbered_frame(found.x)
    for name, values in found.labels.items():
        classes = names.get(name)
        frame[name] = values if classes is None else [classes[int(index)] for index in values]
    return frame


def as_dataset(model: Model, data: Any) -> Dataset:
    """Return the data as a data set.

    Raises:
        DataError: it is none, or does not fit the model.
    """
    from reprkit.data.formats.table import SUFFIXES as TABLES
    from reprkit.data.formats.table import Table, is_frame
    from reprkit.data.formats.tables import is_table
    from reprkit.data.formats.tensors import Tensors
    from reprkit.data.resolve import dataset
    from reprkit.data.signature import Signature

    learned = () if model.signature is None or "x" not in model.signature else model.signature["x"].columns
    is_file = (
        isinstance(data, str | os.PathLike) and Path(data).suffix.lower() in TABLES and os.path.isfile(data)
    )
    if learned and (is_file or is_frame(data)):
        found: Dataset = Table(data, like=model.signature)
        if unseen := found.facts.get("classes not learned"):
            raise not_learned(unseen)
        if count := found.facts.get("rows left out"):
            raise DataError(
                f"{count} rows of the table have no value in any of the model's columns: leave them out (DataFrame.dropna)"
            )
    elif isinstance(data, str | os.PathLike) and (files := raw_files([data], model.signature)) is not None:
        found = files
    elif isinstance(data, str | os.PathLike | torch.utils.data.Dataset) or is_table(data):
        found = dataset(data)
    else:
        values = as_batch(data, model.signature)
        if model.signature is not None:  # here, so that a message counts over all examples
            read = {factor.input for factor in model.factors.values()}
            check_batch(values, model.signature, dtype=model.dtype, fields=read)
        fields = {name: field for name, field in (model.signature or {}).items() if name in values}
        found = Tensors(values, Signature(fields), name=type(data).__name__, check=False)
    require_same_fields(found, model.signature)
    return match_model(found, model.signature, model.data_fields)


def _describe(model: Model, data: Dataset, settings: dict[str, Any]) -> str:
    """Return a digest of all that the vectors depend on: weights, what is known of the data, settings."""
    ends = [data.batch(torch.tensor([index])) for index in (0, len(data) - 1)]
    digest = hashlib.blake2b(module_fingerprint(model), digest_size=16)
    digest.update(json.dumps([data.describe(), settings], sort_keys=True, default=str).encode())
    for example in ends:
        for name, value in sorted(example.items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Store:
    """The file that is written, and the folder of finished batches in the same folder."""

    def __init__(self, out: Path, overwrite: bool) -> None:
        self.out, self.overwrite = out.expanduser(), overwrite
        self.folder = self.out.with_name(f"{self.out.name}.partial")
        if self.out.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"out={str(out)!r} has an unknown suffix.{nearest(self.out.suffix, SUFFIXES)}\n  known: {', '.join(SUFFIXES)}"
            )
        require_absent(self.out, overwrite, DataError)
        require_parquet_writer(self.out)

    def begin(self, digest: str) -> int:
        """Open the folder; return the number of batches that are finished.

        Raises:
            DataError: it holds batches of another model, data or settings.
        """
        state = self.folder / "digest"
        if self.folder.exists() and not state.exists():
            raise DataError(f"{str(self.folder)!r} is no unfinished embedding: move it away")
        if state.exists() and state.read_text(encoding="utf-8") != digest:
            if not self.overwrite:
                raise DataError(
                    f"{str(self.folder)!r} holds an unfinished embedding of another model, data or settings\n"
                    "  move it away, or discard it with overwrite=True (--overwrite)"
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(state, digest)
        done = 0
        while self._piece(done).exists():
            done += 1
        return done

    def write(self, number: int, piece: Encoded) -> None:
        """Store a batch."""
        labels = {_LABEL + name: values for name, values in piece.labels.items()}
        with replace_file(self._piece(number)) as file:
            np.savez(file, x=piece.x, **labels)  # type: ignore[arg-type]

    def pieces(self) -> Iterator[Encoded]:
        """Yield the batches in order."""
        number = 0
        while self._piece(number).exists():
            with np.load(self._piece(number), allow_pickle=False) as piece:
                labels = {
                    key.removeprefix(_LABEL): piece[key] for key in piece.files if key.startswith(_LABEL)
                }
                yield Encoded(piece["x"], labels)
            number += 1

    def finish(self, found: Encoded, names: dict[str, list[Any]]) -> None:
        """Write the file and remove the folder."""
        if self.out.suffix.lower() == ".npy":
            with replace_file(self.out) as file:
                np.save(file, found.x)
        else:
            write_frame(self.out, to_frame(found, names))
        shutil.rmtree(self.folder)

    def _piece(self, number: int) -> Path:
        return self.folder / f"{number:07d}.npz"
