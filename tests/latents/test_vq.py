"""VQ against a few lines of the paper, masks, start and state, a run on real digits, two ranks under DDP."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import reprkit as rk
from reprkit import distributed
from reprkit.errors import PartArgumentError
from reprkit.latents.vq import VQ
from reprkit.testing.latents import LatentConformance
from reprkit.testing.pool import together
from reprkit.types import Features


class TestVQConforms(LatentConformance):
    part = "vq(codes=8, dim=3)"


class TestGradientVQConforms(LatentConformance):
    part = "vq(codes=5, dim=3, codebooks=2, update='gradient')"


class TestCosineVQConforms(LatentConformance):
    part = "vq(codes=8, dim=3, codebooks=2, cosine=True)"


def made(*args, seed=0, **options):
    torch.manual_seed(seed)
    return VQ(*args, **{"kmeans": False, "revive": 0.0, **options})


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
def test_a_step_is_the_papers(codebooks, dim, b, n, cosine, update):
    latent = made(6, dim, codebooks=codebooks, cosine=cosine, update=update)
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
    latent = made(4, 3, codebooks=2).eval()
    assert (latent.in_dim, latent.out_dim, latent.vocab) == (6, 6, (4, 4))
    tables = latent.codebook.table
    x = torch.cat([tables[0, [0, 0, 1, 1]], tables[1, [0, 1, 2, 3]]], -1).unsqueeze(0)
    code = latent(Features(x=x))
    assert code.indices[0].tolist() == [[0, 0], [0, 1], [1, 2], [1, 3]]
    assert float(code.metrics["perplexity"]) == pytest.approx((2 + 4) / 2)
    assert float(code.losses["commit"]) < 1e-6


def test_cosine_codes_ignore_length():
    latent = made(8, 5, cosine=True).eval()
    x = torch.randn(3, 4, 5)
    one, two = latent(Features(x=x)), latent(Features(x=x * 17))
    assert torch.equal(one.indices, two.indices)
    torch.testing.assert_close(one.z.norm(dim=-1), torch.ones(3, 4))
    latent.train()
    for _ in range(3):
        latent(Features(x=torch.randn(3, 40, 5)))
        latent.update()
    torch.testing.assert_close(latent.codebook.table.norm(dim=-1), torch.ones(1, 8))


def test_codes_follow_the_running_means_only_after_update():
    latent = made(6, 3, decay=0.0)
    x = torch.randn(4, 10, 3)
    before = latent.codebook.table.clone()
    code = latent(Features(x=x))
    assert torch.equal(latent.codebook.table, before)
    latent.update()
    chosen = code.indices.flatten()
    for index in chosen.unique():
        mean = x.flatten(0, 1)[chosen == index].mean(0)
        torch.testing.assert_close(latent.codebook.table[0, index], mean, rtol=1e-4, atol=1e-4)


def test_gradients_bring_codes_to_the_mean_of_their_vectors():
    latent = made(6, 3, update="gradient")
    optimiser = torch.optim.SGD(latent.parameters(), lr=0.1)
    x = torch.randn(4, 10, 3)
    for _ in range(300):
        code = latent(Features(x=x))
        optimiser.zero_grad()
        code.losses["codebook"].backward()
        optimiser.step()
        latent.update()
    chosen = code.indices.flatten()
    for index in chosen.unique():
        mean = x.flatten(0, 1)[chosen == index].mean(0)
        torch.testing.assert_close(latent.codebook.table[0, index], mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("filler", [7.0, float("nan"), float("inf")])
def test_padding_changes_nothing(update, filler):
    x = torch.randn(3, 6, 4)
    mask = torch.arange(6)[None] < torch.tensor([[6], [3], [1]])
    results = []
    for fill in (0.0, filler):
        latent = made(5, 2, codebooks=2, kmeans=True, revive=0.5, update=update)
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
    alone = made(5, 2, codebooks=2)
    alone(Features(x=x, mask=mask))
    assert alone.codebook._counts.sum(-1).tolist() == [10, 10]


def test_losses_sum_tokens_and_average_examples():
    latent = made(5, 3).eval()
    x = torch.randn(2, 4, 3)
    both = latent(Features(x=x)).losses["commit"]
    each = [latent(Features(x=x[i : i + 1])).losses["commit"] for i in range(2)]
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    halves = [latent(Features(x=x[:, rows])).losses["commit"] for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(both, halves[0] + halves[1])


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_first_training_batch_sets_the_codes_once(update, tmp_path):
    x = torch.randn(8, 20, 6) + 5
    latent = made(16, 3, codebooks=2, kmeans=True, update=update)
    latent.eval()
    far = latent(Features(x=x)).losses["commit"]
    assert latent.codebook.waiting  # evaluation starts nothing
    latent.train()
    near = latent(Features(x=x)).losses["commit"]  # the start comes before the quantising
    assert near < 0.1 * far
    assert not latent.codebook.waiting
    latent.update()
    state = copy.deepcopy(latent.state_dict())
    loaded = made(16, 3, codebooks=2, kmeans=True, update=update, seed=1)
    loaded.load_state_dict(state)
    before = loaded.codebook.table.clone()
    loaded(Features(x=torch.randn(8, 20, 6) - 50))
    assert torch.equal(loaded.codebook.table, before)
    loaded.eval()
    latent.eval()
    assert torch.equal(loaded(Features(x=x)).z, latent(Features(x=x)).z)


def test_the_start_is_the_same_under_the_same_seed():
    x = torch.randn(8, 20, 3)
    tables = []
    for _ in range(2):
        latent = made(16, 3, kmeans=True)
        torch.manual_seed(3)
        latent(Features(x=x))
        tables.append(latent.codebook.table.clone())
    assert torch.equal(*tables)


def test_bf16_features_give_a_bf16_code_from_float32_statistics():
    latent = made(6, 4)
    x = torch.randn(3, 5, 4, dtype=torch.bfloat16, requires_grad=True)
    code = latent(Features(x=x))
    (code.z.float().sum() + code.losses["commit"]).backward()
    latent.update()
    assert code.z.dtype == torch.bfloat16
    assert x.grad.dtype == torch.bfloat16
    assert code.losses["commit"].dtype == torch.float32
    assert all(value.dtype in (torch.float32, torch.bool) for value in latent.state_dict().values())
    assert torch.equal(code.indices, made(6, 4)(Features(x=x.detach().float())).indices)


def test_double_precision_stays_double():
    latent = made(6, 4, kmeans=True, revive=0.5).double()
    code = latent(Features(x=torch.randn(3, 5, 4)))
    latent.update()
    assert code.losses["commit"].dtype == torch.float64
    assert latent.codebook.table.dtype == torch.float64


def test_a_collapsed_codebook_recovers():
    """Codes far from the data: without revival one survives, with it all come into use."""
    used = {}
    for revive in (0.0, 0.05):
        torch.manual_seed(0)
        latent = VQ(32, 4, kmeans=False, revive=revive, decay=0.9)
        latent.codebook.table.copy_(latent.codebook.table + 30)
        latent.codebook.total.copy_(latent.codebook.table)
        for _ in range(120):
            code = latent(Features(x=torch.randn(16, 8, 4)))
            latent.update()
        used[revive] = float(code.metrics["perplexity"])
    assert used[0.0] < 4
    assert used[0.05] > 20


def test_what_cannot_be_is_refused():
    for wrong in (
        {"codebooks": 0},
        {"update": "sgd"},
        {"decay": 1.5},
        {"revive": 2},
        {"codes": 1},
        {"dim": 0},
    ):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            VQ(**wrong)
    latent = made(4, 3, codebooks=2)
    with pytest.raises(PartArgumentError, match="indices"):
        latent.embed(torch.zeros(1, 2, 1, dtype=torch.int64))
    with pytest.raises(PartArgumentError, match="indices"):
        latent.embed(torch.full((1, 2, 2), 4))
    with pytest.raises(PartArgumentError, match="prior"):
        latent.prior((1, 1))


@pytest.mark.parametrize(
    "latent",
    ["vq(codes=64, dim=16)", "vq(codes=64, dim=16, update='gradient')", "vq(codes=64, dim=16, cosine=True)"],
)
def test_real_digits_train_through_it(latent):
    """Sixteen tokens of 6 bits: the error falls far below that of the mean image, and most codes are in use."""
    data = rk.dataset("digits")
    model = rk.build(
        data=data, encoder="vit(width=32, depth=1)", latent=latent, decoder="vit(width=32, depth=1)"
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for _ in range(150):
        batch = data.batch(torch.randint(1500, (64,), generator=generator).tolist())
        losses = model(batch)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        model.update()
    model.eval()
    held_out = data.batch(list(range(1500, 1797)))
    with torch.no_grad():
        decoded = model.decode(model.encode(held_out))
    target = model.target(held_out, decoded)
    error = (decoded.x - target).square().sum((1, 2)).mean()
    spread = (target - target.mean(0)).square().sum((1, 2)).mean()
    assert error < 0.35 * spread
    assert losses.metrics["usage"] > 0.5


# ---------------------------------------------------------------------- ranks


class Small(nn.Module):
    """An encoder's weights before the latent, so that DDP has a gradient to average."""

    def __init__(self, update):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(5, 6)
        self.latent = VQ(12, 3, codebooks=2, update=update, decay=0.8, revive=0.4)

    def forward(self, x, mask):
        code = self.latent(Features(x=self.encoder(x), mask=mask))
        weight = mask.unsqueeze(-1)
        loss = ((code.z - 1).square() * weight).sum() / len(x)
        return loss + sum(self.latent.weights[name] * value for name, value in code.losses.items())


