"""``reprkit serve DIR``: a local page that follows a run, or all runs below a folder, while they train.  Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run, or a folder with runs below it.")
    ] = Path("runs"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 8080,
    refresh: Annotated[
        int, typer.Option(min=1, help="Seconds between two loads of an unfinished run's page.")
    ] = 5,
    json: JsonOption = False,
) -> None:
    """Show a run's page in the browser while it trains.

    It ends with Ctrl-C. Only this machine can open it. Nothing is written; pages written by a run show the same.
    """
    import sys

    from reprkit.reporting.server import RunServer

    server = RunServer(folder, port, refresh)
    try:
        if json:
            emit_json({"url": server.url, "folder": str(folder)})
        else:
            print(f"{server.url}  (Ctrl-C ends it)")
        sys.stdout.flush()
        server.serve()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
