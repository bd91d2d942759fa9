"""Fine-tuning: how well the encoder serves as initialization for a classifier."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from reprkit.errors import BuildError, DataError
from reprkit.evaluation.encoding import by_length, check_label, encoded, progress_title, session
from reprkit.evaluation.label_subset import label_subset
from reprkit.interfaces import Evaluator
from reprkit.registry.constraints import BelowOne, Count, Positive, Seed
from reprkit.utils import collectives
from reprkit.utils.modes import eval_mode
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.objectives.classify import Classify

WARMUP = 0.1  # share of the steps with a rising learning rate


class FineTune(Evaluator):
    """Train a copy of the encoder and latent with a linear layer on ``fit_on``'s labels: ``accuracy``.

    The protocol of the masked autoencoder (He et al. 2021, arXiv 2111.06377, section 4.1), for any model: the
    layer reads ``model.represent``, AdamW (cosine schedule, a tenth of the steps as warmup) minimizes the
    cross-entropy of objective ``classify`` alone.  The copy is in training mode (dropout, straight-through
    gradients, codebook updates); a stochastic latent gives its mean, its own losses are ignored, and frozen
    weights stay frozen.  If lengths vary, batches hold examples of similar length.  Applied to an untrained
    model this is training from scratch.  Deterministic by ``seed``; the evaluated model is not changed.

    Args:
        steps: optimizer steps.
        lr: learning rate.
        batch: examples per step; all examples if there are fewer.
        start: initialize the layer by "zeros", or by the "probe": logistic regression on the frozen
            representation (Kumar et al. 2022, arXiv 2202.10054).
        weight_decay: AdamW's, on weight matrices.
        labels: train on this many labeled examples only, balanced over classes; None takes all.
        label: the label field.
        seed: of the order of examples, dropout and the choice of labels.
    """

    def __init__(
        self,
        steps: Count = 300,
        *,
        lr: Positive = 1e-3,
        batch: Count = 128,
        start: Literal["zeros", "probe"] = "zeros",
        weight_decay: BelowOne = 0.05,
        labels: Count | None = None,
        label: str = "label",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.labels, self.label, self.seed = labels, label, seed
        self.options: dict[str, Any] = {
            "steps": steps,
            "lr": lr,
            "batch": batch,
            "start": start,
            "weight_decay": weight_decay,
        }

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return ``accuracy`` on ``data``, in [0, 1], and ``n``.

        Raises:
            DataError: no ``fit_on``, no labels, or labels that the signature does not allow.
            BuildError: the model has no encoder, or cannot read the data.
        """
        if fit_on is None:
            raise DataError("finetune is fitted on labeled examples: pass evaluate(..., fit_on=train)")
        chosen = label_subset(fit_on, self.labels, label=self.label, seed=self.seed)
        tuned = fine_tune(model, chosen, label=self.label, seed=self.seed, **self.options)
        guess, truth = predict(tuned, data)
        return {"accuracy": float((guess == truth).mean()), "n": len(truth)}


def fine_tune(
    model: Model,
    data: Dataset,
    *,
    steps: int = 300,
    lr: float = 1e-3,
    batch: int = 128,
    start: str = "zeros",
    weight_decay: float = 0.05,
    label: str = "label",
    seed: int = 0,
) -> Model:
    """Fine-tune a copy of a model; return it in evaluation mode: no decoder, objective ``classify``; see ``FineTune``.

    It can be saved; ``predict`` returns its classes.
    """
    from reprkit.data.loading.buckets import lengths_for_buckets
    from reprkit.data.loading.order import Order, loader
    from reprkit.training.optimizers import create_optimizer
    from reprkit.training.schedules import schedule_from

    device = model.device
    devices = [device] if device.type == "cuda" else []
    # Every process evaluates the whole data by itself, even during distributed training.
    with collectives.local_only(), torch.enable_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        tuned = _copy_as_classifier(model, data, label)
        objective: Classify = tuned.objective  # type: ignore[assignment]
        if start == "probe":
            assert isinstance(objective.head, nn.Linear)  # since it is bound to a model
            _start_as_probe(objective.head, model, data, label)
        trainable = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
        optimizer = create_optimizer("adamw", trainable, lr=lr, weight_decay=weight_decay)
        schedule = schedule_from("cosine", steps, warmup=round(WARMUP * steps))
        lengths = lengths_for_buckets(data) if data.lengths() else None
        order = Order(len(data), min(batch, len(data)), seed, lengths=lengths)
        tuned.train()
        loaded = loader(data, order, stop=steps)
        for step, examples in enumerate(
            track_progress(loaded, progress_title("fine-tuning"), total=steps, show=session().progress)
        ):
            for group in optimizer.param_groups:
                group["lr"] = lr * schedule(step)
            total, count = objective(tuned, tuned.to_device(examples))["classify"]
            optimizer.zero_grad(set_to_none=True)
            (total / count).backward()
            optimizer.step()
            for factor in tuned.factors.values():
                factor.latent.update()
    return tuned.eval()


@torch.no_grad()
def predict(tuned: Model, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted and true classes (n,) of a fine-tuned model."""
    objective: Classify = tuned.objective  # type: ignore[assignment]
    check_label(data, objective.label, "finetune")
    guess, truth, indices = [], [], []
    for examples, batch in by_length(data, "classifying"):
        indices.append(examples)
        guess.append(objective.logits(tuned, tuned.to_device(batch)).argmax(-1).cpu().numpy())
        truth.append(batch[objective.label].cpu().numpy())
    order = torch.cat(indices).argsort().numpy()
    return np.concatenate(guess)[order], np.concatenate(truth)[order]


def _copy_as_classifier(model: Model, data: Dataset, label: str) -> Model:
    from reprkit.models.model import Model
    from reprkit.objectives.classify import Classify

    if not model.factors:
        raise BuildError("this model has no encoder, so it cannot be fine-tuned")
    check_label(data, label, "finetune")
    known = model.signature or data.signature
    for factor in model.factors.values():
        field = dict(data.signature).get(factor.input)
        expected = known[factor.input]
        if field is None or _field_type(field) != _field_type(expected):
            raise BuildError(
                f"the model reads {factor.input} as {expected.kind} {expected.shape}, but this data has "
                + (
                    f"{field.kind} {field.shape}"
                    if field
                    else f"no such field, only {', '.join(data.signature)}"
                )
            )
    objective = Classify(label=label)
    objective.qualified = "reprkit/classify"
    factors = copy.deepcopy(
        dict(model.factors.items())
    )  # together, so that a part of several factors remains one
    tuned = Model(factors, None, objective, signature=data.signature)
    objective.bind(tuned)  # the other parts were bound to the model that they are copied from
    return tuned.to(model.device)


def _field_type(field: Any) -> tuple[Any, ...]:
    return field.kind, field.shape, field.vocab


@torch.no_grad()
def _start_as_probe(head: nn.Linear, model: Model, data: Dataset, label: str) -> None:
    """Initialize the layer by logistic regression on the standardized representation; absent classes get a very low bias."""
    from reprkit.evaluation.linear_probe import fit_probe

    with eval_mode(model):
        representation = encoded(model, data)
    probe = fit_probe(representation.x, representation.labels[label])
    scaler, regression = probe[0], probe[-1]
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # two classes: one score for the second
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    classes = torch.from_numpy(regression.classes_)
    head.weight.zero_()
    head.bias.fill_(float(bias.min()) - 10.0)
    head.weight[classes] = torch.from_numpy(weight).to(head.weight)
    head.bias[classes] = torch.from_numpy(bias).to(head.bias)
