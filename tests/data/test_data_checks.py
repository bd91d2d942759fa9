import pytest
import torch

from reprkit.data import Digits, Field, Signature, check_batch
from reprkit.errors import DataError

SIGNATURE = Signature(
    {
        "x": Field(kind="image", shape=(4, 6, 3), range=(0.0, 1.0)),
        "sound": Field(kind="sequence", shape=(None, 5)),
        "word": Field(kind="tokens", shape=(None,), vocab=7),
        "label": Field(kind="label", shape=(), vocab=3),
    }
)


def valid_batch():
    batch = SIGNATURE.example(3, length=8)
    batch["word_mask"] = torch.arange(8) < torch.tensor([[8], [1], [4]])
    return batch


def test_valid_batches_pass():
    check_batch(valid_batch(), SIGNATURE)
    check_batch({"x": valid_batch()["x"]}, SIGNATURE)  # labels and other factors may be missing
    check_batch({**valid_batch(), "more": torch.zeros(1)}, SIGNATURE)
    digits = Digits()
    check_batch(digits.batch(range(50)), digits.signature)
    low = {"x": valid_batch()["x"].to(torch.bfloat16)}
    check_batch(low, SIGNATURE)
    check_batch({"x": valid_batch()["x"].double()}, SIGNATURE, dtype=torch.float64)
    nearly = {"x": valid_batch()["x"] + 1.00001}  # rounding
    check_batch(nearly, SIGNATURE)


def with_invalid(name, change):
    batch = valid_batch()
    batch[name] = change(batch[name].clone())
    return batch


def at(place, value):
    def change(x):
        x[place] = value
        return x

    return change


INVALID = {
    "another shape": (
        "x",
        lambda x: x[:, :3],
        r"'x' has shape \(3, 3, 6, 3\).*image \(b h w c\) with h=4 w=6 c=3",
    ),
    "channels first": ("x", lambda x: x.permute(0, 3, 1, 2), r"permute\(0, 2, 3, 1\)"),
    "another size": ("x", lambda x: x[:, :3], r"images\(root=..., size=\(4, 6\)\)"),
    "grey": ("x", lambda x: x[..., :1], r"size=\(4, 6\), gray=False\)"),
    "one example": ("x", lambda x: x[0], r"without the batch axis: use x\[None\]"),
    "frames first": ("sound", lambda x: x.transpose(1, 2), r"transpose\(1, 2\)"),
    "no examples": ("x", lambda x: x[:0], r"'x' is empty: its shape is \(0, 4, 6, 3\)"),
    "fewer examples": ("label", lambda x: x[:2], "'label' has 2 examples and field 'x' has 3"),
    "double": ("x", lambda x: x.double(), r"'x' \(image\) is float64.*use .float\(\)"),
    "whole numbers": ("x", lambda x: x.long(), r"is int64.*use .float\(\)"),
    "real symbols": ("word", lambda x: x.float(), r"is float32; symbols are int64: use .long\(\)"),
    "short symbols": ("word", lambda x: x.int(), r"is int32"),
    "nan": (
        "x",
        at((2, 1, 5, 0), float("nan")),
        r"'x' holds nan at \[2, 1, 5, 0\] of the batch \(example 2\)",
    ),
    "inf": ("sound", at((0, 7, 4), float("-inf")), r"'sound' holds -inf at \[0, 7, 4\]"),
    "pixels": (
        "x",
        at((1, 0, 0, 0), 255.0),
        r"holds 255 at \[1, 0, 0, 0\].*range \(0.0, 1.0\)\n.*divide by 255",
    ),
    "levels": ("x", at((1, 0, 0, 0), 16.0), "divide by the largest possible value"),
    "below": ("x", at((1, 0, 0, 0), -0.5), "rescale the data, or declare its range"),
    "vocab": ("word", at((2, 3), 7), r"holds 7 at \[2, 3\].*0 to 6 \(vocab 7\)\n.*correct vocab"),
    "label": ("label", at(1, 3), r"holds 3 at \[1\].*\n.*number the classes from 0"),
    "mask type": ("word_mask", lambda x: x.float(), "masks are bool"),
    "mask shape": ("word_mask", lambda x: x[:, 1:], r"'word_mask' has shape \(3, 7\)"),
    "blank": ("word_mask", at(1, False), "example 1 of field 'word' has no valid step"),
    "no tensor": ("x", lambda x: x.numpy(), "is a ndarray, not a tensor"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_fields_are_named(case):
    name, change, says = INVALID[case]
    with pytest.raises(DataError, match=says):
        check_batch(with_invalid(name, change), SIGNATURE)


def test_padding_may_leave_the_range_but_must_be_finite_and_a_symbol():
    sound = Signature({"x": Field(kind="sequence", shape=(None, 5), range=(1.0, 2.0))})
    batch = {"x": torch.ones(3, 8, 5), "x_mask": torch.arange(8).expand(3, 8) < 4}
    batch["x"][1, 5] = 0.0
    check_batch(batch, sound)
    with pytest.raises(DataError, match="holds 0 at"):
        check_batch({"x": batch["x"]}, sound)
    batch["x"][1, 5] = float("nan")
    with pytest.raises(DataError, match="nan"):
        check_batch(batch, sound)
    with pytest.raises(DataError, match=r"-100 at \[1, 5\].*\n.*padding must be a valid symbol too"):
        check_batch(with_invalid("word", at((1, 5), -100)), SIGNATURE)


def test_binary_fields_hold_only_zero_and_one():
    ink = Signature({"x": Field(kind="vector", shape=(3,), range=(0.0, 1.0), vocab=2)})
    check_batch({"x": torch.tensor([[0.0, 1.0, 1.0]])}, ink)
    with pytest.raises(DataError, match=r"0.5 at \[0, 1\].*only 0 and 1"):
        check_batch({"x": torch.tensor([[0.0, 0.5, 1.0]])}, ink)
    with pytest.raises(DataError, match="divide by 255 and round"):
        check_batch({"x": torch.tensor([[0.0, 255.0, 1.0]])}, ink)


def test_corrupted_batches_are_checked_for_shape_and_type_only():
    corrupted = with_invalid("word", at((2, 3), 7))
    check_batch(corrupted, SIGNATURE, values=False)
    with pytest.raises(DataError, match="shape"):
        check_batch(with_invalid("x", lambda x: x[:, :3]), SIGNATURE, values=False)


def test_batch_of_other_fields_raises():
    with pytest.raises(
        DataError, match="none of the signature's fields\n  the batch has image; the signature has x, sound"
    ):
        check_batch({"image": torch.zeros(2)}, SIGNATURE)
