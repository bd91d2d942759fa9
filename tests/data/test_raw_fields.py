"""Raw values in place of a field of a batch: pictures and texts of several fields, as ``Model.encode`` takes them."""

import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.data.raw_input import as_batch
from reprkit.errors import DataError

BYTES = rk.Field(kind="tokens", shape=(None,), vocab=256, form="lines(units='bytes')")
FIELDS = rk.Signature({"x": rk.Field(kind="image", shape=(4, 4, 3), range=(0.0, 1.0)), "text": BYTES})


def test_pictures_and_texts_by_field():
    white = Image.fromarray(np.full((9, 9, 3), 255, np.uint8))
    batch = as_batch({"x": [white, white], "text": ["ab", "abc"]}, FIELDS)
    torch.testing.assert_close(batch["x"], torch.ones(2, 4, 4, 3))
    assert batch["text"].tolist() == [[97, 98, 0], [97, 98, 99]]
    assert batch["text_mask"].tolist() == [[True, True, False], [True, True, True]]
    assert as_batch({"text": "ab"}, FIELDS)["text"].tolist() == [[97, 98]]


def test_arrays_stay_arrays():
    batch = as_batch(
        {"x": np.full((1, 4, 4, 3), 255, np.uint8), "text": torch.tensor([[97]]), "more": ["a"]}, FIELDS
    )
    torch.testing.assert_close(batch["x"], torch.ones(1, 4, 4, 3))
    assert batch["text"].tolist() == [[97]]
    assert batch["more"] == ["a"]


def test_a_text_is_no_picture():
    with pytest.raises(DataError):
        as_batch({"x": ["no file"]}, FIELDS)
