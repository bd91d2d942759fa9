"""``reprkit sample MODEL -n COUNT --out OUT``: sample new examples and write them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    ExamplesOption,
    FactorOption,
    JsonOption,
    OutputOption,
    OverwriteOption,
    SeedOption,
    load_model,
)
from reprkit.commands.output import emit_files


def command(
    model: CheckpointArgument,
    out: ExamplesOption,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of examples.")] = 16,
    prior: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A model of the codes, trained on codes(model=..., data=...); by default the latent's own prior.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Of the draws from --prior; below 1 more typical.")
    ] = 1.0,
    factor: FactorOption = None,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    batch: BatchOption = 256,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Sample new examples from a saved model.

    They come from the latent's prior, a learned one, or the objective's own sampler.
    """
    from reprkit.data.formats.example_files import check_target, write_examples
    from reprkit.models.whole_outputs import sample_arrays

    loaded = load_model(model, device)
    field = loaded.get_output(output).field
    check_target(out, field, overwrite=overwrite)
    options: dict[str, Any] = {} if temperature == 1 else {"temperature": temperature}
    options |= {} if prior is None else {"prior": str(prior)}
    options |= {} if factor is None else {"factor": factor}
    examples = sample_arrays(loaded, count, seed=seed, output=output, batch=batch, **options)
    files = write_examples(out, examples, field, overwrite=overwrite)
    emit_files(out, files, len(examples), json=json, seed=seed)
