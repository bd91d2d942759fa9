import json

import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import DataError


def test_json_round_trip():
    signature = Signature(
        {
            "x": Field(kind="sequence", shape=(None, 40), range=(-1.0, 1.0)),
            "word": Field(kind="tokens", shape=(None,), vocab=30),
            "drawing": Field(kind="image", shape=(8, 6, 3), vocab=2),
            "label": Field(kind="label", shape=(), vocab=10),
        }
    )
    again = Signature.from_json(json.loads(json.dumps(signature.to_json())))
    assert again == signature
    assert list(again) == list(signature)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "picture", "shape": (8, 8, 1)}, "known: image"),
        ({"kind": "images", "shape": (8, 8, 1)}, "Did you mean 'image'"),
        ({"kind": "image", "shape": (8, 8)}, r"\(h w c\)"),
        ({"kind": "image", "shape": (8, 0, 1)}, "sizes from 1"),
        ({"kind": "image", "shape": (None, 8, 1)}, "a varying t"),
        ({"kind": "sequence", "shape": (4, None)}, "a varying t"),
        ({"kind": "vector", "shape": (4,), "range": (1.0, 1.0)}, "lowest, highest"),
        ({"kind": "vector", "shape": (4,), "vocab": 5}, "must be 2"),
        ({"kind": "tokens", "shape": (4,)}, "need vocab="),
        ({"kind": "label", "shape": (), "vocab": 0}, "at least 1"),
    ],
)
def test_invalid_fields_raise(wrong, says):
    with pytest.raises(DataError, match=says):
        Field(**wrong)


def test_axes_and_examples():
    field = Field(kind="sequence", shape=(None, 3))
    assert field.axes == "t=any c=3"
    example = Signature({"x": field, "label": Field(kind="label", shape=())}).example(2, 5)
    assert {name: tuple(value.shape) for name, value in example.items()} == {
        "x": (2, 5, 3),
        "x_mask": (2, 5),
        "label": (2,),
    }


@pytest.mark.parametrize(("values", "kind"), [([[2**40, 0]], "tokens"), ([2**40, 0], "label")])
def test_an_id_is_no_symbol(values, kind):
    with pytest.raises(DataError, match=f"a vocabulary of {kind} data has at most|symbols or numbers"):
        rk.dataset({"x": torch.zeros(len(values), 2), "y": torch.tensor(values)})
    Field(kind=kind, shape=(None,) if kind == "tokens" else (), vocab=2**20)
