"""Zero-shot classification: the class whose name, in a prompt, is nearest to a picture in the joint space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor
from torch.nn.functional import normalize

from reprkit import Evaluator
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.evaluation.encoding import batches, check_label
from reprkit.models.factor import resolve_factor

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class ZeroShot(Evaluator):
    """Classification by prompts, without training on labels (Radford et al. 2021, arXiv 2103.00020, section 3.1).

    A class's vector is the mean of the unit vectors of its prompts (an ensemble, section 3.1.4); an example belongs to the class
    of the largest cosine similarity in the joint space (``model.joint_vectors``).  Names of classes are those of the label field.

    ``accuracy``; ``chance``, the share of the most frequent class among the examples, which no prompt is needed for.

    Args:
        label: the label field.
        prompts: templates of texts, ``{}`` stands for the class: "a {} shape above a square".
        text: the factor that reads the texts.
        example: the factor that reads the examples.
    """

    def __init__(
        self,
        label: str = "label",
        prompts: Annotated[tuple[str, ...], MinLen(1)] = ("a picture of a {}",),
        *,
        text: str = "text",
        example: str = "image",
    ) -> None:
        super().__init__()
        for prompt in prompts:
            if "{}" not in prompt:
                raise PartArgumentError(
                    f"evaluator zero-shot: prompt {prompt!r} has no {{}}, where the class stands"
                )
        self.label, self.prompts, self.text, self.example = label, prompts, text, example

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics, and the number of classes.

        Raises:
            BuildError: the model has no such factors.
            DataError: no such label, or its classes have no names.
        """
        check_label(data, self.label, "zero-shot")
        for factor in (self.text, self.example):
            resolve_factor(model.factors, factor, "evaluator zero-shot")
        classes = data.signature[self.label].classes
        if not classes:
            raise DataError(
                f"zero-shot: the classes of field {self.label!r} have no names (Field.classes) to put into prompts"
            )
        known = class_vectors(model, classes, self.prompts, self.text)
        hits, labels = [], []
        for batch in batches(data, "classifying"):
            vectors = normalize(model.joint_vectors(batch, self.example).double().cpu(), dim=-1)
            labels.append(batch[self.label].cpu())
            hits.append((vectors @ known.T).argmax(1) == labels[-1])
        counts = torch.cat(labels).bincount()
        return {
            "accuracy": float(torch.cat(hits).double().mean()),
            "chance": float(counts.max() / counts.sum()),
            "classes": len(classes),
        }


def class_vectors(model: Model, classes: tuple[str, ...], prompts: tuple[str, ...], text: str) -> Tensor:
    """Return the unit vectors of classes (k d), float64: the mean over prompts.

    Raises:
        BuildError: vectors of examples and texts would differ in width, or the factor reads no texts.
    """
    field = model.factors[text].input
    if model.signature is None or model.signature[field].form is None:
        raise BuildError(
            f"zero-shot: factor {text} reads field {field!r}, which has no vocabulary (Field.form) to encode prompts with"
        )
    texts = [prompt.replace("{}", name) for name in classes for prompt in prompts]
    vectors = normalize(model.joint_vectors({field: texts}, text).double().cpu(), dim=-1)
    return normalize(vectors.view(len(classes), len(prompts), -1).mean(1), dim=-1)
