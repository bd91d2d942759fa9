"""VQ: comparison with a plain implementation of the paper, masks, types and invalid arguments."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_vq import make_vq

from reprkit.errors import PartArgumentError
from reprkit.latents.vq import VQ
from reprkit.types import Features


def reference(x, tables, cosine=False):
    """Equation 3 of van den Oord et al. 2017 in plain autograd, slice by slice."""
    parts, indices, commit, codebook = [], [], 0.0, 0.0
    for z_e, e in zip(x.chunk(len(tables), -1), tables, strict=True):
        if cosine:
            z_e, e = F.normalize(z_e, dim=-1), F.normalize(e, dim=-1)
        index = torch.cdist(z_e.flatten(0, 1), e).argmin(1).view(x.shape[:2])
        z_q = e[index]
        parts.append(z_e + (z_q - z_e).detach())
        indices.append(index)
        commit = commit + (z_e - z_q.detach()).square().sum((1, 2)).mean()
        codebook = codebook + (z_e.detach() - z_q).square().sum((1, 2)).mean()
    return torch.cat(parts, -1), torch.stack(indices, -1), commit, codebook


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(("codebooks", "dim", "b", "n"), [(1, 7, 4, 5), (3, 2, 3, 1), (2, 1, 1, 1)])
def test_a_step_matches_the_paper(codebooks, dim, b, n, cosine, update):
    latent = make_vq(6, dim, codebooks=codebooks, cosine=cosine, update=update)
    x = torch.randn(b, n, codebooks * dim, requires_grad=True)
    probe = torch.randn(b, n, codebooks * dim)
    code = latent(Features(x=x))
    losses = {"commit": 0.25, "codebook": 1.0}
    assert latent.weights == {name: losses[name] for name in code.losses}
    total = (code.z * probe).sum() + sum(losses[name] * value for name, value in code.losses.items())
    total.backward()

    tables = latent.codebook.table.detach().clone().requires_grad_()
    again = x.detach().clone().requires_grad_()
    z, indices, commit, codebook = reference(again, tables, cosine)
    learned = update == "gradient"
    ((z * probe).sum() + 0.25 * commit + (codebook if learned else 0.0)).backward()
    assert torch.equal(code.indices, indices)
    torch.testing.assert_close(code.z, z)
    torch.testing.assert_close(code.losses["commit"], commit)
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-5, atol=1e-6)
    if learned:
        torch.testing.assert_close(code.losses["codebook"], codebook)
        torch.testing.assert_close(latent.codebook.table.grad, tables.grad, rtol=1e-5, atol=1e-6)
    assert torch.equal(latent.embed(code.indices), code.z)
    torch.testing.assert_close(code.bits, torch.full((b,), n * codebooks * math.log2(6)))


def test_widths_vocab_and_perplexity():
    latent = make_vq(4, 3, codebooks=2).eval()
    assert (latent.in_dim, latent.out_dim, latent.vocab) == (6, 6, (4, 4))
    tables = latent.codebook.table
    x = torch.cat([tables[0, [0, 0, 1, 1]], tables[1, [0, 1, 2, 3]]], -1).unsqueeze(0)
    code = latent(Features(x=x))
    assert code.indices[0].tolist() == [[0, 0], [0, 1], [1, 2], [1, 3]]
    assert float(code.metrics["perplexity"]) == pytest.approx((2 + 4) / 2)
    assert float(code.losses["commit"]) < 1e-6


def test_cosine_codes_ignore_length():
    latent = make_vq(8, 5, cosine=True).eval()
    x = torch.randn(3, 4, 5)
    one, two = latent(Features(x=x)), latent(Features(x=x * 17))
    assert torch.equal(one.indices, two.indices)
    torch.testing.assert_close(one.z.norm(dim=-1), torch.ones(3, 4))
    latent.train()
    for _ in range(3):
        latent(Features(x=torch.randn(3, 40, 5)))
        latent.update()
    torch.testing.assert_close(latent.codebook.table.norm(dim=-1), torch.ones(1, 8))


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("filler", [7.0, float("nan"), float("inf")])
def test_padding_has_no_effect(update, filler):
    x = torch.randn(3, 6, 4)
    mask = torch.arange(6)[None] < torch.tensor([[6], [3], [1]])
    results = []
    for fill in (0.0, filler):
        latent = make_vq(5, 2, codebooks=2, kmeans=True, revive=0.5, update=update)
        given = torch.where(mask.unsqueeze(-1), x, torch.tensor(fill)).requires_grad_()
        for _ in range(3):
            code = latent(Features(x=given, mask=mask))
            given.grad = None
            (code.z.masked_fill(~mask.unsqueeze(-1), 0).sum() + sum(code.losses.values())).backward()
            latent.update()
        assert given.grad[~mask].abs().sum() == 0
        results.append((latent, code, given.grad))
    (one, a, grad), (two, b, again) = results
    assert torch.equal(a.z[mask], b.z[mask])
    assert torch.equal(a.losses["commit"], b.losses["commit"])
    assert torch.equal(grad, again)
    assert torch.equal(a.metrics["perplexity"], b.metrics["perplexity"])
    assert a.bits.tolist() == pytest.approx([6 * 2 * math.log2(5), 3 * 2 * math.log2(5), 2 * math.log2(5)])
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    # And what counts is the valid tokens, in the losses as in the statistics.
    for loss in a.losses.values():
        torch.testing.assert_close(loss, (a.z - x)[mask].square().sum() / 3)
    alone = make_vq(5, 2, codebooks=2)
    alone(Features(x=x, mask=mask))
    assert alone.codebook._counts.sum(-1).tolist() == [10, 10]


def test_losses_sum_tokens_and_average_examples():
    latent = make_vq(5, 3).eval()
    x = torch.randn(2, 4, 3)
    both = latent(Features(x=x)).losses["commit"]
    each = [latent(Features(x=x[i : i + 1])).losses["commit"] for i in range(2)]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    halves = [latent(Features(x=x[:, rows])).losses["commit"] for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(both, halves[0] + halves[1])


def test_bf16_features_give_a_bf16_code_from_float32_statistics():
    latent = make_vq(6, 4)
    x = torch.randn(3, 5, 4, dtype=torch.bfloat16, requires_grad=True)
    code = latent(Features(x=x))
    (code.z.float().sum() + code.losses["commit"]).backward()
    latent.update()
    assert code.z.dtype == torch.bfloat16
    assert x.grad.dtype == torch.bfloat16
    assert code.losses["commit"].dtype == torch.float32
    assert all(value.dtype in (torch.float32, torch.bool) for value in latent.state_dict().values())
    assert torch.equal(code.indices, make_vq(6, 4)(Features(x=x.detach().float())).indices)


def test_double_precision_stays_double():
    latent = make_vq(6, 4, kmeans=True, revive=0.5).double()
    code = latent(Features(x=torch.randn(3, 5, 4)))
    latent.update()
    assert code.losses["commit"].dtype == torch.float64
    assert latent.codebook.table.dtype == torch.float64


def test_invalid_arguments_are_refused():
    for wrong in (
        {"codebooks": 0},
        {"update": "sgd"},
        {"decay": 1.5},
        {"revive": 2},
        {"codes": 1},
        {"codes": 10**9},
        {"codes": 1e3},
        {"codes": "x"},
        {"dim": 0},
        {"decay": 1.0},
        {"decay": None},
        {"revive": 1.0},
        {"revive": -0.1},
        {"cosine": "no"},
    ):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            VQ(**wrong)
    latent = make_vq(4, 3, codebooks=2)
    with pytest.raises(PartArgumentError, match="indices"):
        latent.embed(torch.zeros(1, 2, 1, dtype=torch.int64))
    with pytest.raises(PartArgumentError, match="indices"):
        latent.embed(torch.full((1, 2, 2), 4))
    with pytest.raises(PartArgumentError, match="prior"):
        latent.prior((1, 1))
