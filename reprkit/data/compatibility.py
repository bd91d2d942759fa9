"""Whether a data set fits a model or another data set: same scale, symbols and columns, and classes matched by name."""

from __future__ import annotations

from collections.abc import Container

from reprkit.data.base import Dataset
from reprkit.data.formats.value_readers import class_names
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError


def require_same_fields(data: Dataset, learned: Signature | None) -> None:
    """Check that the fields of a data set mean what the fields of the same names meant where a model learned.

    Shapes are checked with each batch.  Here: the range, the number of symbols, and the columns of a table with their classes.

    Raises:
        DataError: a field differs; the message says how.
    """
    for name, field in data.signature.items():
        if (
            learned is None
            or name not in learned
            or field.kind == "label"
            or learned[name].kind != field.kind
        ):
            continue
        difference = _difference(field, learned[name])
        if difference:
            raise DataError(f"field {name!r} of {data.name} is not what the model learned: {difference}")


def _difference(field: Field, learned: Field) -> str:
    """Return how a field differs from the learned one; "" where it does not."""
    if field.range and learned.range and field.range != learned.range:
        return (
            f"its range is {field.range}, the model's is {learned.range}\n"
            "  rescale the data, or declare its range where it was declared wrongly (arrays: ranges={...})"
        )
    if field.discrete and field.vocab and learned.vocab and field.vocab > learned.vocab:
        return f"it has {field.vocab} symbols, the model knows {learned.vocab}"
    if field.form and learned.form and field.kind != "image" and field.form != learned.form:
        return (
            (
                "its symbols stand for other texts than the model's: it has another vocabulary"
                if field.discrete
                else f"its form is {field.form}, the model's is {learned.form}"
            )
            + "\n  give the files themselves, which are read by the model's form, or a data set with these settings"
        )
    if not field.columns or not learned.columns:
        return ""
    names, known = ([column.name for column in each.columns] for each in (field, learned))
    if names != known:
        return (
            f"its columns are {', '.join(names)}; the model's are {', '.join(known)}\n  "
            "read the file with the learned columns: rk.data.Table(path, like=train)"
        )
    for column, other in zip(field.columns, learned.columns, strict=True):
        if (column.kind, column.classes, column.unit) != (other.kind, other.classes, other.unit):
            return (
                f"column {column.name!r} is a {column.kind} {list(column.classes) or column.unit}, the model's is a {other.kind} "
                f"{list(other.classes) or other.unit}\n  read the file with the learned columns: rk.data.Table(path, like=train)"
            )
    return ""


def match_classes(data: Dataset, reference: Dataset | Signature) -> Dataset:
    """Return the data set with its labels numbered as the reference numbers the classes of the same names.

    Where one of both states no names (``Field.classes``), labels stay as they are.

    Raises:
        DataError: a class whose name the reference does not have.
    """
    known_by = _class_names(reference)
    numbers, classes = {}, {}
    for field, names in _class_names(data).items():
        known = known_by.get(field, [])
        if not known or names == known:
            continue
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DataError(
                f"{data.name} has the class{'es' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown[:5]))}, and "
                f"{reference.name if isinstance(reference, Dataset) else 'the model'} does not: "
                f"{', '.join(map(repr, known[:10]))}{' ...' if len(known) > 10 else ''}"
            )
        numbers[field], classes[field] = [known.index(name) for name in names], known
    return data.renumber_classes(numbers, classes) if numbers else data


def match_model(data: Dataset, learned: Signature | None, reads: Container[str]) -> Dataset:
    """Return the data set with its labels numbered as the model learned them, where it learned the classes of these names.

    Labels that the model does not read (``reads``) may have other classes, which then keep their numbers.

    Raises:
        DataError: a class that the model did not learn, of a label that it reads.
    """
    if learned is None:
        return data
    own, known = _class_names(data), _class_names(learned)
    fields = {
        name: learned[name] for name in known if name in reads or set(own.get(name, ())) <= set(known[name])
    }
    return match_classes(data, Signature(fields)) if fields else data


def _class_names(data: Dataset | Signature) -> dict[str, list[str]]:
    """Return the names of the classes of each label that states them, in its field or in ``facts``."""
    signature = data.signature if isinstance(data, Dataset) else data
    facts = data.facts if isinstance(data, Dataset) else None
    return {name: list(map(str, classes)) for name, classes in class_names(signature, facts).items()}
