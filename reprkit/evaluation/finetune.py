"""Fine-tuning: what the encoder is worth as a start for learning a label."""

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
from reprkit.utils.progress import tracked

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.objectives.classify import Classify

WARMUP = 0.1  # share of the steps over which the rate rises


class FineTune(Evaluator):
    """A copy of the encode path under a linear layer, all of it trained on ``fit_on``'s labels: ``accuracy``.

    As the masked autoencoder is judged (He et al. 2021, arXiv 2111.06377, section 4.1), for any model: the
    layer reads ``model.represent``, AdamW (cosine, a tenth of the steps to warm up) minimises the
    cross-entropy of objective ``classify`` alone.  The path is in training mode (dropout, straight-through
    gradients, codebooks that follow), a latent that draws gives what it draws around, its own losses count
    nothing, and weights that were frozen stay so.  Where lengths vary, a batch holds examples of similar ones.
    The same on an untrained model is training from scratch.  Deterministic by ``seed``; the model that is
    measured is left alone.

    Args:
        steps: optimiser steps.
        lr: learning rate.
        batch: examples a step; all there are where they are fewer.
        start: the layer begins at "zeros", or as the "probe": logistic regression on the representation as it
            is (Kumar et al. 2022, arXiv 2202.10054).
        weight_decay: AdamW's, on weight matrices.
        labels: train on so many labelled examples only, as many of each class as can be; None takes all.
        label: the label field.
        seed: of the order of examples, of dropout and of the choice of labels.
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
        """Accuracy on ``data``, in [0, 1], and ``n``.

        Raises:
            DataError: no ``fit_on``, no labels, or labels that the signature does not allow.
            BuildError: a model without encoder, or data that it does not read.
        """
        if fit_on is None:
            raise DataError("finetune is fitted on labelled examples: give evaluate(..., fit_on=train)")
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
    """The fine-tuned model, in evaluation mode: copied factors, no decoder, objective ``classify``; see ``FineTune``.

    It can be saved; ``predict`` gives its classes.
    """
    from reprkit.data.loading.buckets import lengths_of
    from reprkit.data.loading.order import Order, loader
    from reprkit.training.optimizers import create_optimizer
    from reprkit.training.schedules import schedule_from

    device = model.device
    devices = [device] if device.type == "cuda" else []
    # Every process measures the whole data by itself, also in the middle of training on several.
    with collectives.local_only(), torch.enable_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        tuned = _copy_as_classifier(model, data, label)
        goal: Classify = tuned.objective  # type: ignore[assignment]
        if start == "probe":
            assert isinstance(goal.head, nn.Linear)  # bound to a model, it is
            _start_as_probe(goal.head, model, data, label)
        held = [each for each in tuned.parameters() if each.requires_grad]
        optimiser = create_optimizer("adamw", held, lr=lr, weight_decay=weight_decay)
        factor = schedule_from("cosine", steps, warmup=round(WARMUP * steps))
        lengths = lengths_of(data) if data.lengths() else None
        order = Order(len(data), min(batch, len(data)), seed, lengths=lengths)
        tuned.train()
        pieces = loader(data, order, stop=steps)
        for step, piece in enumerate(
            tracked(pieces, progress_title("fine-tuning"), total=steps, show=session().progress)
        ):
            for group in optimiser.param_groups:
                group["lr"] = lr * factor(step)
            total, count = goal(tuned, tuned.to_device(piece))["classify"]
            optimiser.zero_grad(set_to_none=True)
            (total / count).backward()
            optimiser.step()
            for path in tuned.factors.values():
                path.latent.update()
    return tuned.eval()


@torch.no_grad()
def predict(tuned: Model, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true classes (n,) of a fine-tuned model."""
    goal: Classify = tuned.objective  # type: ignore[assignment]
    check_label(data, goal.label, "finetune")
    guess, truth, places = [], [], []
    for examples, batch in by_length(data, "classifying"):
        places.append(examples)
        guess.append(goal.logits(tuned, tuned.to_device(batch)).argmax(-1).cpu().numpy())
        truth.append(batch[goal.label].cpu().numpy())
    back = torch.cat(places).argsort().numpy()
    return np.concatenate(guess)[back], np.concatenate(truth)[back]


def _copy_as_classifier(model: Model, data: Dataset, label: str) -> Model:
    from reprkit.models.model import Model as Made
    from reprkit.objectives.classify import Classify

    if not model.factors:
        raise BuildError("this model has no encoder: there is nothing to fine-tune")
    check_label(data, label, "finetune")
    known = model.signature or data.signature
    for path in model.factors.values():
        here = dict(data.signature).get(path.input)
        if here is None or (here.kind, here.shape, here.vocab) != _field_type(known[path.input]):
            was = known[path.input]
            raise BuildError(
                f"the model reads {path.input} as {was.kind} {was.shape}, and this data has "
                + (
                    f"{here.kind} {here.shape}"
                    if here
                    else f"no such field, only {', '.join(data.signature)}"
                )
            )
    goal = Classify(label=label)
    goal.qualified = "reprkit/classify"
    paths = {name: copy.deepcopy(path) for name, path in model.factors.items()}
    return Made(paths, None, goal, signature=data.signature, output=model.output).to(model.device)


def _field_type(field: Any) -> tuple[Any, ...]:
    return field.kind, field.shape, field.vocab


@torch.no_grad()
def _start_as_probe(head: nn.Linear, model: Model, data: Dataset, label: str) -> None:
    """Fill the layer with logistic regression on the standardised representation; absent classes lie far below."""
    from reprkit.evaluation.linear_probe import fit_probe

    training = model.training
    model.eval()
    try:
        found = encoded(model, data)
    finally:
        model.train(training)
    probe = fit_probe(found.x, found.labels[label])
    scaler, regression = probe[0], probe[-1]
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # two classes: one score for the second
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    places = torch.from_numpy(regression.classes_)
    head.weight.zero_()
    head.bias.fill_(float(bias.min()) - 10.0)
    head.weight[places] = torch.from_numpy(weight).to(head.weight)
    head.bias[places] = torch.from_numpy(bias).to(head.bias)
