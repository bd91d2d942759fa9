"""``reprkit reconstruct MODEL DATA... -o OUT``: encode and decode data, and write the outputs in a common format."""

from __future__ import annotations

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    ExamplesOption,
    InputsArgument,
    JsonOption,
    OutputOption,
    OverwriteOption,
    SeedOption,
    load_model,
)
from reprkit.commands.output import emit_files


def command(
    model: CheckpointArgument,
    data: InputsArgument,
    out: ExamplesOption,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    batch: BatchOption = 256,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Encode and decode data with a saved model, and write the outputs.

    Pictures become .png, rows of a table .csv or .parquet in the table's units, all else .npy.
    """
    from reprkit.data.formats.example_files import check_target, write_examples
    from reprkit.models.model_input import input_names, model_input
    from reprkit.models.whole_outputs import reconstruct_dataset

    loaded = load_model(model, device)
    field = loaded.get_output(output).field
    check_target(out, field, overwrite=overwrite)
    inputs = model_input(loaded, data)
    examples = reconstruct_dataset(loaded, inputs, output=output, batch=batch, seed=seed)
    files = write_examples(out, examples, field, names=input_names(inputs), overwrite=overwrite)
    emit_files(out, files, len(examples), json=json)