def train(rank, update, accumulate):
    """Four steps on this rank's rows; with ``accumulate`` each in two forwards, which lets DDP broadcast in between."""
    model, size = Small(update), distributed.world_size()
    run = model
    if size > 1:
        run = nn.parallel.DistributedDataParallel(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    seen = {}
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(2, 16, 4, 5, generator=generator)
        mask = torch.rand(2, 16, 4, generator=generator) < 0.8
        rows = slice(rank * 16 // size, (rank + 1) * 16 // size)
        torch.manual_seed(step)
        optimiser.zero_grad()
        total = 0.0
        for view in range(2 if accumulate else 1):
            loss = run(x[view, rows], mask[view, rows])
            loss.backward()
            total = total + loss.detach()
        seen[f"loss {step}"] = distributed.sum_over_ranks(total) / size
        for name, value in model.named_parameters():
            seen[f"gradient {step} {name}"] = value.grad.clone()
        optimiser.step()
        model.latent.update()
        seen |= {f"{step} {name}": value.clone() for name, value in model.state_dict().items()}
    return seen


@pytest.mark.ranks
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_two_ranks_under_ddp_train_as_one_process(update, accumulate):
    whole = train(0, update, accumulate)
    for part in together(2, train, update, accumulate):
        for name, value in whole.items():
            torch.testing.assert_close(
                part[name], value, rtol=1e-5, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
            )
