"""The search for the nearest code, and the gradient through it."""

import subprocess
import sys

import pytest
import torch
from codebooks import distances

from reprkit.kernels import nearest_code as search
from reprkit.kernels.nearest_code import nearest
from reprkit.kernels.straight_through import Commitment

# ---------------------------------------------------------------------- search


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    ("m", "d", "k"),
    [
        (1, 1, 2),
        (3, 5, 3),
        (700, 64, 512),
        (1500, 17, 300),
        (2100, 16, 1000),
        (65, 3, 4097),
        (400, 16, 20_000),
        (513, 33, 257),
    ],
)
def test_nearest_equals_the_full_distance_table(m, d, k, threads, monkeypatch):
    generator = torch.Generator().manual_seed(m)
    x, codes = torch.randn(m, d, generator=generator), torch.randn(k, d, generator=generator)
    table = distances(x, codes)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for intel in (False, True):  # with oneDNN, where the processor has AVX-512, and without
        monkeypatch.setattr(search, "_is_intel", lambda intel=intel: intel)
        found = nearest(x, codes)
        chosen = table.gather(1, found.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(chosen, table.amin(1), rtol=1e-5, atol=1e-5)
        assert (found != table.argmin(1)).float().mean() < 0.01
        # A strided view, as one slice of several codebooks is, reads the same.
        assert torch.equal(nearest(torch.stack([x, x], 1)[:, 1], codes), found)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("k", [4, 300, 1024, 6000])
def test_ties_go_to_the_lowest_index(k, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    codes = torch.randn(k, 16).round()
    x = codes[torch.randint(k, (600,))]
    twice = torch.cat([codes, codes])
    found = nearest(x, twice)
    assert (found < k).all()
    same = torch.cdist(twice[found], twice, compute_mode="donot_use_mm_for_euclid_dist") == 0
    assert torch.equal(same.int().argmax(1), found)


def test_a_shared_offset_costs_no_precision():
    x, codes = torch.randn(500, 8), torch.randn(300, 8)
    far = 1000.0
    moved_x, moved = x + far, codes + far
    table = distances(moved_x, moved)
    chosen = table.gather(1, nearest(moved_x, moved).unsqueeze(1)).squeeze(1)
    assert (chosen - table.amin(1)).max() < 5e-3
    plain = (moved_x @ moved.T - moved.square().sum(1) / 2).argmax(1, keepdim=True)
    assert (table.gather(1, plain).squeeze(1) - table.amin(1)).max() > 0.05  # what centring avoids


def test_non_finite_vectors_get_a_valid_index():
    x = torch.tensor([[float("nan")] * 16, [float("inf")] * 16, [-float("inf")] * 16])
    for k in (5, 300):
        found = nearest(x, torch.randn(k, 16))
        assert ((found >= 0) & (found < k)).all()


@pytest.mark.slow
def test_memory_is_far_below_vectors_times_codes():
    """Peak memory of a fresh process: N x K floats would be 512 MB."""
    program = """
import torch
from pathlib import Path
from reprkit.kernels.nearest_code import nearest
torch.set_num_threads(1)
field = lambda name: int(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(name)).split()[1])
x, codes = torch.randn(16384, 16), torch.randn(8192, 16)
nearest(x[:200], codes)
Path('/proc/self/clear_refs').write_text('5')
before = field('VmRSS')
nearest(x, codes)
print((field('VmHWM') - before) / 1024)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 32


@pytest.mark.gpu
def test_the_search_on_a_gpu():
    x, codes = torch.randn(5000, 64), torch.randn(70_000, 64)
    found = nearest(x.cuda(), codes.cuda()).cpu()
    table = torch.cdist(x.cuda().double(), codes.cuda().double()).cpu().square()
    chosen = table.gather(1, found.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(chosen, table.amin(1), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------- gradients


def commitment(x, z, codes, layers, valid, scale):
    """The loss in plain autograd, and the classical straight-through."""
    gap = (x * layers - codes).square() / layers
    loss = gap[valid].sum() * scale if valid is not None else gap.sum() * scale
    return x + (z - x).detach(), loss


@pytest.mark.parametrize("masked", [False, True])
def test_commitment_gradient_equals_autograd(masked):
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    z = torch.randn(6, 4, dtype=torch.float64)
    valid = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool) if masked else None
    probe = torch.randn(6, 4, dtype=torch.float64)

    def both(value):
        rows = slice(None) if valid is None else valid
        value_of_loss = (value.detach() - z)[rows].square().sum() / 3
        return (
            Commitment.apply(value, z, value_of_loss, z, 1, valid, 1 / 3),
            commitment(value, z, z, 1, valid, 1 / 3),
        )

    mine, plain = both(x)
    assert torch.equal(mine[0], z)  # exactly the code; x + (z - x) is not
    torch.testing.assert_close(mine[1], plain[1])
    grads = [
        torch.autograd.grad((out * probe).sum() + 0.7 * loss, x, create_graph=True)[0]
        for out, loss in (mine, plain)
    ]
    torch.testing.assert_close(*grads)
    seconds = [torch.autograd.grad((grad * probe).sum(), x)[0] for grad in grads]
    torch.testing.assert_close(*seconds)


def test_commitment_has_a_jacobian_by_either_batched_way():
    z = torch.randn(3, 2)

    def code(x):
        return Commitment.apply(x, z, z.new_ones(()), z, 1, None, 1.0)[0]

    x = torch.randn(3, 2, requires_grad=True)
    rows = torch.eye(6).view(6, 3, 2)
    assert torch.equal(torch.func.jacrev(code)(x).reshape(6, 6), torch.eye(6))
    assert torch.equal(torch.autograd.grad(code(x), x, rows, is_grads_batched=True)[0], rows)
