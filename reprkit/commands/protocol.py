"""What ``reprkit probe`` and ``reprkit finetune`` share: which data, which split, which labels, and saying so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.commands.output import printable
from reprkit.errors import DataError, ReprkitError

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


@dataclass(frozen=True)
class Protocol:
    """A saved model and the three parts of the data that it is judged by.

    Attributes:
        model: in evaluation mode.
        train: what is fitted on; valid: what is chosen on; test: what is reported on.
        facts: the protocol as plain JSON.
    """

    model: Model
    train: Dataset
    valid: Dataset
    test: Dataset
    facts: dict[str, Any]

    def lines(self) -> list[str]:
        """The protocol in words."""
        facts = self.facts
        labels, classes = facts["labels"], facts["a_class"]
        each = f"{classes[0]}" if classes[0] == classes[1] else f"{classes[0]} to {classes[1]}"
        which = "all" if facts["labels_asked"] is None else "drawn"
        lines = [
            f"model    {facts['folder']}: {facts['model']}",
            f"data     {facts['data']}, split seed {facts['split_seed']}: train {facts['train']:,}, "
            f"valid {facts['valid']:,}, test {facts['test']:,}",
            f"         {facts['seen']}",
            f"labels   {labels:,} of train ({which}), {each} a class; field {facts['label']!r}, seed {facts['seed']}",
        ]
        return [printable(each) for each in lines]


def prepared(
    folder: Path,
    data: str | None,
    *,
    trust_data: bool,
    split_seed: int | None,
    labels: int | None,
    label: str,
    seed: int,
    device: str | None,
) -> Protocol:
    """Load the model, split the data as it was split for training, and look at the labels.

    Args:
        folder: of the model.
        data: a reference to the data set; None takes the one that the run names, if it is trusted.
        trust_data: whether the data set that the run names may be built: whoever wrote the folder chose it.
        split_seed: which division; None takes the run's, for the same data.
        labels: so many labels only; None takes all.
        label: the label field.
        seed: which labels.
        device: of the model; None takes a GPU where there is one.

    Raises:
        CheckpointError: no model there.
        DataError: no data is given, and none is recorded or what is recorded is not trusted; no such label field, or too few
            labels.
    """
    import numpy as np
    import torch

    import reprkit as rk
    from reprkit.checkpoints.reader import read
    from reprkit.evaluation.label_subset import label_subset, labels_of
    from reprkit.runs.reader import run_of

    stored = read(folder)
    was = _recorded(run_of(stored.folder).record)
    whole = rk.dataset(_chosen(data, was, trust_data, folder))
    same = whole.reference is not None and whole.reference == was.get("reference")
    chosen = split_seed if split_seed is not None else int(was.get("seed", 0)) if same else 0
    shares = {key: was[key] for key in ("test_share", "valid_share") if same and key in was}
    train, valid, test = whole.split(seed=chosen, valid=True, **shares)
    values = labels_of(label_subset(train, labels, label=label, seed=seed), label, "this")
    counts = np.unique(values, return_counts=True)[1]
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = rk.load(folder, map_location=place)
    parts = [f"{path.encoder.reference} → {path.latent.reference}" for path in model.factors.values()]
    facts = {
        "folder": str(stored.folder),
        "model": f"{' and '.join(parts)}, trained by {model.objective.expression}".replace("reprkit/", ""),
        "data": whole.reference or whole.name,
        "split_seed": chosen,
        "train": len(train),
        "valid": len(valid),
        "test": len(test),
        "seen": _seen(was, same, chosen),
        "label": label,
        "labels_asked": labels,
        "labels": len(values),
        "a_class": [int(counts.min()), int(counts.max())],
        "seed": seed,
    }
    return Protocol(model, train, valid, test, facts)


def _recorded(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``run.json`` says of the data; nothing where it says it in no way that a run does."""
    was = record.get("data")
    expected = {
        "reference": str,
        "name": str,
        "part": str,
        "seed": int,
        "test_share": float,
        "valid_share": float,
    }
    if not isinstance(was, dict):
        return {}
    return {
        key: value
        for key, value in was.items()
        if isinstance(value, expected.get(key, object)) and value is not True
    }


def _chosen(data: str | None, was: Mapping[str, Any], trust_data: bool, folder: Path) -> str:
    """The reference to build: the caller's, or the run's when the caller trusts it."""
    recorded = was.get("reference")
    if data is not None:
        return data
    if not recorded:
        raise DataError(
            f"{folder} does not say which data it was trained on: name it, such as --data digits (see: reprkit list datasets)"
        )
    if not trust_data:
        raise DataError(
            f"{folder} names the data set {printable(recorded)}, which is not built unless you say so: write --trust-data "
            "if you trust this folder, or --data REFERENCE"
        )
    return str(recorded)


def options(**values: Any) -> str:
    """Arguments of a reference, those that are None left out: ``labels=50, seed=0``."""
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


def best(scores: Mapping[Any, float]) -> Any:
    """The value with the highest score; the first of equal ones."""
    return max(scores, key=lambda each: scores[each])


def numbers(values: Sequence[float], name: str) -> list[float]:
    """Values of a flag without repetition, in their order.

    Raises:
        ReprkitError: one that is not above 0.
    """
    for each in values:
        if not each > 0:
            raise ReprkitError(f"{name} takes numbers above 0, not {each}")
    return list(dict.fromkeys(values))


def _seen(was: Mapping[str, Any], same: bool, seed: int) -> str:
    """Whether training has seen the test examples, as far as the run's record tells."""
    if not was:
        return "what the model was trained on is not recorded: it may have seen the test examples"
    if not same:
        return f"the model was trained on {was.get('reference') or was.get('name')}"
    if was.get("part") is None:
        return "the model was trained on all of it: it has seen the test examples, without their labels"
    if was.get("seed") != seed:
        return f"the model was trained on split seed {was.get('seed')}: it has seen most of the test examples"
    return f"the model was trained on part {was['part']!r} of this split"
