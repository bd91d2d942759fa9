"""``reprkit finetune DIR``: fine-tune a saved model's encoder with labels and report its accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.checkpoints.reader import holds_checkpoint
from reprkit.commands.options import (
    CheckpointArgument,
    DataOption,
    DeviceOption,
    JsonOption,
    LabelOption,
    SplitSeedOption,
    TrustDataOption,
)
from reprkit.commands.output import emit_json, emit_table
from reprkit.commands.protocol import best_value, positive_values, prepare_protocol
from reprkit.errors import CheckpointError, ReprkitError

RATES = [3e-4, 1e-3, 3e-3]


def command(
    folder: CheckpointArgument,
    data: DataOption = None,
    trust_data: TrustDataOption = False,
    labels: Annotated[
        int | None, typer.Option(min=1, help="Train on this many labels only, balanced over classes.")
    ] = None,
    label: LabelOption = "label",
    split_seed: SplitSeedOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 300,
    lr: Annotated[
        list[float], typer.Option(help="Learning rate; repeat it to choose the best on valid.")
    ] = RATES,
    batch: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 128,
    start: Annotated[
        str, typer.Option(help="Start of the linear layer: zeros, or the probe of the frozen model.")
    ] = "zeros",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of labels, data order and dropout.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the fine-tuned model here.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Fine-tune a saved model with labels.

    The whole encoder and a linear layer on it are trained on train; the learning rate is chosen on valid, the accuracy
    reported on test.  The saved model itself is not changed.
    """
    rates = positive_values(lr, "--lr")
    if start not in ("zeros", "probe"):
        raise ReprkitError(f"--start must be zeros or probe, not {start!r}")
    _check_out(out, overwrite)
    from reprkit.evaluation.finetune import fine_tune, predict
    from reprkit.evaluation.label_subset import label_subset

    protocol = prepare_protocol(
        folder,
        data,
        trust_data=trust_data,
        split_seed=split_seed,
        labels=labels,
        label=label,
        seed=seed,
        device=device,
    )
    train = label_subset(protocol.train, labels, label=label, seed=seed)
    settings: dict[str, Any] = {"steps": steps, "batch": min(batch, len(train)), "start": start}
    tuned, valid = {}, {}
    for rate in rates:
        tuned[rate] = fine_tune(protocol.model, train, lr=rate, label=label, seed=seed, **settings)
        guess, truth = predict(tuned[rate], protocol.valid)
        valid[rate] = float((guess == truth).mean())
    best = best_value(valid)
    guess, truth = predict(tuned[best], protocol.test)
    test = float((guess == truth).mean())
    if out is not None:
        tuned[best].save(out)
    if json:
        emit_json(
            {
                "protocol": {**protocol.facts, **settings, "rates": rates},
                "valid": {f"{rate:g}": value for rate, value in valid.items()},
                "results": {"lr": best, "valid": valid[best], "test": test},
                "saved": None if out is None else str(out),
            }
        )
        return
    print("\n".join(protocol.lines()))
    print(
        f"training {steps} steps of {settings['batch']}, AdamW, cosine, a tenth to warm up, the layer from {start}"
    )
    print(f"chosen   on valid: lr of {', '.join(f'{rate:g}' for rate in rates)}\n")
    rows = [
        (f"{rate:g}", f"{value:.3f}", f"{test:.3f}" if rate == best else "") for rate, value in valid.items()
    ]
    emit_table(("lr", "valid", "test"), rows)
    if out is not None:
        print(f"\nsaved: {out}")


def _check_out(out: Path | None, overwrite: bool) -> None:
    """Raise before training if no checkpoint can be written to ``out``, or one would be replaced unasked."""
    if out is None:
        return
    if holds_checkpoint(out) and not overwrite:
        raise CheckpointError(f"--out {out} holds a model: give another folder, or --overwrite to replace it")
    taken = out.is_dir() and any(out.iterdir()) and not holds_checkpoint(out)
    if taken or (out.exists() and not out.is_dir()):
        raise CheckpointError(f"--out {out} exists and is no checkpoint; give a new or empty folder")
