"""``reprkit probe DIR``: evaluate a saved model's representation with a linear probe and nearest neighbors."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
from reprkit.commands.protocol import best_value, format_arguments, prepare_protocol

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # C, the inverse strength of the probe's penalty
NEIGHBORS = (1, 5, 20)


def command(
    folder: CheckpointArgument,
    data: DataOption = None,
    trust_data: TrustDataOption = False,
    labels: Annotated[
        int | None, typer.Option(min=2, help="Fit on this many labels only, balanced over classes.")
    ] = None,
    label: LabelOption = "label",
    split_seed: SplitSeedOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of labels.")] = 0,
    pool: Annotated[str, typer.Option(help="Pooling of an example's tokens: mean or flatten.")] = "mean",
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Probe a saved model: linear classifier and k-NN on its representation.

    Both are fitted on train, penalty and k are chosen on valid, accuracy is reported on test; raw input is evaluated, too.
    """
    import reprkit as rk

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
    arguments = format_arguments(labels=labels, label=label, seed=seed, pool=pool)
    count = protocol.facts["labels"]
    candidates: dict[str, dict[float, str]] = {
        "linear-probe": {value: f"linear-probe(C={value}, {arguments})" for value in STRENGTHS},
        "knn": {value: f"knn(k={value}, {arguments})" for value in NEIGHBORS if value <= count},
    }
    rows: dict[str, dict[str, Any]] = {}
    subjects: tuple[tuple[str, Any], ...] = (("model", protocol.model), ("raw input", "raw"))
    for subject, model in subjects:
        if subject != "model" and not _has_vector_input(protocol.train):
            continue
        for measure, references in candidates.items():
            scores = {
                value: rk.evaluate(model, protocol.valid, reference, fit_on=protocol.train, examples=0)
                for value, reference in references.items()
            }
            valid = {value: next(iter(result.values()))["accuracy"] for value, result in scores.items()}
            chosen = best_value(valid)
            test = rk.evaluate(model, protocol.test, references[chosen], fit_on=protocol.train, examples=0)
            rows[f"{measure}, {subject}"] = {
                "chosen": {"C" if measure == "linear-probe" else "k": chosen},
                "valid": valid[chosen],
                "test": next(iter(test.values()))["accuracy"],
            }
    tried = {"C": list(STRENGTHS), "k": list(candidates["knn"])}
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


def _has_vector_input(data: Any) -> bool:
    """Whether the input can be flattened to a vector of real values, which the baseline "raw" needs."""
    field = dict(data.signature).get("x")
    return field is not None and field.kind in ("image", "vector", "sequence") and None not in field.shape
