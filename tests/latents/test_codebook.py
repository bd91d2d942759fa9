"""The statistics, start and revival of a codebook; on one process and on two."""

import pytest
import torch
import torch.nn.functional as F
from codebooks import distances

from reprkit.latents.codebook import Codebook
from reprkit.testing.pool import together
from reprkit.utils import collectives


def book(**options):
    torch.manual_seed(0)
    return Codebook(**{"slots": 1, "codes": 8, "dim": 3, "kmeans": False, "revive": 0.0, **options})


# ---------------------------------------------------------------------- running means


def sonnet_step(table, count, total, x, k, decay):
    """Appendix A.1 of van den Oord et al. 2017 as their own code writes it, with one-hot matmuls."""
    hot = F.one_hot(torch.cdist(x, table).argmin(1), k).to(x.dtype)
    count = decay * count + (1 - decay) * hot.sum(0)
    total = decay * total + (1 - decay) * hot.T @ x
    everything = count.sum()
    smooth = (count + 1e-5) / (everything + k * 1e-5) * everything
    return total / smooth.unsqueeze(1), count, total


def see(book, x, valid=None):
    indices = torch.stack([book.nearest(x, slot) for slot in range(book.slots)], 1)
    book.accumulate([x] * book.slots, indices, valid)


def test_running_means_are_sonnets():
    made = book(decay=0.9)
    state = made.table[0].clone(), made.count[0].clone(), made.total[0].clone()
    for _ in range(20):
        x = torch.randn(50, 3)
        see(made, x)
        assert torch.equal(made.table[0], state[0]) or torch.allclose(made.table[0], state[0], atol=1e-6)
        made.update()
        state = sonnet_step(*state, x, 8, 0.9)
        for mine, reference in zip((made.table[0], made.count[0], made.total[0]), state, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_views_of_one_step_add_up_and_forwards_edit_nothing():
    x = torch.randn(40, 3)
    one, two = book(), book()
    before = one.table.clone()
    see(one, x)
    see(two, x[:15])
    see(two, x[15:])
    assert torch.equal(one.table, before)
    one.update()
    two.update()
    assert not torch.equal(one.table, before)
    for mine, other in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_step_without_vectors_changes_nothing():
    for options in ({"revive": 0.5}, {"revive": 0.5, "learned": True}):
        made = book(**options)
        see(made, torch.randn(30, 3))
        made.update()
        before = {name: value.clone() for name, value in made.state_dict().items()}
        dead = made.count < 0.5 * made.count.mean()
        made.count[dead] = made.count.mean()
        before["count"] = made.count.clone()
        made.update()
        see(made, torch.randn(10, 3), torch.zeros(10, 1, dtype=torch.bool))
        made.update()
        for name, value in made.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)


def test_buffers_keep_their_shapes():
    made = book(kmeans=True, revive=0.1, slots=2)
    shapes = {name: value.shape for name, value in made.state_dict().items()}
    for size in (1, 7, 100):
        x = torch.randn(size, 3)
        for slot in range(2):
            if made.needs_start:
                made.start(slot, x)
        see(made, x)
        made.update()
    assert {name: value.shape for name, value in made.state_dict().items()} == shapes
    assert set(shapes) == {"table", "count", "total", "started"}


# ---------------------------------------------------------------------- start


