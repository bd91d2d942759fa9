"""``reprkit search MODEL DATA QUERY...``: the examples of a data set whose codes are nearest to those of some files."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from reprkit.commands.options import (
    BatchOption,
    CheckpointArgument,
    DeviceOption,
    FactorOption,
    JsonOption,
    Pool,
    PoolOption,
    SeedOption,
    load_model,
)
from reprkit.commands.output import emit_json, emit_table


class Distance(StrEnum):
    """Between two vectors."""

    cosine = "cosine"
    euclidean = "euclidean"


def command(
    model: CheckpointArgument,
    data: Annotated[str, typer.Argument(help="What is searched: a data set, or a file or folder of data.")],
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...",
            help="A file of examples, or files of pictures, sound or text; each example is a query.",
        ),
    ],
    k: Annotated[int, typer.Option("--count", "-k", min=1, help="Neighbors of each query.")] = 10,
    distance: Annotated[
        Distance, typer.Option(help="cosine (1 - cosine, 0 to 2) or euclidean.")
    ] = Distance.cosine,
    factor: FactorOption = None,
    pool: PoolOption = Pool.mean,
    batch: BatchOption = 256,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Find the examples of a data set that are nearest to a file.

    Distances are those of their codes; the nearest is first.
    """
    from reprkit.data.formats.value_readers import class_names
    from reprkit.models.model_input import input_names, model_input
    from reprkit.models.nearest import find_nearest

    loaded = load_model(model, device)
    known, asked = model_input(loaded, [data]), model_input(loaded, query)
    found = find_nearest(
        loaded,
        known,
        asked,
        k,
        distance=distance.value,
        factor=factor,
        pool=pool.value,
        batch=batch,
        seed=seed,
    )
    names, queries = input_names(known), input_names(asked) or [str(index) for index in range(len(asked))]
    classes = class_names(known.signature, known.facts)
    results: list[dict[str, Any]] = []
    for row, name in enumerate(queries):
        neighbors: list[dict[str, Any]] = []
        for place, index in enumerate(found.indices[row].tolist()):
            labels = {
                field: classes[field][int(values[row, place])]
                if field in classes
                else int(values[row, place])
                for field, values in found.labels.items()
            }
            neighbor: dict[str, Any] = {"index": index, "name": None if names is None else names[index]}
            neighbors.append({**neighbor, "distance": float(found.distances[row, place]), "labels": labels})
        results.append({"query": name, "neighbors": neighbors})
    if json:
        emit_json({"distance": distance.value, "results": results})
        return
    rows = [
        (
            str(result["query"]) if place == 0 else "",
            str(neighbor["index"]),
            neighbor["name"] or "",
            f"{neighbor['distance']:.4g}",
            ", ".join(str(value) for value in neighbor["labels"].values()),
        )
        for result in results
        for place, neighbor in enumerate(result["neighbors"])
    ]
    emit_table(("query", "index", "example", distance.value, "label"), rows)
