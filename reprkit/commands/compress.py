"""``reprkit compress MODEL DATA... -o OUT.rk``: codes of data as bytes, in one file that ``reprkit decompress`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    InputsArgument,
    JsonOption,
    OverwriteOption,
    load_model,
)
from reprkit.commands.output import emit_json, printable
from reprkit.errors import ReprkitError
from reprkit.utils.atomic_files import require_absent

SUFFIX = ".rk"


def command(
    model: CheckpointArgument,
    data: InputsArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, .rk.")],
    overwrite: OverwriteOption = False,
    slots: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Write only the first slots of each token, such as codebooks of residual-vq: a lower rate. All by default.",
            show_default=False,
        ),
    ] = None,
    batch: BatchOption = 256,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Compress data to a small file by a model with a discrete latent or a codec.

    What decompress gives back are the model's outputs, not the data. Symbols cost what the model's tables say:
    call model.fit_frequencies(train) and save it before, else each symbol costs the same.

    Picture files may have any size, and come back in it: as a whole where encoder and decoder can, else in tiles of the size
    that the model learned.

    Sound of any length goes through a model that makes waveforms, and a file through a causal model of its bytes,
    without loss.
    """
    if out.suffix.lower() != SUFFIX:
        raise ReprkitError(f"--out {out}: compressed examples are written to {SUFFIX}")
    require_absent(out, overwrite, ReprkitError)
    from reprkit.commands.streams import compress_streams
    from reprkit.models.code_file import write_code_file
    from reprkit.models.file_streams import stream_files
    from reprkit.models.model_input import input_names, model_input
    from reprkit.models.whole_outputs import compress_examples

    loaded = load_model(model, device)
    if (found := stream_files(loaded, data)) is not None:
        compress_streams(loaded, found[0], out, slots, json=json)
        return
    inputs = model_input(loaded, data)
    strings = compress_examples(loaded, inputs, slots=slots, batch=batch)
    write_code_file(out, strings, input_names(inputs))
    size, bits = out.stat().st_size, 8 * sum(map(len, strings)) / len(strings)
    tables = all(factor.latent.has_tables for factor in loaded.factors.values())
    if json:
        emit_json(
            {
                "file": str(out),
                "examples": len(strings),
                "bytes": size,
                "bits_per_example": bits,
                "tables": tables,
            }
        )
        return
    print(
        printable(
            f"{out}: {len(strings):,} examples, {size:,} bytes, {bits:.4g} bits an example with its header"
        )
    )
    if not tables:
        print(
            "every symbol costs the same, since the model has no tables: model.fit_frequencies(train), then save it"
        )
