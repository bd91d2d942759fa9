"""LFQ against vector-quantize-pytorch and a table of all codes; groups of bits, masks, rate and arguments."""

import math

import pytest
import torch
from vector_quantize_pytorch import LFQ as PublicLFQ

from reprkit.errors import PartArgumentError
from reprkit.latents.lfq import LFQ
from reprkit.types import Features


def entropy(shares):
    return torch.special.entr(shares).sum(-1)


def plain_loss(x, bits, temperature, diversity):
    """The entropy loss of one codebook by a softmax over all codes, nats a token."""
    codes = LFQ(bits).embed(torch.arange(2**bits).view(1, -1, 1))[0]
    p = (2 * x @ codes.T.to(x.dtype) / temperature).softmax(-1)
    return entropy(p).mean() - diversity * entropy(p.mean(0))


def test_a_training_step_equals_the_public_library():
    torch.manual_seed(0)
    bits, temperature, tokens = 5, 0.5, 6
    ours = LFQ(bits, temperature=temperature, commit=0.25)
    theirs = PublicLFQ(dim=bits, codebook_size=2**bits, commitment_loss_weight=1.0, entropy_loss_weight=0.1)
    x = torch.randn(20, tokens, bits).requires_grad_()
    again = x.detach().clone().requires_grad_()
    code = ours(Features(x=x))
    (z, indices, _), parts = theirs(again, inv_temperature=1 / temperature, return_loss_breakdown=True)
    assert torch.equal(code.indices[..., 0], indices.long())
    torch.testing.assert_close(code.z, z)
    # The library averages where reprkit sums over tokens and dimensions, and cuts probabilities off at 1e-5.
    expected = tokens * (parts.per_sample_entropy - parts.batch_entropy)
    torch.testing.assert_close(code.losses["entropy"], expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(code.losses["commit"], parts.commitment * tokens * bits)
    assert torch.equal(ours.embed(code.indices), code.z)


@pytest.mark.parametrize(("codebooks", "diversity"), [(1, 1.0), (2, 0.3)])
def test_the_entropy_loss_and_its_gradient_are_exact(codebooks, diversity):
    torch.manual_seed(0)
    latent = LFQ(4, codebooks=codebooks, temperature=2.0, diversity=diversity).double()
    x = torch.randn(7, 3, 4 * codebooks, dtype=torch.float64).requires_grad_()
    found = latent(Features(x=x)).losses["entropy"]
    books = x.flatten(0, 1).chunk(codebooks, -1)
    expected = 3 * sum(plain_loss(book, 4, 2.0, diversity).double() for book in books)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_groups_of_bits_bound_the_entropy_of_the_mean():
    torch.manual_seed(0)
    x = torch.randn(50, 1, 6) + torch.randn(50, 1, 1)  # dependent bits
    losses = [float(LFQ(6, group=group)(Features(x=x)).losses["entropy"]) for group in (6, 3, 2)]
    assert losses[0] > losses[1] > losses[2], "sums of entropies are larger, so the loss is smaller"
    independent = 30 * torch.eye(2).repeat(2, 1).mul(2).sub(1).unsqueeze(1)
    both = torch.cat([independent[[0, 0, 1, 1]], independent[[0, 1, 0, 1]]], -1)
    one, two = (LFQ(4, group=group)(Features(x=both)).losses["entropy"] for group in (4, 2))
    torch.testing.assert_close(one, two)


def test_many_bits_need_no_table_of_all_codes():
    latent = LFQ(18, group=9)
    x = torch.randn(16, 8, 18).requires_grad_()
    code = latent(Features(x=x))
    code.losses["entropy"].backward()
    assert latent._joint(latent._groups(x)[0]).shape == (16, 8, 2**9)
    assert torch.isfinite(x.grad).all()
    assert latent.vocab == (2**18,)
    assert code.bits.tolist() == [18.0 * 8] * 16


def test_extreme_features_stay_finite_with_a_gradient():
    x = torch.tensor([1e4, -1e4, 0.5]).expand(4, 2, 3).clone().requires_grad_()
    code = LFQ(3)(Features(x=x))
    code.losses["entropy"].backward()
    assert torch.isfinite(code.losses["entropy"])
    assert torch.isfinite(x.grad).all()
    assert (x.grad[..., 2] != 0).all()


def test_padding_has_no_effect():
    torch.manual_seed(0)
    x, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    results = []
    for fill in (0.0, 5.0, math.nan):
        given = x.masked_fill(~mask[..., None], fill).requires_grad_()
        code = LFQ(4)(Features(x=given, mask=mask))
        sum(code.losses.values()).backward()
        assert (given.grad[~mask] == 0).all()
        results.append([code.bits, *code.losses.values(), *code.metrics.values(), given.grad])
    assert results[0][0].tolist() == [8.0, 4.0]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_arguments_are_checked():
    for wrong in ({"bits": 25}, {"entropy": -1}, {"temperature": 0}, {"group": 17}, {"codebooks": 0}):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            LFQ(**wrong)
    with pytest.raises(PartArgumentError, match="indices"):
        LFQ(3).embed(torch.full((1, 1, 1), 8))
