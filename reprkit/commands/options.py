"""Arguments and options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
