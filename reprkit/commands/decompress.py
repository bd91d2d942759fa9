"""``reprkit decompress [MODEL] IN.rk -o OUT``: decode the codes that ``reprkit compress`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reprkit.commands.options import (
    BatchOption,
    DeviceOption,
    ExamplesOption,
    JsonOption,
    OutputOption,
    OverwriteOption,
    load_model,
)
from reprkit.commands.output import emit_files
from reprkit.errors import CheckpointError, ReprkitError

if TYPE_CHECKING:
    from reprkit.models.model import Model

_RUNS = Path("runs")  # where recipes write


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[DIR] IN.rk",
            help="A checkpoint, or a run that has one in model/, and a file of reprkit compress. Without a model: the one "
            "below runs/ that wrote the file.",
        ),
    ],
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
    if len(paths) > 2:
        raise ReprkitError(
            f"decompress takes a model and one file, not {len(paths)} paths: call it for each file"
        )
    *given, file = paths
    from reprkit.commands.streams import decompress_streams
    from reprkit.data.formats.example_files import check_target, write_examples
    from reprkit.models.code_file import read_code_file
    from reprkit.models.file_streams import is_stream_file, read_streams
    from reprkit.models.whole_outputs import decompress_examples

    if is_stream_file(file):
        streams = read_streams(file)
        loaded = _load(given, file, [string for stream in streams for string in stream.strings], device)
        loaded.get_output(output)  # the only one; another name is refused
        decompress_streams(loaded, streams, out, overwrite=overwrite, json=json)
        return
    strings, names = read_code_file(file)
    loaded = _load(given, file, strings, device)
    field = loaded.get_output(output).field
    check_target(out, field, overwrite=overwrite)
    examples = decompress_examples(loaded, strings, output=output, batch=batch)
    files = write_examples(out, examples, field, names=names if all(names) else None, overwrite=overwrite)
    emit_files(out, files, len(examples), json=json)


def _load(given: list[Path], file: Path, strings: list[bytes], device: str | None) -> Model:
    """Load the model that is given, or else the newest one below runs/ that wrote the strings.

    Raises:
        ReprkitError: no model there wrote them.
    """
    if given:
        return load_model(given[0], device)
    from reprkit.models.code_header import writer_fingerprint
    from reprkit.models.fingerprints import fingerprint

    writers = {writer_fingerprint(string) for string in strings}
    manifests = sorted(_RUNS.rglob("reprkit.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    unread = 0
    for manifest in manifests:
        try:
            loaded = load_model(manifest.parent, device)
        except CheckpointError:
            unread += 1  # damaged, or its plugin is not installed
            continue
        if writers == {fingerprint(loaded)}:
            return loaded
    known = f"{len(manifests)} models" + (f" ({unread} of them cannot be read)" if unread else "")
    raise ReprkitError(
        f"none of the {known} below {_RUNS}/ wrote {file}\n  name the model: reprkit decompress MODEL {file} -o OUT"
    )
