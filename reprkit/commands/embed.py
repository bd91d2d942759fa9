"""``reprkit embed DIR DATA``: write one vector per example to a file, in batches, resumable."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import CheckpointArgument, DeviceOption, JsonOption, load_model
from reprkit.commands.output import emit_json, printable


class Pool(StrEnum):
    """How the tokens of an example become one vector."""

    mean = "mean"
    flatten = "flatten"


def command(
    folder: CheckpointArgument,
    data: Annotated[
        str,
        typer.Argument(
            help="A data set, or a file or folder of data; a table is read with the model's columns."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The file to write: .csv or .parquet with labels, or .npy without."),
    ],
    factor: Annotated[str | None, typer.Option(help="This factor only; all by default.")] = None,
    pool: Annotated[Pool, typer.Option(help="Pooling of an example's tokens: mean or flatten.")] = Pool.mean,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Examples per batch.")] = 256,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Write one vector per example of a data set to a file.

    An interrupted call continues with the next batch.
    """
    import reprkit as rk
    from reprkit.models.model_input import model_input

    model = load_model(folder, device)
    found = rk.embed(
        model,
        model_input(model, [data]),
        factor=factor,
        pool=pool.value,
        out=out,
        overwrite=overwrite,
        batch=batch,
    )
    rows, width = found.shape
    if json:
        emit_json({"file": str(out), "examples": rows, "width": width})
    else:
        print(printable(f"{out}: {rows:,} examples, {width} numbers each"))
