"""The protocol of ``reprkit probe`` and ``reprkit finetune``: choose data, split and labels, and state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.commands.options import load_model
from reprkit.commands.output import printable
from reprkit.errors import DataError, ReprkitError

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


@dataclass(frozen=True)
class Protocol:
    """A saved model and the three parts of the data that it is evaluated with.

    Attributes:
        model: in evaluation mode.
        train: the part to fit on.
        valid: the part to choose hyperparameters on.
        test: the part to report accuracy on.
        facts: the protocol as plain JSON.
    """

    model: Model
    train: Dataset
    valid: Dataset
    test: Dataset
    facts: dict[str, Any]

    def lines(self) -> list[str]:
        """The protocol as lines of text."""
        facts = self.facts
        labels, classes = facts["labels"], facts["a_class"]
        per_class = f"{classes[0]}" if classes[0] == classes[1] else f"{classes[0]} to {classes[1]}"
        which = "all" if facts["labels_asked"] is None else "drawn"
        lines = [
            f"model    {facts['folder']}: {facts['model']}",
            f"data     {facts['data']}, split seed {facts['split_seed']}: train {facts['train']:,}, "
            f"valid {facts['valid']:,}, test {facts['test']:,}",
            f"         {facts['seen']}",
            f"labels   {labels:,} of train ({which}), {per_class} a class; field {facts['label']!r}, seed {facts['seed']}",
        ]
        return [printable(line) for line in lines]


def prepare_protocol(
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
    """Load the model, split the data as it was split for training, and count the labels.

    Args:
        folder: of the model.
        data: a reference to the data set; None takes the one recorded in the run, if it is trusted.
        trust_data: whether the recorded data set may be built; whoever wrote the folder chose it.
        split_seed: seed of the split; None takes the run's if the data is the same, else 0.
        labels: number of labels to use; None takes all.
        label: the label field.
        seed: of the choice of labels.
        device: of the model; None takes a GPU if there is one.

    Raises:
        CheckpointError: there is no model in the folder.
        DataError: no data is given, and none is recorded or the recorded one is not trusted; no such label field, or too few
            labels.
    """
    import numpy as np

    import reprkit as rk
    from reprkit.checkpoints.reader import read
    from reprkit.evaluation.label_subset import label_subset, labels_of
    from reprkit.runs.reader import run_of

    stored = read(folder)
    recorded = _recorded_data(run_of(stored.folder).record)
    whole = rk.dataset(_choose_data(data, recorded, trust_data, folder))
    same = whole.reference is not None and whole.reference == recorded.get("reference")
    chosen_seed = split_seed if split_seed is not None else int(recorded.get("seed", 0)) if same else 0
    shares = {key: recorded[key] for key in ("test_share", "valid_share") if same and key in recorded}
    train, valid, test = whole.split(seed=chosen_seed, valid=True, **shares)
    values = labels_of(label_subset(train, labels, label=label, seed=seed), label, "this")
    counts = np.unique(values, return_counts=True)[1]
    model = load_model(folder, device)
    parts = [f"{factor.encoder.reference} → {factor.latent.reference}" for factor in model.factors.values()]
    facts = {
        "folder": str(stored.folder),
        "model": f"{' and '.join(parts)}, trained by {model.objective.expression}".replace("reprkit/", ""),
        "data": whole.reference or whole.name,
        "split_seed": chosen_seed,
        "train": len(train),
        "valid": len(valid),
        "test": len(test),
        "seen": _describe_training_data(recorded, same, chosen_seed),
        "label": label,
        "labels_asked": labels,
        "labels": len(values),
        "a_class": [int(counts.min()), int(counts.max())],
        "seed": seed,
    }
    return Protocol(model, train, valid, test, facts)


def _recorded_data(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entries about data in ``run.json`` that have the expected types."""
    data = record.get("data")
    expected = {
        "reference": str,
        "name": str,
        "part": str,
        "seed": int,
        "test_share": float,
        "valid_share": float,
    }
    if not isinstance(data, dict):
        return {}
    return {
        key: value
        for key, value in data.items()
        if isinstance(value, expected.get(key, object)) and value is not True
    }


def _choose_data(data: str | None, recorded: Mapping[str, Any], trust_data: bool, folder: Path) -> str:
    """The reference of the data set to build: the caller's, or the run's if the caller trusts it."""
    reference = recorded.get("reference")
    if data is not None:
        return data
    if not reference:
        raise DataError(
            f"{folder} does not record which data it was trained on: give it, such as --data digits (see: reprkit list datasets)"
        )
    if not trust_data:
        raise DataError(
            f"{folder} names the data set {printable(reference)}, which is built only on request: give --trust-data "
            "if you trust this folder, or --data REFERENCE"
        )
    return str(reference)


def format_arguments(**values: Any) -> str:
    """Format the arguments of a reference without those that are None: ``labels=50, seed=0``."""
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)


def best_value(scores: Mapping[Any, float]) -> Any:
    """The value with the highest score; the first one if scores are equal."""
    return max(scores, key=lambda value: scores[value])


def positive_values(values: Sequence[float], name: str) -> list[float]:
    """Check that the values of a flag are above 0 and remove repeated ones.

    Raises:
        ReprkitError: a value is not above 0.
    """
    for value in values:
        if not value > 0:
            raise ReprkitError(f"{name} takes numbers above 0, not {value}")
    return list(dict.fromkeys(values))


def _describe_training_data(recorded: Mapping[str, Any], same: bool, seed: int) -> str:
    """A sentence on whether training has seen the test examples, as far as the run's record says."""
    if not recorded:
        return "the training data of the model is not recorded: it may have seen the test examples"
    if not same:
        return f"the model was trained on {recorded.get('reference') or recorded.get('name')}"
    if recorded.get("part") is None:
        return "the model was trained on all of it: it has seen the test examples, without their labels"
    if recorded.get("seed") != seed:
        return f"the model was trained on split seed {recorded.get('seed')}: it has seen most of the test examples"
    return f"the model was trained on part {recorded['part']!r} of this split"
