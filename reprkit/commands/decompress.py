"""``reprkit decompress MODEL IN.rk -o OUT``: decode the codes that ``reprkit compress`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    ExamplesOption,
    JsonOption,
    OutputOption,
    OverwriteOption,
    load_model,
)
from reprkit.commands.output import emit_files


def command(
    model: CheckpointArgument,
    file: Annotated[Path, typer.Argument(metavar="IN.rk", help="A file of reprkit compress.")],
    out: ExamplesOption,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    batch: BatchOption = 256,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Decode a file of reprkit compress.

    Compressed sound and text give files again, such as back.wav. Only the model that wrote it reads it.
    """
    from reprkit.commands.streams import decompress_streams
    from reprkit.data.formats.example_files import check_target, write_examples
    from reprkit.models.code_file import read_code_file
    from reprkit.models.file_streams import is_stream_file, read_streams
    from reprkit.models.whole_outputs import decompress_examples

    if is_stream_file(file):
        streams = read_streams(file)
        loaded = load_model(model, device)
        loaded.get_output(output)  # the only one; another name is refused
        decompress_streams(loaded, streams, out, overwrite=overwrite, json=json)
        return
    strings, names = read_code_file(file)
    loaded = load_model(model, device)
    field = loaded.get_output(output).field
    check_target(out, field, overwrite=overwrite)
    examples = decompress_examples(loaded, strings, output=output, batch=batch)
    files = write_examples(out, examples, field, names=names if all(names) else None, overwrite=overwrite)
    emit_files(out, files, len(examples), json=json)
