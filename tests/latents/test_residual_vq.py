"""Residual VQ: comparison with a plain implementation of the paper, at every rate, and with plain VQ."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from reprkit.errors import PartArgumentError
from reprkit.latents.residual_vq import ResidualVQ
from reprkit.latents.vq import VQ
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives


def make_latent(*args, seed=0, **options):
    torch.manual_seed(seed)
    return ResidualVQ(*args, **{"kmeans": False, "revive": 0.0, **options})


def reference(x, tables, depth=None):
    """SoundStream's algorithm 1 with EnCodec's loss, in plain autograd; ``depth``: layers that code each example (b)."""
    residual, z, indices, commit = x, torch.zeros_like(x), [], 0.0
    for layer, e in enumerate(tables):
        index = torch.cdist(residual.flatten(0, 1), e).argmin(1).view(x.shape[:2])
        code = e[index].detach()
        used = torch.ones(len(x)) if depth is None else (depth > layer).float()
        commit = commit + ((residual - code).square().sum((1, 2)) * used).mean()
        z = z + code * used.view(-1, 1, 1)
        residual = residual - code
        indices.append(index)
    return x + (z - x).detach(), torch.stack(indices, -1), commit


@pytest.mark.parametrize(("layers", "dim", "b", "n"), [(3, 5, 4, 6), (1, 2, 3, 1), (2, 1, 1, 1)])
def test_a_step_matches_the_paper(layers, dim, b, n):
    latent = make_latent(7, layers, dim)
    latent.codebook.table.mul_(0.6 ** torch.arange(layers).view(-1, 1, 1))
    x = torch.randn(b, n, dim, requires_grad=True)
    probe = torch.randn(b, n, dim)
    code = latent(Features(x=x))
    ((code.z * probe).sum() + 0.25 * code.losses["commit"]).backward()
    again = x.detach().clone().requires_grad_()
    z, indices, commit = reference(again, latent.codebook.table)
    ((z * probe).sum() + 0.25 * commit).backward()
    assert torch.equal(code.indices, indices)
    torch.testing.assert_close(code.z, z)
    torch.testing.assert_close(code.losses["commit"], commit)
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-5, atol=1e-6)
    assert torch.equal(latent.embed(code.indices), code.z)
    torch.testing.assert_close(code.bits, torch.full((b,), n * layers * math.log2(7)))
    assert latent.vocab == (7,) * layers
    assert latent.weights == {"commit": 0.25}


def test_each_layer_averages_its_own_residuals():
    latent = make_latent(6, 3, 4, decay=0.9)
    x = torch.randn(5, 8, 4)
    tables = latent.codebook.table.clone()
    latent(Features(x=x))
    latent.update()
    residual = x.flatten(0, 1)
    for layer in range(3):
        hot = F.one_hot(torch.cdist(residual, tables[layer]).argmin(1), 6).float()
        count = 0.9 * torch.ones(6) + 0.1 * hot.sum(0)
        total = 0.9 * tables[layer] + 0.1 * hot.T @ residual
        smooth = (count + 1e-5) / (count.sum() + 6e-5) * count.sum()
        torch.testing.assert_close(
            latent.codebook.table[layer], total / smooth.unsqueeze(1), rtol=1e-5, atol=1e-6
        )
        residual = residual - hot @ tables[layer]


def test_every_layer_refines():
    torch.manual_seed(0)
    latent = ResidualVQ(16, 4, 6)
    x = torch.randn(16, 32, 6)
    for _ in range(30):
        latent(Features(x=x))
        latent.update()
    latent.eval()
    code = latent(Features(x=x))
    errors = [
        float((latent.embed(code.indices[..., :rate]) - x).square().sum(-1).mean()) for rate in (1, 2, 3, 4)
    ]
    assert all(after < 0.8 * before for before, after in itertools.pairwise(errors))
    assert errors[-1] * 32 < float(code.losses["commit"])
    # Four layers of 16 codes come near 65,536 codes; one layer alone does not.
    single = VQ(16, 6)
    for _ in range(30):
        plain = single(Features(x=x))
        single.update()
    assert errors[-1] < 0.4 * float(plain.losses["commit"]) / 32


@pytest.mark.parametrize("cosine", [False, True])
def test_one_layer_is_plain_vq(cosine):
    options = {"kmeans": True, "revive": 0.3, "decay": 0.8, "cosine": cosine}
    torch.manual_seed(0)
    one = ResidualVQ(9, 1, 4, **options)
    torch.manual_seed(0)
    other = VQ(9, 4, **options)
    for step in range(4):
        x = torch.randn(3, 10, 4)
        grads = []
        for latent in (one, other):
            torch.manual_seed(step)
            given = x.clone().requires_grad_()
            code = latent(Features(x=given))
            (code.z.square().sum() + code.losses["commit"]).backward()
            latent.update()
            grads.append(given.grad)
        torch.testing.assert_close(*grads)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


def test_cosine_layers_refine_a_direction():
    torch.manual_seed(0)
    latent = ResidualVQ(16, 3, 5, cosine=True)
    x = torch.randn(8, 40, 5)
    for _ in range(5):
        latent(Features(x=x))
        latent.update()
    latent.eval()
    code = latent(Features(x=x * 9))
    assert torch.equal(code.indices, latent(Features(x=x)).indices)
    torch.testing.assert_close(latent.embed(code.indices[..., :1]).norm(dim=-1), torch.ones(8, 40))
    assert (code.z - F.normalize(x, dim=-1)).norm(dim=-1).mean() < 0.25


# ---------------------------------------------------------------------- dropout


def test_dropout_codes_each_example_by_its_first_layers():
    latent = make_latent(7, 4, 3, dropout=1.0)
    x = torch.randn(64, 5, 3, requires_grad=True)
    code = latent(Features(x=x))
    depth = (code.bits / (5 * math.log2(7))).round().long()
    assert set(depth.tolist()) == {1, 2, 3, 4}
    probe = torch.randn(64, 5, 3)
    ((code.z * probe).sum() + code.losses["commit"]).backward()
    again = x.detach().clone().requires_grad_()
    z, indices, commit = reference(again, latent.codebook.table, depth)
    ((z * probe).sum() + commit).backward()
    assert torch.equal(code.indices, indices)  # of all layers
    torch.testing.assert_close(code.z, z)
    torch.testing.assert_close(code.losses["commit"], commit)
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-5, atol=1e-6)
    # Layers that were not used are not counted.
    assert latent.codebook._counts.sum(-1).tolist() == [5 * int((depth > layer).sum()) for layer in range(4)]
    latent.eval()
    still = latent(Features(x=x))
    assert torch.equal(still.z, latent.embed(still.indices))
    assert (still.bits == 5 * 4 * math.log2(7)).all()


def test_dropout_applies_to_some_examples():
    latent = make_latent(7, 4, 3, dropout=0.5)
    bits = latent(Features(x=torch.randn(400, 1, 3))).bits
    full = (bits > 3.5 * math.log2(7)).float().mean()
    assert 0.5 < full < 0.75  # half, and a quarter of the other half


# ---------------------------------------------------------------------- masks, state, arguments


@pytest.mark.parametrize("dropout", [0.0, 0.8])
def test_padding_has_no_effect(dropout):
    x = torch.randn(3, 6, 4)
    mask = torch.arange(6)[None] < torch.tensor([[6], [3], [1]])
    results = []
    for filler in (0.0, float("nan")):
        latent = make_latent(5, 3, 4, kmeans=True, revive=0.5, dropout=dropout)
        given = torch.where(mask.unsqueeze(-1), x, torch.tensor(filler)).requires_grad_()
        for _ in range(3):
            code = latent(Features(x=given, mask=mask))
            given.grad = None
            (code.z.masked_fill(~mask.unsqueeze(-1), 0).sum() + code.losses["commit"]).backward()
            latent.update()
        assert torch.isfinite(code.z).all()
        results.append((latent, code, given.grad))
    (one, a, grad), (two, b, again) = results
    assert torch.equal(a.z[mask], b.z[mask])
    assert torch.equal(a.losses["commit"], b.losses["commit"])
    assert torch.equal(a.bits, b.bits)
    assert torch.equal(grad, again)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    # And the loss is that of the valid tokens.
    code = one.eval()(Features(x=x, mask=mask))
    left = [(one.embed(code.indices[..., : layer + 1]) - x)[mask].square().sum() / 3 for layer in range(3)]
    torch.testing.assert_close(code.losses["commit"], sum(left))


def test_every_layer_starts_once_on_its_residual():
    x = torch.randn(8, 40, 4) + 3
    latent = make_latent(16, 3, 4, kmeans=True)
    first = latent(Features(x=x))
    left = x.flatten(0, 1) - latent.codebook.table[0][first.indices[..., 0].flatten()]
    gap = (left - latent.codebook.table[1][first.indices[..., 1].flatten()]).square().sum(-1).mean()
    assert gap < 0.6 * left.square().sum(-1).mean()
    assert bool(latent.codebook.started)
    loaded = make_latent(16, 3, 4, kmeans=True, seed=1)
    loaded.load_state_dict(latent.state_dict())
    before = loaded.codebook.table.clone()
    loaded(Features(x=x - 40))
    assert torch.equal(loaded.codebook.table, before)


def test_invalid_arguments_are_refused():
    for wrong in ({"layers": 0}, {"dropout": 1.5}, {"codes": 1}, {"decay": -1}, {"dim": 0}):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            ResidualVQ(**wrong)
    latent = make_latent(4, 2, 3)
    for wrong in (
        torch.zeros(1, 2, 3, dtype=torch.int64),
        torch.zeros(1, 2, 0, dtype=torch.int64),
        torch.full((1, 2, 2), 9),
    ):
        with pytest.raises(PartArgumentError, match="indices"):
            latent.embed(wrong)


# ---------------------------------------------------------------------- ranks


def train(rank, dropout):
    torch.manual_seed(0)
    latent = ResidualVQ(10, 3, 4, revive=0.4, decay=0.8, dropout=dropout)
    size = collectives.world_size()
    rows = slice(rank * 16 // size, (rank + 1) * 16 // size)
    seen = {}
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 5, 4, generator=generator)[rows].requires_grad_()
        mask = (torch.rand(16, 5, generator=generator) < 0.8)[rows]
        torch.manual_seed(step)
        code = latent(Features(x=x, mask=mask))
        (code.z.square().sum() / len(x) + code.losses["commit"]).backward()
        latent.update()
        seen[f"loss {step}"] = collectives.sum_over_ranks(code.losses["commit"].detach()) / size
        seen[f"gradient {step}"] = collectives.gather(x.grad) / size
        seen[f"perplexity {step}"] = code.metrics["perplexity"]
        seen |= {f"{step} {name}": value.clone() for name, value in latent.state_dict().items()}
    return seen


@pytest.mark.ranks
@pytest.mark.parametrize("dropout", [0.0, 0.6])
def test_two_ranks_train_as_one_process(dropout):
    whole = train(0, dropout)
    for part in together(2, train, dropout):
        for name, value in whole.items():
            torch.testing.assert_close(
                part[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
            )


# ------------------------------------------------------------------ beam search


def coding_errors(beam, x, *, scale=0.7):
    latent = make_latent(6, 4, 5, beam=beam).eval()
    latent.codebook.table.mul_(scale ** torch.arange(4).view(-1, 1, 1))
    code = latent(Features(x=x))
    torch.testing.assert_close(latent.embed(code.indices), code.z, rtol=0, atol=0)
    return (x - code.z).square().sum(-1)


def test_a_beam_is_never_farther_than_the_nearest_codes():
    x = torch.randn(50, 8, 5, generator=torch.Generator().manual_seed(3))
    greedy = coding_errors(1, x)
    for beam in (2, 5, 16):
        found = coding_errors(beam, x)
        assert (found <= greedy + 1e-5).all()
        assert float(found.mean()) < 0.97 * float(greedy.mean())


def test_a_beam_of_all_sums_finds_the_best_one():
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    latent = make_latent(4, 3, 2, beam=64).eval()
    code = latent(Features(x=x))
    first, second, third = latent.codebook.table
    sums = (first[:, None, None] + second[None, :, None] + third[None, None]).view(-1, 2)
    best = torch.cdist(x.flatten(0, 1), sums).amin(1).view(4, 3)
    torch.testing.assert_close((x - code.z).norm(dim=-1), best, rtol=1e-4, atol=1e-5)


def test_the_search_in_chunks_is_the_search_at_once(monkeypatch):
    from reprkit.latents import residual_vq

    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(3))
    tables = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(4))
    whole = residual_vq.search_codes(x, tables, 4)
    monkeypatch.setattr(residual_vq, "CHUNK", 100)
    assert torch.equal(residual_vq.search_codes(x, tables, 4), whole)


def test_a_beam_trains_after_the_start_by_k_means():
    torch.manual_seed(0)
    latent = ResidualVQ(8, 3, 4, beam=4)
    for step in range(3):
        x = torch.randn(16, 4, 4, generator=torch.Generator().manual_seed(step), requires_grad=True)
        code = latent(Features(x=x))
        (code.z.sum() + code.losses["commit"]).backward()
        latent.update()
        assert x.grad.isfinite().all()
