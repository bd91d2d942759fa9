import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from reprkit.errors import PartArgumentError
from reprkit.kernels import ntxent as module
from reprkit.kernels.ntxent import ntxent, ntxent_and_accuracy
from reprkit.testing.pool import together
from reprkit.utils import collectives


def naive(a, b, temperature=0.5, anchors=None):
    """Equation 1 of arXiv 2002.05709, as it is written."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    target = torch.arange(len(z)).roll(len(a))
    losses = F.cross_entropy(logits, target, reduction="none").view(2, len(a))
    return losses[:, anchors or slice(None)].mean()


def four_quarters(a, b, temperature):
    """The same as lightly 1.6.0 lays it out: four products, diagonals left out, labels 0..b-1."""
    a, b, size = F.normalize(a, dim=1), F.normalize(b, dim=1), len(a)
    apart = ~torch.eye(size, dtype=torch.bool)
    aa, bb = ((x @ x.T / temperature)[apart].view(size, -1) for x in (a, b))
    ab = a @ b.T / temperature
    logits = torch.cat([torch.cat([ab, aa], 1), torch.cat([ab.T, bb], 1)])
    return F.cross_entropy(logits, torch.arange(size).repeat(2))


def both_gradients(ours, theirs, *inputs):
    return zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True)


def views(size, dim=16, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(size, dim, generator=generator, dtype=dtype)
    b = a + 0.7 * torch.randn(size, dim, generator=generator, dtype=dtype)
    return a.requires_grad_(), b.requires_grad_()


@pytest.fixture(
    params=[(512, 64 * 2**20), (3, 64 * 2**20), (3, 0), (8, 0)], ids=["whole", "kept", "again", "even"]
)
def blocks(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", {"cpu": request.param[0], "cuda": request.param[0]})
    monkeypatch.setattr(module, "CACHE_BYTES", request.param[1])


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("temperature", [2.0, 0.5, 0.07, 0.02])
def test_value_and_gradient_equal_the_formula(size, temperature, blocks):
    a, b = views(size, dtype=torch.float64)
    ours, theirs = ntxent(a, b, temperature), naive(a, b, temperature)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, other in both_gradients(ours, theirs, a, b):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [32, 700])
@pytest.mark.parametrize("temperature", [0.5, 0.1, 0.03, 0.01])
def test_float32_agrees_with_lightly(size, temperature):
    a, b = views(size, 128)
    ours, theirs = ntxent(a, b, temperature), four_quarters(a, b, temperature)
    assert abs(ours.item() - theirs.item()) < 1e-5
    for mine, other in both_gradients(ours, theirs, a, b):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=2e-7)


def test_gradcheck(blocks):
    a, b = views(5, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: ntxent(a, b, 0.3), (a, b))
    assert torch.autograd.gradcheck(lambda a, b: ntxent(a, b, 0.3, anchors=slice(1, 3)), (a, b))


@pytest.mark.parametrize("anchors", [slice(0, 4), slice(4, 8), slice(3, 11), slice(11, 12)])
def test_anchors_select_terms_of_the_loss(anchors, blocks):
    a, b = views(12, dtype=torch.float64)
    ours, theirs = ntxent(a, b, anchors=anchors), naive(a, b, anchors=anchors)
    torch.testing.assert_close(ours, theirs)
    for mine, other in both_gradients(ours, theirs, a, b):
        torch.testing.assert_close(mine, other)


def test_accuracy_is_the_fraction_of_nearest_positives(blocks):
    a, b = views(40, 4)
    with torch.no_grad():
        b += 1.5 * torch.randn(b.shape, generator=torch.Generator().manual_seed(1))
    loss, accuracy = ntxent_and_accuracy(a, b)
    z = F.normalize(torch.cat([a, b]), dim=1)
    found = ((z @ z.T).fill_diagonal_(-2).argmax(1) == torch.arange(80).roll(40)).view(2, 40).float()
    assert 0.05 < found.mean() < 0.95
    assert float(accuracy) == pytest.approx(float(found.mean()))
    mine = ntxent_and_accuracy(a, b, anchors=slice(8, 24))[1]
    assert float(mine) == pytest.approx(float(found[:, 8:24].mean()))
    torch.testing.assert_close(torch.autograd.grad(loss, a)[0], torch.autograd.grad(naive(a, b), a)[0])


def test_a_collapsed_encoder_scores_nothing():
    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    loss, accuracy = ntxent_and_accuracy(row.repeat(300, 1), row.repeat(300, 1), 0.1)
    assert loss.item() == pytest.approx(math.log(599), abs=1e-4)
    assert float(accuracy) == 0


def test_distant_rows_at_a_low_temperature_stay_finite():
    a = torch.eye(6).repeat_interleave(2, 0)[:6].mul(-1).requires_grad_()
    loss = ntxent(a, -a.detach(), 0.005)  # every positive is the opposite: similarity -1
    loss.backward()
    assert loss.item() == pytest.approx(
        float(naive(a.detach().double(), -a.detach().double(), 0.005)), rel=1e-5
    )
    assert bool(torch.isfinite(a.grad).all())


def test_autocast_and_half_precision_are_computed_in_float32():
    a, b = views(64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        under = ntxent(a, b)
    assert under.dtype == torch.float32
    assert under.item() == pytest.approx(ntxent(a, b).item(), abs=1e-6)
    half = a.detach().bfloat16().requires_grad_()
    ntxent(half, b.detach().bfloat16()).backward()
    assert half.grad.dtype == torch.bfloat16


def test_memory_is_that_of_a_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", {"cpu": 32, "cuda": 32})
    monkeypatch.setattr(module, "CACHE_BYTES", 0)
    largest = 0

    class LargestAllocation(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.untyped_storage().nbytes() // 4)
            return out

    a, b = views(256, 8)
    with LargestAllocation():
        ntxent_and_accuracy(a, b)[0].backward()
    assert largest <= 2 * 256 * 8  # the stacked views; a block is 32 x 32, the matrix would be 512 x 512


def test_no_gradient_is_computed_unless_needed(monkeypatch):
    monkeypatch.setattr(module._Blocks, "gradient", lambda *_: pytest.fail("gradient was computed"))
    a, b = views(4)
    with torch.no_grad():
        ntxent(a, b)


def test_second_derivatives():
    a, b = views(4, 3, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda a, b: ntxent(a, b, 0.3), (a, b))
    assert torch.autograd.gradgradcheck(lambda a, b: ntxent(a, b, 0.3, anchors=slice(1, 3)), (a, b))


@pytest.mark.parametrize(
    ("a", "b", "options", "says"),
    [
        ((4, 3), (5, 3), {}, r"\(4, 3\) and \(5, 3\)"),
        ((0, 3), (0, 3), {}, "at least one row"),
        ((4, 3, 1), (4, 3, 1), {}, "equal shape"),
        ((4, 3), (4, 3), {"temperature": 0.0}, "temperature is 0.0"),
        ((4, 3), (4, 3), {"temperature": math.nan}, "temperature is nan"),
        ((4, 3), (4, 3), {"anchors": slice(4, 8)}, "none of the 4 examples"),
    ],
)
def test_invalid_arguments_raise(a, b, options, says):
    with pytest.raises(PartArgumentError, match=says):
        ntxent(torch.ones(a), torch.ones(b), **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("size", [300, 5000])
def test_the_gpu_gives_the_same(size):
    a, b = views(size, 128)
    expected = torch.autograd.grad(ntxent(a, b, 0.1), (a, b))
    there = [each.detach().cuda().requires_grad_() for each in (a, b)]
    loss, accuracy = ntxent_and_accuracy(*there, 0.1)
    assert loss.item() == pytest.approx(ntxent(a, b, 0.1).item(), abs=1e-5)
    assert accuracy.item() == pytest.approx(ntxent_and_accuracy(a, b, 0.1)[1].item(), abs=2 / size)
    for mine, other in zip(torch.autograd.grad(loss, there), expected, strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-3, atol=1e-7)


def loss_over_ranks(rank, size):
    """Loss and gradients of this rank's share, as the objective computes them."""
    a, b = views(size)
    world = collectives.world_size()
    rows = slice(rank * size // world, (rank + 1) * size // world)
    mine = a.detach()[rows].requires_grad_(), b.detach()[rows].requires_grad_()
    everyone = [collectives.gather_with_gradient(each) for each in mine]
    loss = ntxent(*everyone, 0.2, anchors=rows if world > 1 else None)
    loss.backward()
    return loss.detach(), mine[0].grad, mine[1].grad


@pytest.mark.ranks
def test_two_ranks_equal_one_process():
    (loss, a, b), parts = loss_over_ranks(0, 10), together(2, loss_over_ranks, 10)
    torch.testing.assert_close(sum(part[0] for part in parts) / 2, loss)
    # Each rank's loss is a mean over its own anchors: the joined gradient is half of what a rank holds.
    torch.testing.assert_close(torch.cat([part[1] for part in parts]) / 2, a)
    torch.testing.assert_close(torch.cat([part[2] for part in parts]) / 2, b)
