"""VQ in training: updates, start and state of its codes, training on real digits, two ranks under DDP."""

import copy

import pytest
import torch
from small_vq import make_vq
from torch import nn

import reprkit as rk
from reprkit.latents.vq import VQ
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives


def test_codes_follow_the_moving_averages_after_update_only():
    latent = make_vq(6, 3, decay=0.0)
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
    latent = make_vq(6, 3, update="gradient")
    optimizer = torch.optim.SGD(latent.parameters(), lr=0.1)
    x = torch.randn(4, 10, 3)
    for _ in range(300):
        code = latent(Features(x=x))
        optimizer.zero_grad()
        code.losses["codebook"].backward()
        optimizer.step()
        latent.update()
    chosen = code.indices.flatten()
    for index in chosen.unique():
        mean = x.flatten(0, 1)[chosen == index].mean(0)
        torch.testing.assert_close(latent.codebook.table[0, index], mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_first_training_batch_sets_the_codes_once(update, tmp_path):
    x = torch.randn(8, 20, 6) + 5
    latent = make_vq(16, 3, codebooks=2, kmeans=True, update=update)
    latent.eval()
    far = latent(Features(x=x)).losses["commit"]
    assert latent.codebook.needs_start  # evaluation starts nothing
    latent.train()
    near = latent(Features(x=x)).losses["commit"]  # the start comes before quantization
    assert near < 0.1 * far
    assert not latent.codebook.needs_start
    latent.update()
    state = copy.deepcopy(latent.state_dict())
    loaded = make_vq(16, 3, codebooks=2, kmeans=True, update=update, seed=1)
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
        latent = make_vq(16, 3, kmeans=True)
        torch.manual_seed(3)
        latent(Features(x=x))
        tables.append(latent.codebook.table.clone())
    assert torch.equal(*tables)


def test_a_collapsed_codebook_recovers():
    """Codes far from the data: without revival one is used, with revival all are used."""
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


@pytest.mark.slow
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
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for _ in range(150):
        batch = data.batch(torch.randint(1500, (64,), generator=generator).tolist())
        losses = model(batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
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
    """A linear encoder before the latent, so that DDP has a gradient to average."""

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
    model, size = Small(update), collectives.world_size()
    run = model
    if size > 1:
        run = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    seen = {}
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(2, 16, 4, 5, generator=generator)
        mask = torch.rand(2, 16, 4, generator=generator) < 0.8
        rows = slice(rank * 16 // size, (rank + 1) * 16 // size)
        torch.manual_seed(step)
        optimizer.zero_grad()
        total = 0.0
        for view in range(2 if accumulate else 1):
            loss = run(x[view, rows], mask[view, rows])
            loss.backward()
            total = total + loss.detach()
        seen[f"loss {step}"] = collectives.sum_over_ranks(total) / size
        for name, value in model.named_parameters():
            seen[f"gradient {step} {name}"] = value.grad.clone()
        optimizer.step()
        model.latent.update()
        seen |= {f"{step} {name}": value.clone() for name, value in model.state_dict().items()}
    return seen


@pytest.mark.slow
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
