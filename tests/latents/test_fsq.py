"""FSQ against vector-quantize-pytorch, and its codes, masks, rate and arguments."""

import math

import pytest
import torch
from vector_quantize_pytorch import FSQ as PublicFSQ

from reprkit.errors import PartArgumentError
from reprkit.latents.fsq import FSQ
from reprkit.types import Features


@pytest.mark.parametrize(("levels", "codebooks"), [((8, 5, 5), 1), ((7,), 1), ((4, 3, 6), 3)])
def test_codes_indices_and_gradients_equal_the_public_library(levels, codebooks):
    torch.manual_seed(0)
    ours, theirs = FSQ(levels, codebooks=codebooks), PublicFSQ(list(levels), num_codebooks=codebooks)
    x = (3 * torch.randn(20, 6, ours.in_dim)).requires_grad_()
    again = x.detach().clone().requires_grad_()
    code, (z, indices) = ours(Features(x=x)), theirs(again)
    assert torch.equal(code.indices, indices.long().view(20, 6, codebooks))
    torch.testing.assert_close(code.z, z)
    probe = torch.randn_like(z)
    (code.z * probe).sum().backward()
    (z * probe).sum().backward()
    torch.testing.assert_close(x.grad, again.grad)
    assert torch.equal(ours.embed(code.indices), code.z)
    torch.testing.assert_close(ours.embed(code.indices), theirs.indices_to_codes(indices))


def test_every_code_is_reached_and_stands_for_its_index():
    latent = FSQ((4, 3, 2))
    every = torch.arange(24).view(1, 24, 1)
    z = latent.embed(every)
    assert len(z[0].unique(dim=0)) == 24
    assert (z.abs() <= 1).all()
    code = latent(Features(x=20 * torch.randn(1, 5000, 3)))
    assert len(code.indices.unique()) == 24, "the outermost values too"


def test_rate_perplexity_and_padding():
    latent = FSQ((4, 4))
    x = torch.randn(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    results = [
        latent(Features(x=x.masked_fill(~mask[..., None], fill), mask=mask)) for fill in (0.0, math.nan)
    ]
    assert results[0].bits.tolist() == [8.0, 4.0]
    assert torch.equal(results[0].metrics["perplexity"], results[1].metrics["perplexity"])
    assert torch.equal(results[0].z[mask], results[1].z[mask])
    assert results[0].losses == {}


def test_arguments_are_checked():
    for wrong in ((), (8, 1), (2.5,)):
        with pytest.raises(PartArgumentError, match="levels"):
            FSQ(wrong)
    with pytest.raises(PartArgumentError, match=r"more than 2\^24; use codebooks="):
        FSQ((2**13, 2**12))
    with pytest.raises(PartArgumentError, match="indices"):
        FSQ((3, 3)).embed(torch.full((1, 1, 1), 9))
