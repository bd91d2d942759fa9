"""SimVQ against vector-quantize-pytorch; its codebook, masks and arguments."""

import math

import pytest
import torch
from vector_quantize_pytorch import SimVQ as PublicSimVQ

from reprkit.errors import PartArgumentError
from reprkit.latents.sim_vq import SimVQ
from reprkit.types import Features


def test_a_training_step_equals_the_public_library():
    torch.manual_seed(0)
    ours = SimVQ(9, 4)
    theirs = PublicSimVQ(4, 9, codebook_transform=torch.nn.Linear(4, 4), rotation_trick=False)
    theirs.frozen_codebook.copy_(ours.base)
    theirs.code_transform.load_state_dict(ours.transform.state_dict())
    x = torch.randn(5, 3, 4).requires_grad_()
    again = x.detach().clone().requires_grad_()
    probe = torch.randn(5, 3, 4)
    code, (z, indices, loss) = ours(Features(x=x)), theirs(again)
    assert torch.equal(code.indices[..., 0], indices)
    torch.testing.assert_close(code.z, z)
    total = sum(ours.weights[name] * value for name, value in code.losses.items())
    torch.testing.assert_close(total, 3 * 4 * loss)  # the library averages over tokens and dimensions
    ((code.z * probe).sum() + total).backward()
    ((z * probe).sum() + 3 * 4 * loss).backward()
    torch.testing.assert_close(x.grad, again.grad)
    for name, value in theirs.code_transform.named_parameters():
        torch.testing.assert_close(ours.transform.get_parameter(name).grad, value.grad)
    assert torch.equal(ours.eval().embed(code.indices), code.z)


def test_a_step_moves_codes_that_nothing_was_assigned_to():
    torch.manual_seed(0)
    latent = SimVQ(32, 4)
    before = latent.table().detach().clone()
    code = latent(Features(x=torch.randn(2, 1, 4)))
    code.losses["codebook"].backward()
    latent.transform.weight.data.sub_(0.1 * latent.transform.weight.grad)
    moved = (latent.table() - before).abs().sum(-1) > 0
    assert moved.all()
    assert len(code.indices.unique()) < 32
    assert latent.base.grad is None


def test_padding_has_no_effect():
    torch.manual_seed(0)
    x, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    latent, results = SimVQ(8, 4), []
    for fill in (0.0, 5.0, math.nan):
        given = x.masked_fill(~mask[..., None], fill).requires_grad_()
        latent.zero_grad()
        code = latent(Features(x=given, mask=mask))
        sum(code.losses.values()).backward()
        results.append([code.bits, *code.losses.values(), given.grad, latent.transform.weight.grad.clone()])
        torch.testing.assert_close(code.losses["commit"], (code.z - x)[mask].square().sum() / 2)
    assert results[0][0].tolist() == [6.0, 3.0]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_arguments_are_checked():
    for wrong in ({"codes": 1}, {"dim": 0}):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            SimVQ(**wrong)
    with pytest.raises(PartArgumentError, match="indices"):
        SimVQ(3, 2).embed(torch.full((1, 1, 1), 3))
