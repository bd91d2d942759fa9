"""Codebook: statistics, k-means start and revival; with one process and with two."""

import pytest
import torch
import torch.nn.functional as F
from codebooks import distances

from reprkit.latents.codebook import Codebook
from reprkit.testing.pool import together
from reprkit.utils import collectives


def make_codebook(**options):
    torch.manual_seed(0)
    return Codebook(**{"slots": 1, "codes": 8, "dim": 3, "kmeans": False, "revive": 0.0, **options})


# ---------------------------------------------------------------------- running means


def sonnet_step(table, count, total, x, k, decay):
    """Appendix A.1 of van den Oord et al. 2017 as in the authors' code, with one-hot matmuls."""
    hot = F.one_hot(torch.cdist(x, table).argmin(1), k).to(x.dtype)
    count = decay * count + (1 - decay) * hot.sum(0)
    total = decay * total + (1 - decay) * hot.T @ x
    total_count = count.sum()
    smooth = (count + 1e-5) / (total_count + k * 1e-5) * total_count
    return total / smooth.unsqueeze(1), count, total


def accumulate(book, x, valid=None):
    indices = torch.stack([book.nearest(x, slot) for slot in range(book.slots)], 1)
    book.accumulate([x] * book.slots, indices, valid)


def test_moving_averages_match_sonnet():
    codebook = make_codebook(decay=0.9)
    state = codebook.table[0].clone(), codebook.count[0].clone(), codebook.total[0].clone()
    for _ in range(20):
        x = torch.randn(50, 3)
        accumulate(codebook, x)
        assert torch.equal(codebook.table[0], state[0]) or torch.allclose(
            codebook.table[0], state[0], atol=1e-6
        )
        codebook.update()
        state = sonnet_step(*state, x, 8, 0.9)
        for mine, reference in zip(
            (codebook.table[0], codebook.count[0], codebook.total[0]), state, strict=True
        ):
            torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_views_of_a_step_add_up_and_forward_changes_no_code():
    x = torch.randn(40, 3)
    one, two = make_codebook(), make_codebook()
    before = one.table.clone()
    accumulate(one, x)
    accumulate(two, x[:15])
    accumulate(two, x[15:])
    assert torch.equal(one.table, before)
    one.update()
    two.update()
    assert not torch.equal(one.table, before)
    for mine, other in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_step_without_vectors_changes_nothing():
    for options in ({"revive": 0.5}, {"revive": 0.5, "learned": True}):
        codebook = make_codebook(**options)
        accumulate(codebook, torch.randn(30, 3))
        codebook.update()
        before = {name: value.clone() for name, value in codebook.state_dict().items()}
        dead = codebook.count < 0.5 * codebook.count.mean()
        codebook.count[dead] = codebook.count.mean()
        before["count"] = codebook.count.clone()
        codebook.update()
        accumulate(codebook, torch.randn(10, 3), torch.zeros(10, 1, dtype=torch.bool))
        codebook.update()
        for name, value in codebook.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)


def test_buffers_keep_their_shapes():
    codebook = make_codebook(kmeans=True, revive=0.1, slots=2)
    shapes = {name: value.shape for name, value in codebook.state_dict().items()}
    for size in (1, 7, 100):
        x = torch.randn(size, 3)
        for slot in range(2):
            if codebook.needs_start:
                codebook.start(slot, x)
        accumulate(codebook, x)
        codebook.update()
    assert {name: value.shape for name, value in codebook.state_dict().items()} == shapes
    assert set(shapes) == {"table", "count", "total", "started"}


# ---------------------------------------------------------------------- start


