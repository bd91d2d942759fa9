"""``reprkit embed DIR DATA``: write one vector per example to a file, in batches, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    FactorOption,
    JsonOption,
    OverwriteOption,
    Pool,
    PoolOption,
    load_model,
)
from reprkit.commands.output import emit_json, printable


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
    factor: FactorOption = None,
    pool: PoolOption = Pool.mean,
    overwrite: OverwriteOption = False,
    batch: BatchOption = 256,
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
