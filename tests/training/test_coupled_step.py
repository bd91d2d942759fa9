"""Losses that compare examples: in pieces (accumulate=) they are those of the whole batch."""

import threading

import pytest
import torch
from loop_helpers import assert_states_close, equal, lines, weights
from torch import nn

import reprkit as rk
from reprkit.errors import TrainingError
from reprkit.interfaces import Encoder, Objective
from reprkit.latents.gaussian import Gaussian
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives

SYSTEMS = {
    "contrastive": {"objective": "contrastive", "decoder": None},
    "dropout": {
        "encoder": "vit(patch=4, width=16, depth=1, heads=2, dropout=0.2)",
        "decoder": "vit(patch=4, width=16, depth=1, heads=2, dropout=0.2)",
        "objective": "denoising + 0.1 * contrastive",
        "latent": "gaussian(dim=4)",
    },
    "codebook": {"objective": "contrastive + reconstruction", "latent": "vq(codes=8, dim=4, kmeans=False)"},
    "entropy": {"objective": "reconstruction", "latent": "binary(bits=8, entropy=1.0)"},
    "sparsity": {"objective": "reconstruction", "latent": "continuous(dim=8, sparsity=1.0)"},
    "free bits": {"objective": "reconstruction", "latent": "gaussian(dim=4, free_bits=0.1)"},
    "grouped": {"objective": "grouped", "latent": "gaussian(dim=4)"},
}


def make(data, **parts):
    torch.manual_seed(0)
    given = {"encoder": "mlp(widths=(16,))", "decoder": "mlp(widths=(16,))", "latent": "continuous(dim=4)"}
    return rk.build(data=data, **{**given, **parts})


