"""Examples of a torch data set, or of any iterable: fields by the values' types, read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.field_inference import UNSTATED, infer_field
from reprkit.data.formats.value_readers import class_facts
from reprkit.data.padding import pad
from reprkit.data.signature import Field, Kind, Signature
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Real
from reprkit.utils.progress import track_progress

MEMORY = 1 << 30  # bytes of an iterable that are kept in memory
_SAMPLE = 256  # examples that decide the kind of a field, besides those of extreme values and lengths

Channels = Literal["first", "last"]


class Examples(Dataset):
    """Examples of a torch data set (``len(data)``, ``data[index]``), of a list, or of an iterable that ends.

    An example is a dict of fields, or a tuple of ``fields``, by default (x, label), or one value, ``x``.  A value is a tensor, an
    array, a number, a list of numbers, or a picture of PIL.  Kinds, ranges and vocabularies follow by the rules of the data set
    ``arrays``, from one pass over all examples.  Sequences and symbols may vary in length.

    A torch data set is read again for every batch, so that its random transforms apply; examples of an iterable are kept in
    memory.  Class names are those of the attribute ``classes``, as torchvision's data sets have it.

    Args:
        source: the data set, list or iterable.
        fields: names of the values of a tuple, in order.
        channels: "first" where images are (c h w), as torchvision's transforms return them.
        kinds: field -> "image", "map", "vector", "sequence", "tokens" or "label".
        ranges: field -> (lowest, highest), or None for no range.
        vocabs: field -> number of symbols.

    Raises:
        DataError: no examples, examples with different fields or shapes, values of no known type, or an ambiguous field; the
            message says what settles it.
    """

    def __init__(
        self,
        source: Any,
        *,
        fields: Sequence[str] | None = None,
        channels: Channels = "last",
        kinds: Mapping[str, Kind] | None = None,
        ranges: Mapping[str, tuple[Real, Real] | None] | None = None,
        vocabs: Mapping[str, Count] | None = None,
    ) -> None:
        self._name = type(source).__name__.lower()
        self._names, self._channels_first = fields, channels == "first"
        indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
        if not indexed or isinstance(source, torch.utils.data.IterableDataset):
            source = self._read_all(source)
        self._source = source
        found = self._look()
        for option, values in (("kinds", kinds), ("ranges", ranges), ("vocabs", vocabs)):
            for name in values or {}:
                if name not in found:
                    raise DataError(
                        f"{option}: there is no field {name!r}.{nearest(name, found)}\n  the fields are: {', '.join(found)}"
                    )
        inferred: dict[str, Field] = {}
        self._divisors: dict[str, float] = {}
        for name, seen in found.items():
            _, inferred[name], divisor = infer_field(
                name,
                seen.sample(),
                kind=(kinds or {}).get(name),
                span=(ranges or {}).get(name, UNSTATED),
                vocab=(vocabs or {}).get(name),
                varies=len(set(seen.lengths)) > 1,
            )
            if divisor is not None:
                self._divisors[name] = divisor
        self._lengths = {
            name: torch.tensor(found[name].lengths) for name in inferred if None in inferred[name].shape
        }
        classes = [str(each) for each in getattr(source, "classes", None) or ()]
        label = inferred.get("label")
        if label is not None and label.vocab is not None and len(classes) >= label.vocab:
            inferred["label"] = replace(label, vocab=len(classes), classes=tuple(classes))
            self.facts = class_facts({"label": classes})
        self.signature = Signature(inferred)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example; a negative index counts from the end."""
        position = range(len(self))[index]
        values = self._values(self._source[position], position)
        return {name: self._convert(name, value) for name, value in values.items()}

    def lengths(self) -> dict[str, Tensor]:
        """Return the lengths of the fields whose length varies."""
        return self._lengths

    @property
    def name(self) -> str:
        """Name of the source's class."""
        return self._name

    def _convert(self, name: str, value: Tensor) -> Tensor:
        """Return a value in the type and axes of its field."""
        field = self.signature[name]
        if field.kind == "image" and value.ndim == 2:
            value = value.unsqueeze(-1)
        if field.kind == "label" and value.ndim == 1:
            value = value.squeeze(0)
        if field.discrete:
            return value.long()
        return value.float() / self._divisors[name] if name in self._divisors else value.float()

    def _look(self) -> dict[str, _Seen]:
        """Read every example once; return what was seen of each field.

        Raises:
            DataError: no examples, or examples with different fields or shapes.
        """
        found: dict[str, _Seen] = {}
        for index in track_progress(range(len(self._source)), "reading examples"):
            values = self._values(self._source[index], index)
            if index == 0:
                found = {name: _Seen(name) for name in values}
            if values.keys() != found.keys():
                raise DataError(
                    f"example {index} of {self._name} has the fields {', '.join(values)}, and example 0 {', '.join(found)}"
                )
            for name, value in values.items():
                found[name].add(value, index)
        if not found:
            raise DataError(f"{self._name} is empty: it has no examples")
        return found

    def _values(self, example: Any, index: int) -> dict[str, Tensor]:
        """Return the values of an example by field.

        Raises:
            DataError: a tuple of another length, or a value of no known type.
        """
        if isinstance(example, Mapping):
            named = dict(example)
        elif isinstance(example, tuple) or self._names is not None:
            names = self._names or ("x", "label")[: len(example)]
            if not isinstance(example, tuple | list) or len(example) != len(names):
                held = f" of {len(example)} values" if isinstance(example, tuple | list) else ""
                raise DataError(
                    f"example {index} of {self._name} is a {type(example).__name__}{held}; its fields are {', '.join(names)}\n"
                    "  name its values in order: rk.dataset(data, fields=['x', 'label', ...])"
                )
            named = dict(zip(names, example, strict=True))
        else:
            named = {"x": example}
        return {name: self._to_tensor(name, value, index) for name, value in named.items()}

    def _to_tensor(self, name: str, value: Any, index: int) -> Tensor:
        if isinstance(value, Tensor):
            tensor = value.detach().cpu()
            return tensor.movedim(0, -1) if self._channels_first and tensor.ndim == 3 else tensor
        if type(value).__module__.partition(".")[0] == "PIL":
            mode = "L" if value.mode in ("1", "L") else "RGB"
            pixels = torch.from_numpy(np.array(value.convert(mode)))
            return pixels.unsqueeze(-1) if mode == "L" else pixels
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"field {name!r} of example {index} of {self._name} is a {type(value).__name__}, not numbers or a picture\n"
                "  convert it where the data set makes its examples, or leave the field out of them"
            )
        return torch.from_numpy(np.array(array))

    def _read_all(self, source: Iterable[Any]) -> list[dict[str, Tensor]]:
        """Return the examples of an iterable, in memory.

        Raises:
            DataError: they are larger than 1 GiB.
        """
        examples, size = [], 0
        for index, example in enumerate(source):
            values = self._values(example, index)
            size += sum(value.nbytes for value in values.values())
            if size > MEMORY:
                raise DataError(
                    f"the first {index} examples of {self._name} fill 1 GiB of memory, and it has more\n"
                    "  give a torch data set with __len__ and __getitem__, the first examples (itertools.islice), or a subclass of "
                    "rk.data.Stream, which reads them during training"
                )
            examples.append({name: value.clone() for name, value in values.items()})
        self._channels_first = False  # they are last now
        return examples


