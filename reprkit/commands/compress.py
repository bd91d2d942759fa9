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
    batch: BatchOption = 256,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Compress data to a small file by a model with a discrete latent or a codec.

    What decompress gives back are the model's outputs, not the data. Symbols cost what the model's tables say:
    call model.fit_frequencies(train) and save it before, else each symbol costs the same.

    Picture files may have any size, and come back in it: as a whole where encoder and decoder can, else in tiles of the size
    that the model learned.
    """
    if out.suffix.lower() != SUFFIX:
        raise ReprkitError(f"--out {out}: compressed examples are written to {SUFFIX}")
    require_absent(out, overwrite, ReprkitError)
    from reprkit.models.code_file import write_code_file
    from reprkit.models.model_input import PictureFiles, input_names, model_input
    from reprkit.models.pictures import compress_picture
    from reprkit.utils.progress import track_progress

    loaded = load_model(model, device)
    inputs = model_input(loaded, data)
    strings: list[bytes] = []
    if isinstance(inputs, PictureFiles):
        for file in track_progress(inputs.files, "compressing"):
            strings.append(compress_picture(loaded, file))
    else:
        for start in track_progress(range(0, len(inputs), batch), "compressing"):
            strings += loaded.compress(inputs.batch(range(start, min(start + batch, len(inputs)))))
    write_code_file(out, strings, input_names(inputs))
    size, bits = out.stat().st_size, 8 * sum(map(len, strings)) / len(strings)
    latents = [factor.latent for factor in loaded.factors.values()]
    tables = all(latent.vocab is None or latent.has_tables for latent in latents)
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
