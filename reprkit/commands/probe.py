"""``reprkit probe DIR``: what a linear probe and nearest neighbours read from a saved model's representation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.output import emit_json, emit_table
from reprkit.commands.protocol import best, options, prepared

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # of the probe's penalty, inverse
NEIGHBOURS = (1, 5, 20)


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
        int | None, typer.Option(min=2, help="Fit on so many labels only, as equal by class as can be.")
    ] = None,
    label: Annotated[str, typer.Option(help="The label field.")] = "label",
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Which division; the one it was trained on when not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which labels.")] = 0,
    pool: Annotated[str, typer.Option(help="Of an example's tokens: mean, or flatten.")] = "mean",
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda; a GPU when there is one.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Probe a saved model: linear classifier and k-NN on its representation.

    Fitted on train, the penalty and k chosen on valid, reported on test; raw input is measured beside it.
    """
    import reprkit as rk

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
    few = options(labels=labels, label=label, seed=seed, pool=pool)
    known = protocol.facts["labels"]
    wanted: dict[str, dict[float, str]] = {
        "linear-probe": {value: f"linear-probe(C={value}, {few})" for value in STRENGTHS},
        "knn": {value: f"knn(k={value}, {few})" for value in NEIGHBOURS if value <= known},
    }
    rows: dict[str, dict[str, Any]] = {}
    subjects: tuple[tuple[str, Any], ...] = (("model", protocol.model), ("raw input", "raw"))
    for who, model in subjects:
        if who != "model" and not _flat(protocol.train):
            continue
        for measure, references in wanted.items():
            scores = {
                value: rk.evaluate(model, protocol.valid, reference, fit_on=protocol.train, examples=0)
                for value, reference in references.items()
            }
            found = {value: next(iter(each.values()))["accuracy"] for value, each in scores.items()}
            chosen = best(found)
            test = rk.evaluate(model, protocol.test, references[chosen], fit_on=protocol.train, examples=0)
            rows[f"{measure}, {who}"] = {
                "chosen": {"C" if measure == "linear-probe" else "k": chosen},
                "valid": found[chosen],
                "test": next(iter(test.values()))["accuracy"],
            }
    tried = {"C": list(STRENGTHS), "k": list(wanted["knn"])}
    if json:
        emit_json({"protocol": protocol.facts, "tried": tried, "results": rows})
        return
    print("\n".join(protocol.lines()))
    print(
        f"chosen   on valid: C of {', '.join(map(str, tried['C']))}; k of {', '.join(map(str, tried['k']))}\n"
    )
    table = [
        (
            name,
            ", ".join(f"{key}={value:g}" for key, value in row["chosen"].items()),
            f"{row['valid']:.3f}",
            f"{row['test']:.3f}",
        )
        for name, row in rows.items()
    ]
    emit_table(("accuracy", "chosen", "valid", "test"), table)


def _flat(data: Any) -> bool:
    """Whether the input itself is a vector of real values, which the baseline "raw" needs."""
    field = dict(data.signature).get("x")
    return field is not None and field.kind in ("image", "vector", "sequence") and None not in field.shape