@dataclass
class _Seen:
    """What was seen of a field: lengths, and the examples that decide its kind, range and vocabulary."""

    name: str
    lengths: list[int] = field(default_factory=list)
    first: list[Tensor] = field(default_factory=list)
    extremes: dict[str, tuple[float, Tensor]] = field(default_factory=dict)

    def add(self, value: Tensor, index: int) -> None:
        """Take account of a value.

        Raises:
            DataError: it has another shape than the first one, or no elements.
        """
        like = self.first[0] if self.first else value
        if (
            value.ndim != like.ndim
            or value.shape[1:] != like.shape[1:]
            or not value.numel()
            or (value.ndim == 3 and value.shape != like.shape)
        ):
            raise DataError(
                f"field {self.name!r} has shape {tuple(value.shape)} in example {index} and {tuple(like.shape)} in example 0\n"
                "  bring them to one shape in the data set (its transform); only sequences (t c) and symbols (t,) may vary, in t"
            )
        self.lengths.append(len(value) if value.ndim else 1)
        low, high = (float(each) for each in torch.aminmax(value))
        for name, number in (
            ("low", -low),
            ("high", high),
            ("short", -self.lengths[-1]),
            ("long", self.lengths[-1]),
        ):
            if name not in self.extremes or number > self.extremes[name][0]:
                self.extremes[name] = number, value
        if len(self.first) < _SAMPLE:
            self.first.append(value)

    def sample(self) -> Tensor:
        """Return the examples that were kept (m ...), padded where lengths vary."""
        kept = [*self.first, *(value for _, value in self.extremes.values())]
        if len({value.shape for value in kept}) > 1:
            return pad(kept, self.name)[0]
        return torch.stack(kept)
