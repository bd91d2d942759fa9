"""Conformance checks of data sets."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reprkit.data import Dataset, Field, Signature, Stream
from reprkit.errors import DataError
from reprkit.registry.registry import default_registry
from reprkit.testing.assertions import expect, expect_close
from reprkit.testing.base import Conformance

MAX_RAW = 50  # examples whose files are asked for
MAX_EXAMPLES = 2000  # examples that are compared one by one


class DatasetConformance(Conformance):
    """Conformance of a data set: ``class TestMine(DatasetConformance): part = "acme/mine(root='small')"``."""

    kind = "dataset"

    def examples(self) -> Any:
        """Return ``fresh()``; of a stream its first examples, since a stream has neither length nor indices."""
        return _materialize(self.fresh())

    def test_signature_round_trips_through_json(self) -> None:
        """It is a non-empty Dataset, and its signature is equal after a round trip through JSON."""
        data = self.fresh()
        expect(isinstance(data, Dataset), f"{type(data).__name__} is not a subclass of reprkit.Dataset")
        expect(isinstance(getattr(data, "signature", None), Signature), "it has no signature")
        expect(len(_materialize(data)) > 0, "it is empty")
        again = Signature.from_json(json.loads(json.dumps(data.signature.to_json())))
        expect(
            again.to_json() == data.signature.to_json(), "the signature changes in a round trip through JSON"
        )

    def test_examples_fit_the_signature(self) -> None:
        """Examples are plain dicts of finite tensors with the shapes, types, ranges and symbols of the signature."""
        data = self.examples()
        for index in sorted({0, len(data) // 2, len(data) - 1}):
            example = data[index]
            expect(type(example) is dict, f"example {index} is a {type(example).__name__}, not a dict")
            for name, field in data.signature.items():
                expect(name in example, f"example {index} has no field {name!r}")
                _check_field(name, field, example[name], index)

    def test_examples_are_reproducible(self) -> None:
        """Reading an example twice gives equal values; an index past the end raises IndexError."""
        data = self.examples()
        for index in (0, len(data) - 1):
            for name, value in data[index].items():
                expect_close(data[index][name], value, f"{name} of example {index}, read twice", 0.0)
        try:
            data[len(data)]
        except (IndexError, DataError):
            return
        raise AssertionError(f"data[{len(data)}] is past the end and raised no error")

    def test_batches_equal_their_examples(self) -> None:
        """``batch(indices)`` contains the examples in that order, padded with a mask where lengths vary."""
        data = self.examples()
        indices = [len(data) - 1, 0]
        batch = data.batch(indices)
        for row, index in enumerate(indices):
            example = data[index]
            for name, field in data.signature.items():
                batched, value = batch[name][row], example[name]
                where = f"{name} of example {index}"
                if None in field.shape:
                    expect(f"{name}_mask" in batch, f"lengths vary, so a batch needs {name}_mask")
                    # An example may be padded itself, and then has a mask.
                    real = example.get(f"{name}_mask", torch.ones(len(value), dtype=torch.bool))
                    padding = real.new_zeros(len(batched) - len(real))
                    mask = batch[f"{name}_mask"][row]
                    expect_close(mask, torch.cat([real, padding]), f"the mask of {where} in a batch")
                    batched = batched[: len(value)]
                expect_close(batched, value, f"{where} in a batch", 0.0)

    def opens(self) -> str:
        """Return the ``opens`` of the part's Spec; empty for a data set that is not registered."""
        return "" if self.part is None else default_registry().find(self.kind, self.part).spec.opens

    def test_a_folder_is_opened_by_root_alone(self) -> None:
        """A data set whose Spec says ``opens`` needs no argument besides ``root``."""
        if not self.opens():
            return
        data = self.fresh()
        parameters = inspect.signature(type(data).__init__).parameters
        needed = [
            name
            for name, parameter in list(parameters.items())[1:]
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        expect(needed == ["root"], f"its Spec says opens={self.opens()!r}, and it needs {', '.join(needed)}")

    def forms(self) -> tuple[str, ...]:
        """Return the ``forms`` of the part's Spec; empty for a data set that is not registered."""
        return () if self.part is None else default_registry().find(self.kind, self.part).spec.forms

    def test_raw_values_are_read_as_the_examples(self) -> None:
        """A data set whose Spec says ``forms`` reads the files and texts of its examples (``raw``) by ``read_raw``."""
        if not self.forms():
            return
        data = self.fresh()
        fields = {
            name: field
            for name, field in data.signature.items()
            if field.form is not None and field.form.partition("(")[0] in self.forms()
        }
        expect(
            bool(fields), f"its Spec says forms={self.forms()}, and no field of its signature has such a form"
        )
        name, field = next(iter(fields.items()))
        raws = {index: data.raw(index) for index in range(min(len(data), MAX_RAW))}
        compared = [index for index, raw in raws.items() if raw is not None]
        expect(bool(compared), "raw(index) is None for all of its first examples: nothing can be read again")
        for index in (compared[0], compared[-1]):
            read, value = type(data).read_raw(raws[index], field), data[index][name]
            expect(
                any(one.shape == value.shape and torch.allclose(one, value, atol=1e-5) for one in read),
                f"read_raw of what example {index} was read from does not give its {name}",
            )
        try:
            type(data).read_raw(Path("no-such-folder") / "nothing", field)
        except DataError:
            return
        raise AssertionError("read_raw of a file that does not exist raised no DataError")

    def test_pieces_of_a_file_are_those_of_the_whole(self) -> None:
        """A data set that defines ``writes_files`` reads a file in pieces (``read_pieces``) as it reads it whole."""
        data = self.fresh()
        reader = type(data)
        if reader.writes_files.__func__ is Dataset.writes_files.__func__:  # type: ignore[attr-defined]
            return
        paths = [raw for raw in map(data.raw, range(min(len(data), MAX_RAW))) if isinstance(raw, Path)]
        fields = [field for field in data.signature.values() if field.form is not None]
        expect(
            bool(paths and fields),
            "no example tells its file (raw), or no field has a form: nothing can be read",
        )
        (whole,) = reader.read_pieces(paths[0], fields[0], None, 0)
        pieces, start = list(reader.read_pieces(paths[0], fields[0], 5, 2)), 0
        for number, piece in enumerate(pieces):
            first = start - piece.before
            expected = whole.values[first : first + len(piece.values)]
            same = piece.values.shape == expected.shape and torch.allclose(piece.values, expected, atol=1e-5)
            expect(same, f"piece {number} of a file has other values than the whole file")
            expect(piece.before == min(2, start), f"piece {number} has {piece.before} of 2 steps before it")
            start += piece.steps
        expect(start == whole.steps, f"the pieces of a file have {start} steps, and the file {whole.steps}")
        units = sum(piece.units for piece in pieces)
        expect(units == whole.units, f"the pieces of a file have {units} units, and the file {whole.units}")

    def test_split_is_disjoint_and_complete(self) -> None:
        """``split`` depends on its seed only; its parts are disjoint and together contain all examples."""
        whole_set = self.fresh()
        data = _materialize(whole_set)
        parts, again = (
            [_materialize(part) for part in whole_set.split(seed=3, valid=True)] for _ in range(2)
        )
        expect(len(parts) == 3, f"split(valid=True) gave {len(parts)} parts, not train, valid and test")
        sizes = [len(part) for part in parts]
        whole = len(data)
        cut = (
            isinstance(whole_set, Stream) and max(whole, *sizes) == MAX_EXAMPLES
        )  # only the first examples were taken
        expect(
            cut or sum(sizes) == whole,
            f"parts of {sizes} from {whole} examples: some are missing or duplicated",
        )
        for one, two in zip(parts, again, strict=True):
            expect(one.signature == parts[0].signature, "a part has another signature than the training part")
            # Tables fit their columns to the training part.
            expect(_unfitted(one) == _unfitted(data), "a part has another signature")
            expect(_fingerprints(one, 20) == _fingerprints(two, 20), "the same seed gave another split")
        fitted = any(field.columns for field in data.signature.values())  # then a part rescales the values
        if whole <= MAX_EXAMPLES and not cut and not fitted:
            divided = Counter(key for part in parts for key in _fingerprints(part, MAX_EXAMPLES))
            expect(
                Counter(_fingerprints(data, MAX_EXAMPLES)) == divided,
                "the parts together do not contain the examples of the whole",
            )

    def test_identities_tell_what_examples_are(self) -> None:
        """``identities`` is None, or one text an example, equal when the data set is made again, and in one part of a split."""
        data = self.fresh()
        names = data.identities()
        if names is None:
            return
        expect(len(names) == len(data), f"{len(names)} identities for {len(data)} examples")
        expect(all(isinstance(name, str) for name in names), "an identity is not a text")
        expect(list(names) == list(self.fresh().identities()), "made again, it has other identities")
        parts = [set(part.identities()) for part in data.split(seed=3, valid=True)]
        expect(sum(map(len, parts)) == len(set(names)), "examples of equal identity are in several parts")


def _unfitted(data: Any) -> dict[str, Field]:
    """Return the fields of a data set without the means, deviations and counts of columns."""
    return {name: replace(field, columns=()) for name, field in data.signature.items()}


def _materialize(data: Any) -> Any:
    return data.take(MAX_EXAMPLES) if isinstance(data, Stream) else data


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
    expect(torch.isfinite(value).all(), f"{where} has values that are not finite")
    low, high = float(value.min()), float(value.max())
    if field.discrete and field.vocab is not None:
        expect(
            low >= 0 and high < field.vocab,
            f"{where} has ids from {low:g} to {high:g}, and the vocab is {field.vocab}",
        )
    if field.range is not None:
        expect(
            field.range[0] <= low and high <= field.range[1],
            f"{where} has values from {low} to {high}, outside of the range {field.range}",
        )


def _fingerprints(data: Any, most: int) -> list[bytes]:
    """Return the content of the examples as comparable bytes."""
    return [
        b"".join(name.encode() + value.numpy().tobytes() for name, value in sorted(data[index].items()))
        for index in range(min(len(data), most))
    ]