def blobs(codes=8, dim=3, each=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = 10 * torch.randn(codes, dim, generator=generator)
    x = centers.repeat_interleave(each, 0) + 0.1 * torch.randn(codes * each, dim, generator=generator)
    return x[torch.randperm(len(x), generator=generator)]


def test_kmeans_finds_well_separated_clusters():
    x = blobs()
    codebook = make_codebook(kmeans=True)
    codebook.start(0, x)
    assert not codebook.needs_start
    assert bool(codebook.started)
    error = distances(x, codebook.table[0]).amin(1).mean()
    assert error < 0.5 * distances(x, x[:8]).amin(1).mean()
    from sklearn.cluster import KMeans

    best = KMeans(8, n_init=1, init="random", random_state=0).fit(x.numpy()).inertia_ / len(x)
    assert error < 20 * best + 0.1
    # The statistics agree with the codes, so that the first update moves them by one step only.
    torch.testing.assert_close(codebook.total / codebook.count.unsqueeze(-1), codebook.table)
    assert codebook.count.sum() == pytest.approx(len(x), rel=0.2)


def test_kmeans_of_few_vectors_keeps_codes_apart():
    codebook = make_codebook(kmeans=True, codes=20)
    x = torch.randn(6, 3)
    codebook.start(0, x)
    assert distances(x, codebook.table[0]).amin(1).max() < 1e-8  # every vector has its code
    apart = distances(codebook.table[0], codebook.table[0]) + torch.eye(20)
    assert apart.min() > 1e-6
    assert torch.isfinite(codebook.table).all()
    assert (codebook.count > 0).all()


def test_kmeans_works_on_equal_vectors():
    codebook = make_codebook(kmeans=True)
    codebook.start(0, torch.ones(30, 3))
    accumulate(codebook, torch.ones(30, 3))
    codebook.update()
    assert torch.isfinite(codebook.table).all()
    assert (codebook.table - 1).abs().max() < 1e-3


def test_the_start_waits_for_a_valid_vector():
    codebook = make_codebook(kmeans=True)
    before = codebook.table.clone()
    codebook.start(0, torch.randn(5, 3), torch.zeros(5, dtype=torch.bool))
    assert codebook.needs_start
    assert torch.equal(codebook.table, before)


def test_the_start_ignores_padding():
    x = blobs()
    one, two = make_codebook(kmeans=True), make_codebook(kmeans=True)
    torch.manual_seed(1)
    one.start(0, x)
    padded = torch.full((len(x) * 2, 3), float("nan"))
    padded[::2] = x
    valid = torch.arange(len(padded)) % 2 == 0
    torch.manual_seed(1)
    two.start(0, padded, valid)
    for mine, other in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_a_loaded_codebook_does_not_start_again():
    codebook = make_codebook(kmeans=True)
    codebook.start(0, torch.randn(50, 3))
    fresh = make_codebook(kmeans=True)
    assert fresh.needs_start
    fresh.load_state_dict(codebook.state_dict())
    assert not fresh.needs_start


# ---------------------------------------------------------------------- revival


@pytest.mark.parametrize("learned", [False, True])
def test_dead_codes_come_back_as_vectors_of_the_batch(learned):
    codebook = make_codebook(revive=0.2, decay=0.5, learned=learned)
    with torch.no_grad():
        codebook.table[0, 3:] += 100  # out of reach
    if not learned:
        codebook.total.copy_(codebook.table)
    x, valid = torch.randn(60, 3), (torch.arange(60) < 40).unsqueeze(-1)
    x[40:] = -50.0  # padding never becomes a code
    for _ in range(3):
        accumulate(codebook, x, valid)
        codebook.update()
    revived = codebook.table[0, 3:]
    assert distances(revived, x[:40]).amin(1).max() < 0.5
    assert len(torch.unique(revived, dim=0)) == 5
    assert (codebook.count[0] >= 0.2 * codebook.count.mean() * 0.5).all()
    if not learned:
        torch.testing.assert_close(
            codebook.total / codebook.count.unsqueeze(-1), codebook.table, rtol=1e-3, atol=1e-3
        )
    for _ in range(3):
        accumulate(codebook, x, valid)
        codebook.update()
    assert (codebook.count[0] > 0).sum() == 8
    assert len(torch.unique(codebook.nearest(x[:40], 0))) > 4


def test_without_revival_a_dead_code_stays_dead():
    codebook = make_codebook(revive=0.0, decay=0.5)
    with torch.no_grad():
        codebook.table[0, 3:] += 100
    codebook.total.copy_(codebook.table)
    for _ in range(5):
        accumulate(codebook, torch.randn(60, 3))
        codebook.update()
    assert (codebook.table[0, 3:] > 50).any()


def test_revival_takes_no_more_vectors_than_there_are():
    codebook = make_codebook(revive=0.9, decay=0.5)
    codebook.count[0, 1:] = 0.0
    codebook._last_vectors, codebook._valid = [torch.randn(3, 3)], None
    before = codebook.table.clone()
    codebook._revive()
    changed = (codebook.table != before).any(-1)[0]
    assert changed.sum() == 3
    assert not changed[0]


# ---------------------------------------------------------------------- ranks


def rounds(rank, kmeans, learned, padded, skew):
    """Start, three steps and revival on this rank's rows of a joined batch."""
    codebook = make_codebook(kmeans=kmeans, revive=0.5, decay=0.7, slots=2, codes=12, learned=learned)
    size = collectives.world_size()
    torch.manual_seed(5 + (rank * 100 if skew else 0))
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(48, 3, generator=generator) * torch.tensor([3.0, 1.0, 0.2])
        valid = (torch.rand(48, generator=generator) < 0.7) if padded else None
        rows = slice(rank * 48 // size, (rank + 1) * 48 // size)
        x, valid = x[rows], None if valid is None else valid[rows]
        for slot in range(2):
            if codebook.needs_start:
                codebook.start(slot, x, valid)
        accumulate(codebook, x, None if valid is None else valid.unsqueeze(-1).expand(-1, 2))
        codebook.update()
    codebook.update()  # a step in which nothing was seen: the collectives are there all the same
    return {name: value.detach().clone() for name, value in codebook.state_dict().items()}


def unequal(rank):
    """One rank did not use the latent in this step: no rank hangs and all tables stay equal."""
    codebook = make_codebook(revive=0.5, decay=0.5, slots=2)
    if rank == 0:
        accumulate(codebook, torch.randn(20, 3), torch.ones(20, 2, dtype=torch.bool))
    codebook.update()
    return {name: value.clone() for name, value in codebook.state_dict().items()}


@pytest.mark.ranks
@pytest.mark.parametrize("learned", [False, True])
def test_two_ranks_hold_the_codebook_of_one_process(learned):
    for kmeans, padded in ((True, False), (True, True), (False, True)):
        whole = rounds(0, kmeans, learned, padded, False)
        for part in together(2, rounds, kmeans, learned, padded, False):
            for name, value in whole.items():
                torch.testing.assert_close(
                    part[name], value, rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
                )


@pytest.mark.ranks
def test_rank_zero_draws_for_all_ranks():
    whole = rounds(0, True, False, True, False)
    for part in together(2, rounds, True, False, True, True):
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.ranks
def test_a_rank_without_vectors_stays_in_sync():
    one, two = together(2, unequal)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
