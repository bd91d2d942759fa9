"""``reprkit embed DIR DATA``: write one vector per example to a file, in batches, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import CheckpointArgument, DeviceOption, JsonOption
from reprkit.commands.output import emit_json, printable
from reprkit.errors import DataError


def command(
    folder: CheckpointArgument,
    data: Annotated[
        str,
        typer.Argument(
            help="A data set, or a file or folder of data; a table is read with the model's columns."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .npy, .csv or .parquet.")],
    factor: Annotated[str | None, typer.Option(help="This factor only; all by default.")] = None,
    pool: Annotated[str, typer.Option(help="Pooling of an example's tokens: mean or flatten.")] = "mean",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Examples per batch.")] = 256,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Embed a data set: one vector per example, in its order.

    An interrupted call goes on where it stopped.
    """
    import reprkit as rk

    model = rk.load(folder, device=device) if device else rk.load(folder)
    if pool not in ("mean", "flatten"):
        raise DataError(f"no pooling {pool!r}: mean or flatten")
    found = rk.embed(model, data, factor=factor, pool=pool, out=out, overwrite=overwrite, batch=batch)
    rows, width = found.shape
    if json:
        emit_json({"file": str(out), "examples": rows, "width": width})
    else:
        print(printable(f"{out}: {rows:,} examples, {width} numbers each"))
