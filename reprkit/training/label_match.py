"""Labels of training data, numbered as the model that goes on training numbers its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprkit.data.base import Dataset
from reprkit.data.compatibility import match_model

if TYPE_CHECKING:
    from reprkit.models.model import Model


def match_labels(model: Model, data: Any) -> Any:
    """Return the data set with its labels numbered as the model numbers the classes of the same names.

    Where one of both states no names (``Field.classes``), labels stay as they are.

    Raises:
        DataError: a class that the model does not know, of a label that it reads or returns, or whose classes have weights in the
            objective (``Objective.labels``).
    """
    if not isinstance(data, Dataset):
        return data
    learned = {name for name, use in model.objective.labels.items() if use == "classes"}
    return match_model(data, model.signature, model.data_fields | learned)
