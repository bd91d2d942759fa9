"""The loss of CLIP: its numbers and gradients beside autograd, at scales where exponentials underflow, on parts of a batch."""

import pytest
import torch
import torch.nn.functional as F

from reprkit.errors import PartArgumentError
from reprkit.kernels import infonce as module
from reprkit.kernels.infonce import infonce


def clip_loss(a, b, scale, anchors=slice(None)):
    """The loss of open_clip's ``ClipLoss`` as it is written there: two products, two cross-entropies."""
    labels = torch.arange(len(a))
    per_image = F.cross_entropy(scale * a @ b.T, labels, reduction="none")
    per_text = F.cross_entropy(scale * b @ a.T, labels, reduction="none")
    return (per_image[anchors].mean() + per_text[anchors].mean()) / 2


def pairs(count=37, dim=16, seed=0, noise=0.5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(count, dim, generator=generator, dtype=dtype)
    b = a + noise * torch.randn(count, dim, generator=generator, dtype=dtype)
    return [F.normalize(side, dim=1).requires_grad_() for side in (a, b)]


def compare(a, b, scale, anchors=None, **tolerance):
    ours, theirs = (
        infonce(a, b, scale, anchors=anchors)[0],
        clip_loss(a, b, scale, slice(None) if anchors is None else anchors),
    )
    torch.testing.assert_close(ours, theirs.reshape(()), **tolerance)
    inputs = (a, b, scale)
    for one, other in zip(
        torch.autograd.grad(2.5 * ours, inputs), torch.autograd.grad(2.5 * theirs.sum(), inputs), strict=True
    ):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
@pytest.mark.parametrize("block", [2**18, 37 * 5])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_values_and_gradients(scale, block, shape, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", {"cpu": block})
    compare(
        *pairs(), torch.full(shape, scale, dtype=torch.float64, requires_grad=True), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("noise", [0.1, 4.0])
def test_float32_at_the_largest_scale(noise):
    a, b = pairs(200, 64, noise=noise, dtype=torch.float32)
    compare(a, b, torch.tensor(100.0, requires_grad=True), rtol=1e-4, atol=1e-5)


def test_rows_far_below_the_largest_logit():
    """One pair agrees wholly; the others point apart, so that exp(logit - largest) is zero in float32."""
    a, b = pairs(12, 12, dtype=torch.float32)
    with torch.no_grad():
        a.copy_(torch.eye(12))
        b.copy_(-torch.eye(12))
        b[0] = a[0]
    scale = torch.tensor(100.0, requires_grad=True)
    loss, share = infonce(a, b, scale)
    assert loss.isfinite()
    compare(a, b, scale, rtol=1e-5, atol=1e-5)
    assert float(share) == pytest.approx(1 / 12)  # the others are the least similar of all


@pytest.mark.parametrize("anchors", [slice(0, 10), slice(10, 37), slice(5, 6)])
def test_anchors(anchors):
    compare(
        *pairs(), torch.tensor(9.0, dtype=torch.float64, requires_grad=True), anchors, rtol=1e-10, atol=1e-12
    )


def test_parts_add_up_to_the_whole():
    a, b = pairs()
    scale = torch.tensor(9.0, dtype=torch.float64)
    loss, share = infonce(a, b, scale)
    parts = [
        (infonce(a, b, scale, anchors=part), part.stop - part.start) for part in (slice(0, 9), slice(9, 37))
    ]
    torch.testing.assert_close(sum(each[0] * rows for each, rows in parts) / 37, loss)
    torch.testing.assert_close(sum(each[1] * rows for each, rows in parts) / 37, share)


def test_the_share_that_is_found():
    a, b = (side.detach() for side in pairs(noise=1.0))
    similarity = a @ b.T
    rows = (similarity.argmax(1) == torch.arange(37)).double().mean()
    columns = (similarity.argmax(0) == torch.arange(37)).double().mean()
    _, share = infonce(a, b, torch.tensor(5.0))
    assert 0.2 < share < 0.98
    torch.testing.assert_close(share, (rows + columns) / 2)
    equal = torch.ones(5, 3) / 3**0.5
    assert infonce(equal, equal, torch.tensor(100.0))[1] == 0
    assert infonce(equal, equal, torch.tensor(100.0), anchors=slice(0, 2))[1] == 0


def test_second_derivative():
    a, b = pairs(6, 4)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *inputs: infonce(*inputs)[0], (a, b, scale))


def test_autocast_computes_in_float32():
    a, b = pairs(dtype=torch.float32)
    scale = torch.tensor(20.0)
    expected = infonce(a, b, scale)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = infonce(a, b, scale)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(4, 2), torch.tensor(1.0)), "two sides of equal shape"),
        ((torch.zeros(0, 2), torch.zeros(0, 2), torch.tensor(1.0)), "at least one row"),
        ((torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(2)), "one scale, not"),
    ],
)
def test_unusable_input(arguments, message):
    with pytest.raises(PartArgumentError, match=message):
        infonce(*arguments)


def test_no_anchors():
    with pytest.raises(PartArgumentError, match="selects none of the 3"):
        infonce(torch.zeros(3, 2), torch.zeros(3, 2), torch.tensor(1.0), anchors=slice(3, 4))
