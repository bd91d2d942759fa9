"""``reprkit score MODEL DATA...``: a score for each example that is larger for unusual ones."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    InputsArgument,
    JsonOption,
    OverwriteOption,
    SeedOption,
    load_model,
)
from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.errors import ReprkitError
from reprkit.utils.atomic_files import require_absent


class Score(StrEnum):
    """The scores of the evaluator ``anomaly``."""

    nll = "nll"
    error = "error"
    code_nll = "code-nll"
    error_under_noise = "error-under-noise"
    neighbors = "neighbors"


def command(
    model: CheckpointArgument,
    data: InputsArgument,
    score: Annotated[
        Score, typer.Option(help="The score; reprkit show evaluator anomaly describes them.")
    ] = Score.nll,
    fit_on: Annotated[
        str | None,
        typer.Option(
            help="Of neighbors: the normal examples, such as the training data.", show_default=False
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option(min=1, help="Of neighbors: their number.", show_default=False)
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of code-nll: a model of the codes.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Show this many of the most unusual examples.")] = 20,
    explain: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of tables: show for each example this many of the columns that add most to its score.",
        ),
    ] = 0,
    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what each pixel, column or step adds to the score of the examples shown, in their order: .npy.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write all scores in the data's order: .csv or .npy.", show_default=False
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    batch: BatchOption = 256,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Score each example: larger for unusual ones.

    Shows the most unusual, and writes all with --out. The scores are those of the evaluator anomaly. No labels are needed.
    """
    if out is not None:
        if out.suffix.lower() not in (".csv", ".npy"):
            raise ReprkitError(f"--out {out}: scores are written to .csv or .npy")
        require_absent(out, overwrite, ReprkitError)
    if maps is not None:
        if maps.suffix.lower() != ".npy":
            raise ReprkitError(f"--maps {maps}: contributions are written to .npy")
        require_absent(maps, overwrite, ReprkitError)
    import numpy as np

    from reprkit.evaluation.anomaly import anomaly_scores
    from reprkit.evaluation.contributions import anomaly_contributions
    from reprkit.models.model_input import input_names, model_input

    loaded = load_model(model, device)
    inputs = model_input(loaded, data)
    if explain or maps is not None:  # refused before the work
        one = anomaly_contributions(loaded, inputs.subset([0]), score.value, batch=1, seed=seed)
        if explain:
            one.frame(explain)
    known = None if fit_on is None else model_input(loaded, [fit_on])
    arguments: dict[str, Any] = {} if k is None else {"k": k}
    arguments |= {} if prior is None else {"prior": str(prior)}
    found = anomaly_scores(loaded, inputs, score.value, fit_on=known, batch=batch, seed=seed, **arguments)
    names = input_names(inputs) or [str(index) for index in range(len(found))]
    if out is not None:
        _write(out, found, names)
    order = np.argsort(-found, kind="stable")[:top]
    added = None
    if explain or maps is not None:
        added = anomaly_contributions(
            loaded, inputs.subset(order.tolist()), score.value, batch=batch, seed=seed
        )
    reasons = [] if added is None or not explain else _reasons(added.frame(explain), len(order))
    if added is not None and maps is not None:
        _write_array(maps, added.values)
    if json:
        ranked = [
            {"index": int(index), "name": names[index], "score": float(found[index])} for index in order
        ]
        for entry, columns in zip(ranked, reasons, strict=False):
            entry["columns"] = columns
        quantiles = {f"{share:g}": float(np.quantile(found, share)) for share in (0.5, 0.9, 0.99)}
        file = None if out is None else str(out)
        emit_json(
            {
                "score": score.value,
                "examples": len(found),
                "quantiles": quantiles,
                "top": ranked,
                "file": file,
            }
        )
        return
    emit_table(
        ("example", "index", score.value),
        [
            (names[index] if names[index] != str(index) else "", str(index), f"{found[index]:.6g}")
            for index in order
        ],
    )
    print(
        f"\n{len(found):,} examples: median {np.median(found):.6g}, 99 % are below {np.quantile(found, 0.99):.6g}"
    )
    if reasons:
        print()
        emit_table(
            ("example", "column", "value", "expected", "contribution"),
            [
                (
                    names[index],
                    each["column"],
                    _text(each["value"]),
                    _text(each["expected"]),
                    _text(each["contribution"]),
                )
                for index, columns in zip(order, reasons, strict=True)
                for each in columns
            ],
        )
    if out is not None:
        print(printable(f"all scores: {out}"))
    if maps is not None:
        print(printable(f"contributions: {maps}"))


def _reasons(frame: Any, count: int) -> list[list[dict[str, Any]]]:
    """Return the columns of each example as plain JSON."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for each in frame.to_dict("records"):
        row = found[each.pop("row")]
        row.append({name: _plain(value) for name, value in each.items()})
    return found


def _plain(value: Any) -> Any:
    """Return a number or a text; None for a missing value."""
    import pandas as pd

    if value is None or pd.isna(value):
        return None
    return float(value) if isinstance(value, int | float) else str(value)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value


def _write(out: Path, scores: Any, names: list[str]) -> None:
    if out.suffix.lower() == ".npy":
        _write_array(out, scores)
        return
    import pandas as pd

    from reprkit.data.formats.frame_writer import write_frame
    from reprkit.utils.atomic_files import explain_os_error

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_frame(out, pd.DataFrame({"example": names, "score": scores}))
    except OSError as error:
        raise ReprkitError(f"cannot write {out}: {explain_os_error(error)}") from error


def _write_array(out: Path, values: Any) -> None:
    import numpy as np

    from reprkit.utils.atomic_files import explain_os_error, replace_file

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(out) as file:
            np.save(file, values)
    except OSError as error:
        raise ReprkitError(f"cannot write {out}: {explain_os_error(error)}") from error