def blobs(codes=8, dim=3, each=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(codes, dim, generator=generator)
    x = centres.repeat_interleave(each, 0) + 0.1 * torch.randn(codes * each, dim, generator=generator)
    return x[torch.randperm(len(x), generator=generator)]


def test_kmeans_finds_well_separated_clusters():
    x = blobs()
    made = book(kmeans=True)
    made.start(0, x)
    assert not made.needs_start
    assert bool(made.started)
    error = distances(x, made.table[0]).amin(1).mean()
    assert error < 0.5 * distances(x, x[:8]).amin(1).mean()
    from sklearn.cluster import KMeans

    best = KMeans(8, n_init=1, init="random", random_state=0).fit(x.numpy()).inertia_ / len(x)
    assert error < 20 * best + 0.1
    # The statistics agree with the codes, so that the first update moves them by one step only.
    torch.testing.assert_close(made.total / made.count.unsqueeze(-1), made.table)
    assert made.count.sum() == pytest.approx(len(x), rel=0.2)


def test_kmeans_of_few_vectors_keeps_codes_apart():
    made = book(kmeans=True, codes=20)
    x = torch.randn(6, 3)
    made.start(0, x)
    assert distances(x, made.table[0]).amin(1).max() < 1e-8  # every vector has its code
    apart = distances(made.table[0], made.table[0]) + torch.eye(20)
    assert apart.min() > 1e-6
    assert torch.isfinite(made.table).all()
    assert (made.count > 0).all()


def test_kmeans_survives_vectors_that_are_all_alike():
    made = book(kmeans=True)
    made.start(0, torch.ones(30, 3))
    see(made, torch.ones(30, 3))
    made.update()
    assert torch.isfinite(made.table).all()
    assert (made.table - 1).abs().max() < 1e-3


def test_the_start_waits_for_a_valid_vector():
    made = book(kmeans=True)
    before = made.table.clone()
    made.start(0, torch.randn(5, 3), torch.zeros(5, dtype=torch.bool))
    assert made.needs_start
    assert torch.equal(made.table, before)


def test_the_start_ignores_padding():
    x = blobs()
    one, two = book(kmeans=True), book(kmeans=True)
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
    made = book(kmeans=True)
    made.start(0, torch.randn(50, 3))
    fresh = book(kmeans=True)
    assert fresh.needs_start
    fresh.load_state_dict(made.state_dict())
    assert not fresh.needs_start


# ---------------------------------------------------------------------- revival


@pytest.mark.parametrize("learned", [False, True])
def test_dead_codes_come_back_as_vectors_of_the_batch(learned):
    made = book(revive=0.2, decay=0.5, learned=learned)
    with torch.no_grad():
        made.table[0, 3:] += 100  # out of reach
    if not learned:
        made.total.copy_(made.table)
    x, valid = torch.randn(60, 3), (torch.arange(60) < 40).unsqueeze(-1)
    x[40:] = -50.0  # padding never becomes a code
    for _ in range(3):
        see(made, x, valid)
        made.update()
    revived = made.table[0, 3:]
    assert distances(revived, x[:40]).amin(1).max() < 0.5
    assert len(torch.unique(revived, dim=0)) == 5
    assert (made.count[0] >= 0.2 * made.count.mean() * 0.5).all()
    if not learned:
        torch.testing.assert_close(made.total / made.count.unsqueeze(-1), made.table, rtol=1e-3, atol=1e-3)
    for _ in range(3):
        see(made, x, valid)
        made.update()
    assert (made.count[0] > 0).sum() == 8
    assert len(torch.unique(made.nearest(x[:40], 0))) > 4


def test_without_revival_a_dead_code_stays_dead():
    made = book(revive=0.0, decay=0.5)
    with torch.no_grad():
        made.table[0, 3:] += 100
    made.total.copy_(made.table)
    for _ in range(5):
        see(made, torch.randn(60, 3))
        made.update()
    assert (made.table[0, 3:] > 50).any()


def test_revival_takes_no_more_vectors_than_there_are():
    made = book(revive=0.9, decay=0.5)
    made.count[0, 1:] = 0.0
    made._last_vectors, made._valid = [torch.randn(3, 3)], None
    before = made.table.clone()
    made._revive()
    changed = (made.table != before).any(-1)[0]
    assert changed.sum() == 3
    assert not changed[0]


# ---------------------------------------------------------------------- ranks


def rounds(rank, kmeans, learned, padded, skew):
    """Start, three steps and revival on this rank's rows of a joined batch."""
    made = book(kmeans=kmeans, revive=0.5, decay=0.7, slots=2, codes=12, learned=learned)
    size = collectives.world_size()
    torch.manual_seed(5 + (rank * 100 if skew else 0))
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(48, 3, generator=generator) * torch.tensor([3.0, 1.0, 0.2])
        valid = (torch.rand(48, generator=generator) < 0.7) if padded else None
        rows = slice(rank * 48 // size, (rank + 1) * 48 // size)
        x, valid = x[rows], None if valid is None else valid[rows]
        for slot in range(2):
            if made.needs_start:
                made.start(slot, x, valid)
        see(made, x, None if valid is None else valid.unsqueeze(-1).expand(-1, 2))
        made.update()
    made.update()  # a step in which nothing was seen: the collectives are there all the same
    return {name: value.detach().clone() for name, value in made.state_dict().items()}


def unequal(rank):
    """One rank has not used the latent in this step; nobody hangs and all stay equal."""
    made = book(revive=0.5, decay=0.5, slots=2)
    if rank == 0:
        see(made, torch.randn(20, 3), torch.ones(20, 2, dtype=torch.bool))
    made.update()
    return {name: value.clone() for name, value in made.state_dict().items()}


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
def test_rank_zero_draws_for_all_where_random_states_differ():
    whole = rounds(0, True, False, True, False)
    for part in together(2, rounds, True, False, True, True):
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.ranks
def test_a_rank_that_saw_nothing_keeps_up():
    one, two = together(2, unequal)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
