"""erase_label: LEACE's map against its published formula, and a model whose factor loses a label."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

import reprkit as rk
from reprkit.errors import BuildError, DataError
from reprkit.models.erase_label import erase_label, erasing_map


def labeled(count=600, dim=6, classes=3):
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(classes).repeat(count // classes)
    mixing = torch.randn(dim, dim, generator=draw)
    x = torch.randn(count, dim, generator=draw) @ mixing
    x[:, 0] += 0.3 * label
    x[:, 1] -= 5.0 * (label == 1)
    return x, label


def test_the_map_is_the_published_one_and_changes_least():
    """Against P = W+ Q W with W the inverse root of the covariance and Q orthogonal to the whitened class means (theorem 4.3)."""
    x, label = labeled()
    x = x.double()
    mean, keep = erasing_map(x, label)
    erased = mean + (x - mean) @ keep.T
    means = torch.stack([erased[label == each].mean(0) for each in range(3)])
    torch.testing.assert_close(means, mean.expand(3, -1))
    centered = x - mean
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(x))
    white = vectors @ torch.diag(values**-0.5) @ vectors.T
    one_hot = torch.nn.functional.one_hot(label).double()
    cross = white @ (centered.T @ (one_hot - one_hot.mean(0)) / len(x))
    basis = torch.linalg.svd(cross)[0][:, :2]
    expected = torch.eye(6).double() - torch.linalg.inv(white) @ basis @ basis.T @ white
    torch.testing.assert_close(keep, expected, atol=1e-8, rtol=0)


def test_a_model_loses_the_label_and_keeps_the_rest():
    x, label = labeled(classes=2)
    data = rk.dataset({"x": x, "label": label})
    model = rk.build(data=data, encoder="flat", latent="continuous(dim=5)", objective="classify")
    before = model.represent(data.batch(range(len(data))))
    erase_label(model, data, label="label")
    after = model.represent(data.batch(range(len(data))))
    scores = [
        LogisticRegression(C=1e4, max_iter=5000).fit(each, label).score(each, label)
        for each in (before.detach().numpy(), after.detach().numpy())
    ]
    assert scores[0] > 0.75
    assert scores[1] < 0.56
    assert torch.linalg.matrix_rank(after - after.mean(0), rtol=1e-4) == 4  # of five


def test_what_is_refused():
    x, label = labeled()
    data = rk.dataset({"x": x, "label": label})
    model = rk.build(data=data, encoder="flat", latent="continuous(dim=5)", objective="classify")
    with pytest.raises(BuildError, match="factor"):
        erase_label(model, data, label="label", factor="style")
    with pytest.raises(BuildError, match="lable"):
        erase_label(model, data, label="lable")
    with pytest.raises(DataError, match="two classes"):
        erasing_map(x, torch.zeros(len(x)))
