"""Constraints of arguments: valid values, invalid values, and the error messages."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen, MultipleOf, Predicate

import reprkit as rk
from reprkit.errors import PartArgumentError
from reprkit.interfaces import Corruption, Latent
from reprkit.latents.vq import VQ
from reprkit.registry.constraints import ascending, check_arguments, describe_annotation, odd
from reprkit.registry.create import construct, create

INF = float("inf")


def error_message(hint: Any, value: Any) -> str:
    def function(x): ...

    function.__annotations__ = {"x": hint}
    with pytest.raises(PartArgumentError) as caught:
        check_arguments(function, {"x": value}, "part p")
    return str(caught.value)


def convert(hint: Any, value: Any) -> Any:
    def function(x): ...

    function.__annotations__ = {"x": hint}
    return check_arguments(function, {"x": value}, "part p")["x"]


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, "x", "part p: x='x' must be an integer"),
        (int, True, "part p: x=True must be an integer"),
        (int, 2.0, "part p: x=2.0 must be an integer"),
        (int, 2**70, "must be an integer (integers have 64 bits)"),
        (float, INF, "part p: x=inf must be a number"),
        (float, float("nan"), "part p: x=nan must be a number"),
        (float, True, "part p: x=True must be a number"),
        (float, None, "part p: x=None must be a number"),
        (bool, "no", "part p: x='no' must be True or False"),
        (bool, 1, "part p: x=1 must be True or False"),
        (str, 1, "part p: x=1 must be a string"),
        (int | None, "x", "part p: x='x' must be an integer or None"),
        (Annotated[int, Ge(2)], 1, "part p: x=1 must be an integer of at least 2"),
        (Annotated[int, Ge(1), Le(1000)], 1001, "part p: x=1001 must be an integer from 1 to 1000"),
        (Annotated[int, Ge(2), Le(2**24)], 1, "part p: x=1 must be an integer from 2 to 2**24"),
        (Annotated[float, Gt(0)], 0, "part p: x=0 must be a number above 0"),
        (Annotated[float, Ge(0), Lt(1)], 1.0, "part p: x=1.0 must be a number from 0 to below 1"),
        (Annotated[float, Gt(0), Le(1)], 0, "part p: x=0 must be a number above 0 and up to 1"),
        (Annotated[float, Interval(gt=0, lt=1)], 1, "part p: x=1 must be a number above 0 and below 1"),
        (Annotated[int, MultipleOf(2)], 3, "part p: x=3 must be an integer, a multiple of 2"),
        (Annotated[int, Ge(3), Predicate(odd)], 4, "part p: x=4 must be an integer of at least 3, odd"),
        (
            Literal["mean", "flatten"],
            "flaten",
            "part p: x='flaten' must be 'mean' or 'flatten'. Did you mean 'flatten'?",
        ),
        (Literal["mean", "flatten"] | None, 3, "part p: x=3 must be 'mean', 'flatten' or None"),
        (Literal[8, 16], 8.0, "part p: x=8.0 must be 8 or 16"),
        (
            tuple[Annotated[int, Ge(1)], ...],
            (3, 0),
            "part p: x=(3, 0) must be a tuple, each item an integer of at least 1",
        ),
        (tuple[int, int], (1, 2, 3), "part p: x=(1, 2, 3) must be a tuple (an integer, an integer)"),
        (Annotated[tuple[int, ...], MinLen(1)], (), "must be a tuple, each item an integer, at least 1 long"),
        (Annotated[tuple[int, ...], Len(1, 2)], (1, 2, 3), "at least 1 long, at most 2 long"),
        (
            Annotated[tuple[float, float], Predicate(ascending)],
            (2, 1),
            "must be a tuple (a number, a number), ascending",
        ),
        (Mapping[str, int], {"a": "b"}, "x={'a': 'b'} must be a mapping, each value an integer"),
        (Sequence[str], "abc", "x='abc' must be a list, each item a string"),
        (Sequence[str], ["a", 1], "x=['a', 1] must be a list, each item a string"),
        (str | Corruption, 1, "x=1 must be a string or a Corruption"),
        (str | Path, 1, "x=1 must be a string or a Path"),
        (Callable[[int], int], 3, "x=3 must be a function"),
    ],
)
def test_invalid_values_raise_a_one_line_error(hint, value, message):
    assert error_message(hint, value).endswith(message)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 3),
        (float, 3),
        (float, 0.5),
        (bool, False),
        (int | None, None),
        (Literal["mean"] | Annotated[float, Gt(0)], 2.0),
        (tuple[()], ()),
        (Mapping[str, tuple[float, float] | None], {"x": None}),
        (str | Corruption, torch.nn.Identity()),  # values that are not literals are not checked
        (Callable[[int], int], len),
        (Any, object),
        ("Absent", 3),  # a name that only a type checker can see
        ("str | Absent", 3),
        (Annotated[int, "a comment"], 3),
    ],
)
def test_valid_values_are_unchanged(hint, value):
    assert convert(hint, value) is value or convert(hint, value) == value


@pytest.mark.parametrize("hint", [int, float], ids=str)
def test_integers_too_long_to_print_are_rejected(hint):
    message = error_message(hint, 10**5000)
    assert re.match("part p: x=(a int|<int instance .*>) must be an? (integer|number)", message)


def test_lists_become_tuples_also_when_nested():
    assert convert(tuple[int, ...], [1, 2]) == (1, 2)
    assert convert(Mapping[str, tuple[float, float]], {"x": [0, 1]}) == {"x": (0, 1)}
    assert convert(tuple[tuple[int, int], ...] | None, [[1, 2], [3, 4]]) == ((1, 2), (3, 4))


@pytest.mark.parametrize(
    ("hint", "value", "kind"),
    [(int, np.int64(3), int), (float, np.float32(0.5), float), (float, np.int32(2), int)],
)
def test_numpy_numbers_become_python_numbers(hint, value, kind):
    assert type(convert(hint, value)) is kind
    assert convert(hint, value) == value
    with pytest.raises(PartArgumentError):
        VQ(codes=np.float64(8))


def test_numpy_numbers_in_tuples_become_python_numbers():
    assert [type(each) for each in convert(tuple[int, ...], (np.int64(3), 4))] == [int, int]


def test_describe_annotation_of_a_union():
    assert describe_annotation(int | Literal["all"] | None) == "an integer, 'all' or None"


class Direct(Latent):
    def __init__(
        self, dim: Annotated[int, Ge(2)] = 4, *, vocab_of: Mapping[str, int] | None = None, **more: int
    ):
        super().__init__(in_dim=dim, out_dim=dim)
        self.more = more


class Derived(Direct):
    def __init__(self, width: Annotated[int, Ge(1)] = 4):
        super().__init__(
            dim=width
        )  # dim=1 is invalid for the base class, but only the called constructor checks


def test_every_way_of_creating_a_part_checks_arguments():
    sentence = "codes=1 must be an integer from 2 to"
    with pytest.raises(PartArgumentError, match=rf"^latent VQ: {sentence}"):
        VQ(codes=1)
    with pytest.raises(PartArgumentError, match=rf"^latent VQ: {sentence}"):
        VQ(1)
    with pytest.raises(PartArgumentError, match=rf"^latent vq: {sentence}"):
        create("latent", "vq(codes=1)")
    with pytest.raises(PartArgumentError, match=rf"^latent mine: {sentence}"):
        construct(VQ, {"codes": 1}, {}, "latent mine")
    with pytest.raises(PartArgumentError, match=r"^dataset images: size=0 must be an integer from 1 to"):
        rk.dataset("images(root='.', size=0)")
    with pytest.raises(PartArgumentError, match=r"^dataset Images: size=0 must be an integer from 1 to"):
        rk.data.Images(".", size=0)


def test_partial_functions_are_checked():
    def train(texts: Sequence[str], vocab: Annotated[int, Ge(5)] = 9) -> int:
        return vocab

    assert construct(functools.partial(train, ["a"]), {"vocab": 5}, {}, "tokenizer t") == 5
    with pytest.raises(PartArgumentError, match="^tokenizer t: vocab=4 must be an integer of at least 5"):
        construct(functools.partial(train, ["a"]), {"vocab": 4}, {}, "tokenizer t")


def test_nested_part_is_named_in_its_own_errors():
    with pytest.raises(PartArgumentError, match=r"^evaluator knn: k=0 must be an integer of at least 1"):
        create("evaluator", "few-labels(measures=('knn(k=0)',))")


def test_called_constructor_defines_the_constraints():
    assert Derived(1).in_dim == 1
    with pytest.raises(PartArgumentError, match=r"latent Derived: width=0 must be an integer of at least 1"):
        Derived(0)
    assert Derived(np.int64(3)).arguments == {"width": 3}
    assert Direct(3, other=2).arguments == {"dim": 3, "other": 2}


def test_failing_constructor_leaves_no_state():
    class Failing(Latent):
        def __init__(self, dim: Annotated[int, Ge(2)] = 4):
            super().__init__(in_dim=dim, out_dim=dim)
            if dim == 3:
                raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        construct(Failing, {"dim": 3}, {}, "latent failing")
    assert not any("constructor" in name for name in vars(Failing(4)))
    with pytest.raises(PartArgumentError, match="^latent VQ: "):
        VQ(codes=1)
