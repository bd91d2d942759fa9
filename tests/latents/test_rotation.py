"""Option "rotation" of the codebook latents: value and gradient of the rotation trick, against explicit matrices."""

import pytest
import torch

import reprkit as rk
from reprkit.kernels.straight_through import rotate_to
from reprkit.types import Features


def explicit(x, code):
    """λ R of one vector (Fifty et al. 2024, section 4.2), as a matrix."""
    start, end = x / x.norm(), code / code.norm()
    middle = (start + end) / (start + end).norm()
    rotation = (
        torch.eye(len(x), dtype=x.dtype) - 2 * torch.outer(middle, middle) + 2 * torch.outer(end, start)
    )
    return code.norm() / x.norm() * rotation


def test_value_and_gradient_are_those_of_the_rotation():
    generator = torch.Generator().manual_seed(0)
    x, codes, weight = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    z = rotate_to(x, codes)
    assert torch.equal(z, codes)
    (gradient,) = torch.autograd.grad((z * weight).sum(), x)
    for row in range(7):
        matrix = explicit(x[row].detach(), codes[row])
        torch.testing.assert_close(matrix @ x[row].detach(), codes[row])
        torch.testing.assert_close(gradient[row], matrix.T @ weight[row])


def test_it_is_finite_at_zero_and_at_opposite_vectors():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    codes = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    z = rotate_to(x, codes)
    assert torch.equal(z, codes)
    (gradient,) = torch.autograd.grad(z.sum(), x)
    assert gradient.isfinite().all()
    torch.testing.assert_close(
        gradient[1].abs().sum(), torch.tensor(4.0)
    )  # scaled by 2, in the plane of both


LATENTS = ["vq(codes=5, dim=3, codebooks=2", "sim-vq(codes=5, dim=6"]


@pytest.mark.parametrize("reference", LATENTS)
def test_only_the_gradient_of_the_features_differs(reference):
    found = []
    for option in ("", ", rotation=True"):
        torch.manual_seed(0)
        latent = rk.create("latent", f"{reference}{option})")
        x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
        code = latent(Features(x=x))
        (gradient,) = torch.autograd.grad((code.z * torch.arange(6.0)).sum(), x)
        found.append((code, gradient))
    (plain, unchanged), (rotated, turned) = found
    torch.testing.assert_close(rotated.z, plain.z, rtol=0, atol=0)
    assert torch.equal(rotated.indices, plain.indices)
    for name, loss in plain.losses.items():
        torch.testing.assert_close(rotated.losses[name], loss, rtol=0, atol=0)
    torch.testing.assert_close(unchanged, torch.arange(6.0).expand(4, 3, 6))
    slices = 2 if "codebooks=2" in reference else 1
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1)).view(12 * slices, -1)
    z = plain.z.detach().reshape(12 * slices, -1)
    weight = torch.arange(6.0).expand(12, 6).reshape(12 * slices, -1)
    expected = torch.stack([explicit(a, b).T @ w for a, b, w in zip(x, z, weight, strict=True)])
    torch.testing.assert_close(turned.reshape(12 * slices, -1), expected, rtol=1e-4, atol=1e-4)
