"""The conformance of a data set."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import torch

from reprkit.data import Dataset, Signature, Stream
from reprkit.errors import DataError
from reprkit.testing.base import Conformance, expect, expect_close

MOST = 2000  # examples that are compared one by one


class DatasetConformance(Conformance):
    """Subclass it in one line: ``class TestMine(DatasetConformance): part = "acme/mine(root='small')"``."""

    kind = "dataset"

    def examples(self) -> Any:
        """``fresh``; of a stream the first examples, since it has neither length nor indices."""
        return _held(self.fresh())

    def test_signature_round_trips_through_json(self) -> None:
        """It is a Dataset that holds something, and its signature is JSON."""
        data = self.fresh()
        expect(isinstance(data, Dataset), f"{type(data).__name__} is not a subclass of reprkit.Dataset")
        expect(isinstance(getattr(data, "signature", None), Signature), "it has no signature")
        expect(len(_held(data)) > 0, "it is empty")
        again = Signature.from_json(json.loads(json.dumps(data.signature.to_json())))
        expect(again.to_json() == data.signature.to_json(), "the signature does not survive JSON")

    def test_examples_fit_the_signature(self) -> None:
        """Examples are plain dicts of finite tensors of the stated shapes, types, ranges and symbols."""
        data = self.examples()
        for index in sorted({0, len(data) // 2, len(data) - 1}):
            example = data[index]
            expect(type(example) is dict, f"example {index} is a {type(example).__name__}, not a dict")
            for name, field in data.signature.items():
                expect(name in example, f"example {index} has no field {name!r}")
                _check_field(name, field, example[name], index)

    def test_examples_are_reproducible(self) -> None:
        """The same example twice is equal; past the end is an IndexError."""
        data = self.examples()
        for index in (0, len(data) - 1):
            for name, value in data[index].items():
                expect_close(data[index][name], value, f"{name} of example {index}, read twice", 0.0)
        try:
            data[len(data)]
        except (IndexError, DataError):
            return
        raise AssertionError(f"data[{len(data)}] is past the end and raised nothing")

    def test_batches_equal_their_examples(self) -> None:
        """``batch(indices)`` holds the examples in that order, padded under a mask where lengths vary."""
        data = self.examples()
        indices = [len(data) - 1, 0]
        batch = data.batch(indices)
        for row, index in enumerate(indices):
            example = data[index]
            for name, field in data.signature.items():
                held, value = batch[name][row], example[name]
                where = f"{name} of example {index}"
                if None in field.shape:
                    expect(f"{name}_mask" in batch, f"lengths vary, so a batch needs {name}_mask")
                    # An example may be padded itself, and then says so.
                    real = example.get(f"{name}_mask", torch.ones(len(value), dtype=torch.bool))
                    longer = real.new_zeros(len(held) - len(real))
                    mask = batch[f"{name}_mask"][row]
                    expect_close(mask, torch.cat([real, longer]), f"the mask of {where} in a batch")
                    held = held[: len(value)]
                expect_close(held, value, f"{where} in a batch", 0.0)

    def test_split_is_disjoint_and_complete(self) -> None:
        """``split`` is a pure function of its seed; its parts share nothing and lose nothing."""
        whole_set = self.fresh()
        data = _held(whole_set)
        parts, again = ([_held(part) for part in whole_set.split(seed=3, valid=True)] for _ in range(2))
        expect(len(parts) == 3, f"split(valid=True) gave {len(parts)} parts, not train, valid and test")
        sizes = [len(part) for part in parts]
        whole = len(data)
        cut = isinstance(whole_set, Stream) and max(whole, *sizes) == MOST  # more were not taken
        expect(
            cut or sum(sizes) == whole, f"parts of {sizes} from {whole} examples: some are lost or doubled"
        )
        for one, two in zip(parts, again, strict=True):
            expect(one.signature.to_json() == data.signature.to_json(), "a part has another signature")
            expect(_prints(one, 20) == _prints(two, 20), "the same seed gave another split")
        if whole <= MOST and not cut:
            divided = Counter(each for part in parts for each in _prints(part, MOST))
            expect(
                Counter(_prints(data, MOST)) == divided,
                "the parts together do not hold the examples of the whole",
            )


def _held(data: Any) -> Any:
    return data.take(MOST) if isinstance(data, Stream) else data


def _check_field(name: str, field: Any, value: Any, index: int) -> None:
    where = f"{name} of example {index}"
    expect(isinstance(value, torch.Tensor), f"{where} is a {type(value).__name__}, not a tensor")
    shape = tuple(value.shape)
    fits = len(shape) == len(field.shape)
    fits = fits and all(b in (None, a) for a, b in zip(shape, field.shape, strict=True))
    expect(fits, f"{where} has the shape {shape}, not {field.shape}")
    dtype = torch.int64 if field.discrete else torch.float32
    expect(value.dtype == dtype, f"{where} is {value.dtype}, not {dtype}")
    if value.numel() == 0:
        return
    expect(torch.isfinite(value).all(), f"{where} holds values that are not finite")
    low, high = float(value.min()), float(value.max())
    if field.discrete and field.vocab is not None:
        expect(
            low >= 0 and high < field.vocab,
            f"{where} holds {low:g} to {high:g}, and the vocab is {field.vocab}",
        )
    if field.range is not None:
        expect(
            field.range[0] <= low and high <= field.range[1],
            f"{where} spans {low}..{high}, not {field.range}",
        )


def _prints(data: Any, most: int) -> list[bytes]:
    """The examples' content, comparable."""
    return [
        b"".join(name.encode() + value.numpy().tobytes() for name, value in sorted(data[index].items()))
        for index in range(min(len(data), most))
    ]
