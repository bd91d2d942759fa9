"""``reprkit finetune DIR``: train a saved model's encoder on with labels, and say what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.checkpoints.reader import holds_checkpoint
from reprkit.commands.output import emit_json, emit_table
from reprkit.commands.protocol import best, numbers, prepared
from reprkit.errors import CheckpointError, ReprkitError

RATES = [3e-4, 1e-3, 3e-3]


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Of a checkpoint, or of a run that has one in model/.")
    ],
    data: Annotated[
        str | None,
        typer.Option(help="A labelled data set, such as the one it was trained on.", show_default=False),
    ] = None,
    trust_data: Annotated[
        bool,
        typer.Option(
            "--trust-data", help="Use the data set that the run names; it is built as written there."
        ),
    ] = False,
    labels: Annotated[
        int | None, typer.Option(min=1, help="Train on so many labels only, as equal by class as can be.")
    ] = None,
    label: Annotated[str, typer.Option(help="The label field.")] = "label",
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Which division; the one it was trained on when not given.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 300,
    lr: Annotated[
        list[float], typer.Option(help="Learning rate; say it again for more, of which valid chooses.")
    ] = RATES,
    batch: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 128,
    start: Annotated[
        str, typer.Option(help="The linear layer begins at zeros, or as the probe of the frozen model.")
    ] = "zeros",
    seed: Annotated[int, typer.Option(min=0, help="Of labels, order and dropout.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the fine-tuned model there.", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda; a GPU when there is one.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fine-tune a saved model with labels.

    All of its encoder is trained under a linear layer, on train; the rate is chosen on valid, the result reported on
    test.  The saved model itself is left as it is.
    """
    rates = numbers(lr, "--lr")
    if start not in ("zeros", "probe"):
        raise ReprkitError(f"--start is zeros or probe, not {start!r}")
    _check_place(out)
    from reprkit.evaluation.finetune import fine_tune, predict
    from reprkit.evaluation.label_subset import label_subset

    protocol = prepared(
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
    chosen = best(valid)
    guess, truth = predict(tuned[chosen], protocol.test)
    test = float((guess == truth).mean())
    if out is not None:
        tuned[chosen].save(out)
    if json:
        emit_json(
            {
                "protocol": {**protocol.facts, **settings, "rates": rates},
                "valid": {f"{rate:g}": value for rate, value in valid.items()},
                "results": {"lr": chosen, "valid": valid[chosen], "test": test},
                "saved": None if out is None else str(out),
            }
        )
        return
    print("\n".join(protocol.lines()))
    print(
        f"training {steps} steps of {settings['batch']}, AdamW, cosine, a tenth to warm up, the layer from {start}"
    )
    print(f"chosen   on valid: lr of {', '.join(f'{each:g}' for each in rates)}\n")
    rows = [
        (f"{rate:g}", f"{value:.3f}", f"{test:.3f}" if rate == chosen else "")
        for rate, value in valid.items()
    ]
    emit_table(("lr", "valid", "test"), rows)
    if out is not None:
        print(f"\nsaved: {out}")


def _check_place(out: Path | None) -> None:
    """Refuse now, rather than after the training, a place where no checkpoint can be written."""
    if out is None:
        return
    taken = out.is_dir() and any(out.iterdir()) and not holds_checkpoint(out)
    if taken or (out.exists() and not out.is_dir()):
        raise CheckpointError(
            f"--out {out} is taken by something that is no checkpoint; give a folder of its own"
        )
