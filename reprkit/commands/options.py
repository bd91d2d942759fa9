"""Arguments and options that several commands have in common."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reprkit.models.model import Model


class Pool(StrEnum):
    """How the tokens of an example become one vector."""

    mean = "mean"
    flatten = "flatten"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CheckpointArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A checkpoint, or a run that has one in model/.")
]

# Of the commands that evaluate a saved model with labels; see ``reprkit.commands.protocol``.
DataOption = Annotated[
    str | None,
    typer.Option(help="A labeled data set, such as the one it was trained on.", show_default=False),
]
TrustDataOption = Annotated[
    bool,
    typer.Option(
        "--trust-data", help="Use the data set that is recorded in the run, and build it as written there."
    ),
]
LabelOption = Annotated[str, typer.Option(help="The label field.")]
SplitSeedOption = Annotated[
    int | None, typer.Option(min=0, help="Seed of the split; that of the model's training by default.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="Such as cpu or cuda; by default a GPU if there is one.", show_default=False),
]

# Of the commands that use a saved model on data.
InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="A data set, a file or folder of data, or several files of pictures, sound or text; read as the model was trained.",
    ),
]
OutputOption = Annotated[
    str | None, typer.Option("--output", help="This output, where the model has several.", show_default=False)
]
FactorOption = Annotated[
    str | None, typer.Option("--factor", help="This factor only; all by default.", show_default=False)
]
PoolOption = Annotated[Pool, typer.Option(help="Pooling of an example's tokens: mean or flatten.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Examples per batch.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of random draws.")]
ExamplesOption = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="A file (.npy, .png, .csv, .parquet), or a folder for one file an example."
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what exists there.")]


def load_model(folder: Path, device: str | None) -> Model:
    """Load a model in evaluation mode on a device, by default a GPU if there is one.

    Raises:
        CheckpointError: there is no model, or a damaged one.
        PartArgumentError: there is no such device.
    """
    import reprkit as rk
    from reprkit.utils.devices import find_device

    return rk.load(folder, map_location=find_device(device))
