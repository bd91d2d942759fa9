import numpy as np
import torch
from sklearn.datasets import load_digits

from reprkit.data import Digits


def test_values_equal_scikit_learns_digits_and_are_in_range():
    data, reference = Digits(), load_digits()
    batch = data.batch(range(1797))
    assert (len(data), data.name) == (1797, "digits")
    assert batch["x"].shape == (1797, 8, 8, 1)
    assert batch["x"].dtype == torch.float32
    assert batch["label"].dtype == torch.int64
    assert np.array_equal(batch["x"][..., 0].numpy(), reference.images.astype("float32") / 16)
    assert np.array_equal(batch["label"].numpy(), reference.target)
    assert (float(batch["x"].min()), float(batch["x"].max())) == (0.0, 1.0)


def test_signature():
    x, label = Digits().signature["x"], Digits().signature["label"]
    assert (x.kind, x.shape, x.range, x.vocab, x.likelihood) == (
        "image",
        (8, 8, 1),
        (0.0, 1.0),
        None,
        "gaussian",
    )
    assert (label.kind, label.shape, label.vocab) == ("label", (), 10)
