"""What ``reprkit compress`` and ``reprkit decompress`` do with files of any length: sound in pieces, text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprkit.commands.output import emit_json, printable
from reprkit.errors import ReprkitError
from reprkit.utils.atomic_files import require_absent

if TYPE_CHECKING:
    from reprkit.models.file_streams import Stream
    from reprkit.models.model import Model


def compress_streams(
    model: Model, files: Sequence[Path], out: Path, slots: int | None, *, json: bool
) -> None:
    """Compress files to one file, and say its size."""
    from reprkit.models.file_streams import compress_file, write_streams
    from reprkit.utils.progress import track_progress

    streams = [compress_file(model, file, slots=slots) for file in track_progress(files, "compressing")]
    write_streams(out, streams)
    size, units = out.stat().st_size, sum(stream.units for stream in streams)
    if json:
        emit_json({"file": str(out), "examples": len(streams), "bytes": size, "units": units})
        return
    print(
        printable(
            f"{out}: {len(streams):,} files, {size:,} bytes with headers, {8 * size / max(units, 1):.4g} bits for each of "
            f"{units:,} bytes of text or samples of sound"
        )
    )


def decompress_streams(
    model: Model, streams: Sequence[Stream], out: Path, *, overwrite: bool, json: bool
) -> None:
    """Decode compressed files: one to the file ``out``, several into the folder ``out``, under their names."""
    from reprkit.commands.output import emit_files
    from reprkit.data.formats.example_files import check_names
    from reprkit.models.file_streams import decompress_file

    targets = [out]
    if not out.suffix:
        names = [stream.name for stream in streams]
        check_names(out, [name for name in names if name])
        if len(set(names)) < len(names):
            names = [f"{number:05d}-{name}" for number, name in enumerate(names)]
        targets = [out / (name or f"{number:05d}") for number, name in enumerate(names)]
    elif len(streams) > 1:
        raise ReprkitError(
            f"--out {out}: it holds {len(streams):,} files, so give a folder (a name without a suffix)"
        )
    for target in targets:
        require_absent(target, overwrite, ReprkitError)
    for stream, target in zip(streams, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        decompress_file(model, stream, target)
    emit_files(out, targets, len(targets), json=json)