def train(model, data, pieces, steps=1, batch=32, **options):
    """Train; return each step's loss, the gradients of the last step, and a random number drawn afterwards."""
    given = {"lr": 1e-3, "optimizer": "sgd(momentum=0.9)", "device": "cpu", "log_every": 0}
    losses, gradients = [], {}
    for step in rk.loop(model, data, steps=steps, batch=batch, accumulate=pieces, **{**given, **options}):
        found = step.model(step.batch)
        step.backward(found.total)
        losses.append(float(found.total.detach()))
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        step.update()
    means = [sum(losses[i : i + pieces]) / pieces for i in range(0, len(losses), pieces)]
    return means, gradients, torch.rand(3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_pieces_equal_the_whole_batch(digits, name):
    results = []
    for pieces in (1, 2, 8):
        model = make(digits, **SYSTEMS[name])
        results.append((*train(model, digits, pieces), weights(model)))
    whole, *others = results
    assert whole[1], "gradients were read"
    for losses, gradients, drawn, after in others:
        assert losses == pytest.approx(whole[0], rel=1e-5)
        assert_states_close(gradients, whole[1], 1e-5)
        assert torch.equal(drawn, whole[2]), "the random states agree after the step"
        assert_states_close(after, whole[3], 1e-5)


def test_contrastive_in_pieces_contrasts_all_examples(digits):
    """In pieces of 16 that contrast their own examples only, the loss of 128 would be about log(255/31) lower."""
    model = make(digits, objective="contrastive", decoder=None)
    with torch.no_grad():
        apart = float(model(digits.batch(range(16))).total)
    whole = train(make(digits, objective="contrastive", decoder=None), digits, 8, batch=128)[0]
    assert whole[0] > apart + 1


@pytest.mark.parametrize("latent", ["gaussian(dim=4)", "vq(codes=64, dim=4, kmeans=False)"])
def test_statistics_of_latents_and_usage_count_once(digits, latent):
    found = []
    for pieces in (1, 4):
        model = make(digits, latent=latent, objective="contrastive + reconstruction")
        train(model, digits, pieces, steps=3)
        usage = model.factors["code"].usage
        found.append((usage.step, usage.value(), {n: b.clone() for n, b in model.named_buffers()}))
    (step, value, buffers), (steps, in_pieces, others) = found
    assert (step, value) == (steps, in_pieces)
    assert_states_close(others, buffers, 1e-5)


@pytest.mark.slow
def test_a_resumed_run_is_bit_equal(digits, tmp_path):
    parts = {"objective": "contrastive + reconstruction", "latent": "vq(codes=8, dim=4)"}
    whole = make(digits, **parts)
    train(whole, digits, 4, steps=6, out=tmp_path / "whole", log_every=1)
    broken = make(digits, **parts)
    for step in rk.loop(broken, digits, **RESUMED, out=tmp_path / "out", save_every=1e-9):
        if step.index == 3:
            break
        step.backward(step.model(step.batch).total)
        step.update()
    resumed = make(digits, **parts)
    train(resumed, digits, 4, steps=6, out=tmp_path / "out", resume=True, log_every=1)
    assert equal(weights(resumed), weights(whole))
    assert [line["loss"] for line in lines(tmp_path / "out")] == [
        line["loss"] for line in lines(tmp_path / "whole")
    ]


RESUMED = {
    "steps": 6, "batch": 32, "accumulate": 4, "lr": 1e-3, "optimizer": "sgd(momentum=0.9)", "device": "cpu", "log_every": 1,
}  # fmt: skip


# ------------------------------------------------------------------ objectives of a third party


class Whitened(Objective):
    """Two collectives of which the second depends on the first: codes over the batch's mean, then over its scale."""

    needs = frozenset({"encoder"})
    distributes = "gather"

    def forward(self, model, batch, turn="main"):
        """Return a loss that is not a sum over examples."""
        z = self.vectors(model, batch)
        centered = z - collectives.gather_with_gradient(z).mean(0)
        scale = collectives.gather_with_gradient(centered**3).square().mean(0)
        with torch.no_grad():
            size = collectives.gather_with_gradient(centered).abs().amax()
        return {"whitened": ((centered / scale.sqrt() - size).square().sum(), len(z))}

    def vectors(self, model, batch):
        """Return the vectors (b d)."""
        return model.encode(batch).z.mean(1)


class Undeclared(Whitened):
    """As Whitened, without saying that it compares examples."""

    distributes = "mean"


class OwnRandomness(Whitened):
    """Draws from a generator that is no attribute of a module."""

    drawn = [0]

    def vectors(self, model, batch):
        """Return vectors that differ at every call."""
        self.drawn[0] += 1
        return super().vectors(model, batch) * self.drawn[0]


class Unequal(Whitened):
    """Compares examples in the first piece only."""

    def vectors(self, model, batch):
        """Return fewer vectors in the first piece."""
        z = super().vectors(model, batch)
        return z if collectives.rank() else z[:1]


class Failing(Whitened):
    """Fails in the third piece."""

    def vectors(self, model, batch):
        """Raise in the third piece."""
        if collectives.rank() == 2:
            raise ZeroDivisionError("third")
        return super().vectors(model, batch)


def test_values_that_depend_on_values_exchanged_before(digits):
    whole, pieces = (train(make(digits, objective=Whitened(), decoder=None), digits, k) for k in (1, 4))
    assert pieces[0] == pytest.approx(whole[0], rel=1e-5)
    scale = max(float(g.abs().max()) for g in whole[1].values())
    for name, gradient in whole[1].items():
        torch.testing.assert_close(pieces[1][name], gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("objective", "error", "message"),
    [
        (
            Undeclared,
            TrainingError,
            "an objective sets distributes = 'gather', a latent couples_examples = True",
        ),
        (OwnRandomness, TrainingError, "computed a second time, .*they differ by over one percent"),
        (Unequal, TrainingError, r"do not compare the same values \(shapes are \(1, 4\), \(8, 4\)"),
        (Failing, ZeroDivisionError, "third"),
    ],
)
def test_what_cannot_be_joined_is_an_error(digits, objective, error, message):
    with pytest.raises(error, match=message):
        train(make(digits, objective=objective(), decoder=None), digits, 4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("piece-")]


class UndeclaredLatent(Gaussian):
    """Free bits, without saying that examples are compared."""

    couples_examples = property(lambda self: False, lambda self, value: None)


def test_a_latent_that_compares_examples_must_say_so(digits):
    with pytest.raises(TrainingError, match="a latent couples_examples = True"):
        train(make(digits, latent=UndeclaredLatent(4, free_bits=0.1)), digits, 4)


def test_pieces_of_one_example_are_refused(digits):
    with pytest.raises(
        TrainingError, match=r"pieces of one example, and reprkit/contrastive compares examples"
    ):
        train(make(digits, objective="contrastive", decoder=None), digits, 32)
    train(make(digits), digits, 32)  # no example is compared


class Normalized(Encoder):
    """A linear layer with batch normalization."""

    def __init__(self):
        super().__init__()
        self.out_dim = 4
        self.layers = nn.Sequential(nn.Linear(64, 4), nn.BatchNorm1d(4))

    def forward(self, batch, *, keep=None):
        """Return one token."""
        return Features(x=self.layers(batch["x"].flatten(1)).unsqueeze(1), grid=(1,))

    def count(self, batch):
        """Return 1."""
        return 1

    def grid(self, batch):
        """Return one cell."""
        return (1,)


def test_batch_normalization_is_refused_in_pieces(digits):
    with pytest.raises(TrainingError, match=r"BatchNorm1d\) would normalize over the 8 examples of a piece"):
        train(make(digits, encoder=Normalized()), digits, 4)
    train(make(digits, encoder=Normalized()), digits, 1)


@pytest.mark.parametrize("twice", [False, True])
def test_the_body_passes_each_piece_once_and_as_it_is(digits, twice):
    model = make(digits, objective="contrastive", decoder=None)
    steps = iter(rk.loop(model, digits, steps=1, batch=32, accumulate=4, device="cpu"))
    step = next(steps)
    if twice:
        step.model(step.batch)
    with pytest.raises(TrainingError, match=r"call step.model\(step.batch\) once for each piece"):
        step.model(step.batch if twice else dict(step.batch))
    steps.close()


# ------------------------------------------------------------------ several processes


def on_rank(rank, name, pieces, strategy):
    torch.set_num_threads(1)
    data = rk.dataset("digits").split()[0]
    model = make(data, **SYSTEMS[name])
    losses, _, drawn = train(model, data, pieces, steps=3, strategy=strategy)
    return losses, drawn, weights(model)


@pytest.mark.ranks
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", ["dropout", "grouped", pytest.param("entropy", marks=pytest.mark.slow)])
def test_pieces_on_two_processes_equal_the_whole_batch(name, strategy):
    _, drawn, whole = on_rank(0, name, 1, "ddp")
    for _, other, after in together(2, on_rank, name, 4, strategy):
        assert torch.equal(other, drawn)
        assert_states_close(after, whole, 2e-5)


@pytest.mark.parametrize("latent", ["vq(codes=8, dim=3)", "residual-vq(codes=8, layers=2, dim=3)"])
def test_k_means_starts_from_the_whole_batch(latent):
    """In pieces, codes are initialized as by the whole batch, and counted once."""
    data = rk.dataset("digits")
    found = []
    for accumulate in (1, 4):
        model = rk.build(data=data, encoder="mlp(width=16)", latent=latent, decoder="mlp(width=16)")
        for step in rk.loop(model, data, steps=1, batch=64, lr=1e-9, accumulate=accumulate, log_every=0):
            step.backward(step.model(step.batch).total)
            book = model.latent().codebook
            last = book.table.clone(), book._counts.clone()
            step.update()
        found.append(last)
    (whole, counts), (pieces, summed) = found
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(summed, counts)
