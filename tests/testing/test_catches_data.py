"""For each check of a corruption and a data set, a wrong one that fails this check only."""

from pathlib import Path

import numpy as np
import pytest
import torch
from catching import titles

from reprkit.data import Field, Signature, Tensors
from reprkit.data.base import Piece
from reprkit.interfaces import Corruption
from reprkit.registry.constraints import Count
from reprkit.testing import CorruptionConformance, DatasetConformance
from reprkit.testing.kit import failed_checks
from reprkit.testing.sample_data import SEQUENCES
from reprkit.utils.collectives import global_draw

pytestmark = pytest.mark.ranks


class Good(Corruption):
    """Halves of a sequence's valid frames are set to zero."""

    def forward(self, batch, generator=None):
        x = batch["x"]
        frames = self.draw(x, generator) < 0.5
        if "x_mask" in batch:
            frames = frames & batch["x_mask"]
        hit = frames.view(*frames.shape, *[1] * (x.ndim - 2)).expand(x.shape)
        return self.finish(batch, torch.where(hit, self.filler(x), x), hit)

    def draw(self, x, generator):
        return global_draw(
            lambda each: torch.rand(each, generator=generator, device=x.device), tuple(x.shape[:2])
        )

    def filler(self, x):
        return torch.zeros_like(x)

    def finish(self, batch, x, hit):
        return {**batch, "x": x}, hit


class DropsFields(Good):
    def finish(self, batch, x, hit):
        return {"x": x}, hit


class ChangesUnhitElements(Good):
    def finish(self, batch, x, hit):
        return {**batch, "x": x + 0.001}, hit


class ChangesNothing(Good):
    def filler(self, x):
        return x


class IgnoresTheGenerator(Good):
    def draw(self, x, generator):
        return super().draw(x, None)


class DrawsPerRank(Good):
    def draw(self, x, generator):
        return torch.rand(x.shape[:2], generator=generator, device=x.device)


class Case(CorruptionConformance):
    wrong = "Good"
    data = SEQUENCES

    def make(self):
        return globals()[self.wrong]()


WRONG = {
    "shapes and types": ("DropsFields", "it returned fields x; the batch has x, x_mask, label"),
    "only hit elements change": ("ChangesUnhitElements", "x outside of hit: differs"),
    "it changes the data": ("ChangesNothing", "it changed nothing in sixteen examples"),
    "draws depend on the generator": ("IgnoresTheGenerator", "two draws under equal generators: differs"),
    "two ranks equal one process": ("DrawsPerRank", "two ranks and one process: x: differs"),
}


def case(name):
    made = Case()
    made.wrong = name
    return made


def test_a_correct_corruption_passes_every_check():
    assert failed_checks(case("Good")) == {}


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_corruption_fails_one_check(check):
    name, reason = WRONG[check]
    found = failed_checks(case(name))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_every_check_has_a_wrong_corruption():
    assert set(WRONG) == titles(CorruptionConformance)


class Squares(Tensors):
    """Twenty images, each of a single gray value."""

    form = None

    def __init__(self):
        field = Field(kind="image", shape=(2, 2, 1), range=self.span(), form=self.form)
        gray = torch.linspace(0, 1, 20).view(20, 1, 1, 1).expand(20, 2, 2, 1)
        super().__init__({"x": gray}, Signature({"x": field}))

    def span(self):
        return (0.0, 1.0)


class NumpyRange(Squares):
    def span(self):
        return (np.float32(0), np.float32(1))


class OutOfRange(Squares):
    def batch(self, indices):
        return {name: 2 * value for name, value in super().batch(indices).items()}


class WrapsAround(Squares):
    def __getitem__(self, index):
        return super().__getitem__(index % len(self))


class SortedBatches(Squares):
    def batch(self, indices):
        return super().batch(sorted(int(index) for index in indices))


class Overlapping(Squares):
    def split(self, seed=0, *, valid=False, test_share=0.2, valid_share=0.1):
        train, _, test = super().split(seed, valid=True)
        return train, test.subset(range(2)), test


class NeedsTwo(Squares):
    def __init__(self, root: str, rate: Count):
        super().__init__()


class Opener(DatasetConformance):
    def opens(self):
        return "audio"


class ReadsOtherwise(Squares):
    form = "squares"

    @classmethod
    def read_raw(cls, value, field):
        return [torch.full(field.shape, 2.0)]

    def raw(self, index):
        return str(index)


class Reader(DatasetConformance):
    def forms(self):
        return ("squares",)


class LosesTheRest(Squares):
    form = "squares"

    def raw(self, index):
        return Path("squares.txt")

    @classmethod
    def writes_files(cls, field, output):
        return True

    @classmethod
    def read_pieces(cls, path, field, steps, margin):
        values, size = torch.arange(12.0)[:, None], steps or 12
        for start in range(0, 12 - size + 1, size):
            first = max(0, start - margin)
            yield Piece(values[first : start + size + margin], start - first, size, size)


class OtherNames(Squares):
    def identities(self):
        return [f"{id(self)}/{index}" for index in range(len(self))]


WRONG_SETS = {
    "a folder is opened by root alone": (NeedsTwo, "its Spec says opens='audio', and it needs root, rate"),
    "signature round trips through json": (NumpyRange, "is not JSON serializable"),
    "examples fit the signature": (OutOfRange, "x of example 10 has values from 1.05263"),
    "examples are reproducible": (WrapsAround, "data[20] is past the end and raised no error"),
    "batches equal their examples": (SortedBatches, "x of example 19 in a batch: differs"),
    "split is disjoint and complete": (
        Overlapping,
        "the parts together do not contain the examples of the whole",
    ),
    "raw values are read as the examples": (ReadsOtherwise, "does not give its x"),
    "pieces of a file are those of the whole": (
        LosesTheRest,
        "the pieces of a file have 10 steps, and the file 12",
    ),
    "identities tell what examples are": (OtherNames, "made again, it has other identities"),
}


def dataset(cls):
    made = {NeedsTwo: Opener, ReadsOtherwise: Reader}.get(cls, DatasetConformance)()
    made.make = (lambda: cls("folder", 8)) if cls is NeedsTwo else cls
    return made


def test_a_correct_data_set_passes_every_check():
    assert failed_checks(dataset(Squares)) == {}


@pytest.mark.parametrize("check", WRONG_SETS)
def test_a_wrong_data_set_fails_one_check(check):
    cls, reason = WRONG_SETS[check]
    found = failed_checks(dataset(cls))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_every_check_has_a_wrong_data_set():
    assert set(WRONG_SETS) == titles(DatasetConformance)
