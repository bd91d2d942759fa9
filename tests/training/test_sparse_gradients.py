"""Weights with sparse gradients: norms, clipping, optimizers, resuming and ranks."""

import copy

import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import PartArgumentError, TrainingError
from reprkit.interfaces import Encoder
from reprkit.testing.pool import together
from reprkit.training.optimizers import create_optimizer
from reprkit.training.sparse_gradients import SparseAdam, sparse_weights
from reprkit.types import Features

SYMBOLS = 50


class Words(Encoder):
    """An embedding of words with sparse or dense gradients, and a dense layer."""

    def __init__(self, sparse=True):
        super().__init__()
        self.out_dim = 4
        self.embed, self.linear = nn.Embedding(SYMBOLS, 4, sparse=sparse), nn.Linear(4, 4)

    def forward(self, batch, *, keep=None):
        return Features(x=torch.tanh(self.linear(self.embed(batch["x"]))), grid=(batch["x"].shape[1],))

    def count(self, batch):
        return batch["x"].shape[1]


def data(size=32):
    x = torch.randint(12, (size, 5), generator=torch.Generator().manual_seed(0))
    return rk.data.Tensors({"x": x}, Signature({"x": Field(kind="tokens", shape=(5,), vocab=SYMBOLS)}))


def build(sparse=True):
    torch.manual_seed(0)
    decoder = "gru(width=4, causal=False)"
    return rk.build(data=data(), encoder=Words(sparse), latent="continuous(dim=2)", decoder=decoder)


def train(rank=0, sparse=True, out=None, **options):
    torch.set_num_threads(1)
    model, norms = build(sparse), []
    given = {
        "steps": 6,
        "batch": 8,
        "lr": 1e-2,
        "out": out,
        "progress": False,
        "device": "cpu",
        "log_every": 1,
    }
    for step in rk.loop(model, data(), **{**given, **options}):
        step.backward(step.model(step.batch).total)
        step.update()
        if step._train_state.norm is not None:  # not in the first pieces
            norms.append(float(step._train_state.norm))
    return model.state_dict(), norms


def train_clipped(rank, optimizer):
    return train(rank, optimizer=optimizer, clip=1.0)


def assert_close(one, other, tolerance=1e-6):
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("options", [{}, {"clip": 0.5}, {"accumulate": 2}, {"weight_decay": 0.0}])
def test_sparse_sgd_equals_dense_sgd(options):
    sparse, norms = train(optimizer="sgd", **options)
    dense, expected = train(sparse=False, optimizer="sgd", **options)
    assert norms == pytest.approx(expected, rel=1e-5)
    assert_close(sparse, dense)


def test_sparse_adagrad_is_that_of_dense_gradients():
    options = {"optimizer": "adagrad(lr_decay=0.1)", "clip": 0.5}
    sparse, norms = train(**options)
    dense, expected = train(sparse=False, **options)
    assert norms == pytest.approx(expected, rel=1e-5)
    assert_close(sparse, dense)


def test_sparse_adam_is_torch_s_for_each_kind_of_gradient():
    model = build().train()
    batch = data().batch(range(8))
    weights = [model.factors["code"].encoder.embed.weight]
    plain = copy.deepcopy(model)
    theirs_weight = plain.factors["code"].encoder.embed.weight
    theirs = [
        torch.optim.SparseAdam([theirs_weight], lr=1e-2),
        torch.optim.Adam([p for p in plain.parameters() if p is not theirs_weight], lr=1e-2),
    ]
    ours = create_optimizer("sparse-adam", model.parameters(), lr=1e-2, sparse=sparse_weights(model))
    assert isinstance(ours, SparseAdam)
    for _ in range(4):
        for each, optimizers in ((model, [ours]), (plain, theirs)):
            each.zero_grad()
            each(batch).total.backward()
            for optimizer in optimizers:
                optimizer.step()
    assert_close(model.state_dict(), plain.state_dict())
    untouched = sorted(set(range(SYMBOLS)) - set(batch["x"].flatten().tolist()))
    moment = ours.state[weights[0]]["exp_avg"]
    assert not moment[untouched].any()


def test_row_adagrad_of_sparse_gradients_is_that_of_dense_ones():
    options = {"optimizer": "row-adagrad(lr_decay=0.1)", "clip": 0.5}
    sparse, norms = train(**options)
    dense, expected = train(sparse=False, **options)
    assert norms == pytest.approx(expected, rel=1e-5)
    assert_close(sparse, dense)


def test_row_adagrad_is_adagrad_where_the_gradients_of_a_row_have_one_size():
    torch.manual_seed(0)
    signs = torch.randn(4, 3, 2, 2).sign() * torch.rand(4, 1, 1, 1)
    ours, theirs = (nn.Parameter(torch.ones(4, 3, 2, 2)) for _ in range(2))
    vectors = [nn.Parameter(torch.ones(5)) for _ in range(2)]
    settings = {"lr_decay": 0.1, "initial_accumulator_value": 0.2}
    own = create_optimizer(
        f"row-adagrad({', '.join(f'{k}={v}' for k, v in settings.items())})", [ours, vectors[0]], lr=0.1
    )
    other = torch.optim.Adagrad([theirs, vectors[1]], lr=0.1, **settings)
    for step in range(1, 4):
        for weight, vector, optimizer in ((ours, vectors[0], own), (theirs, vectors[1], other)):
            weight.grad, vector.grad = signs * step, torch.arange(5.0)
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*vectors)
    assert own.state[ours]["sum"].shape == (4, 1, 1, 1)


def test_row_adagrad_has_one_number_a_row():
    weight = nn.Parameter(torch.zeros(3, 2))
    optimizer = create_optimizer(
        "row-adagrad(maximize=True, eps=0.0)", [weight], lr=0.1, sparse={weight: "w"}
    )
    for rows, values in (([2, 0, 2], [[1.0, 0.0], [3.0, 4.0], [2.0, 4.0]]), ([0], [[0.0, 1.0]])):
        weight.grad = torch.sparse_coo_tensor([rows], torch.tensor(values), (3, 2))
        optimizer.step()
    squares = torch.tensor(
        [12.5, 12.5]
    )  # the mean squares of (3, 4) and of (3, 4), the sum of the two parts of row 2
    expected = torch.stack(
        [
            torch.tensor([3.0, 4.0]) / squares[0].sqrt(),
            torch.zeros(2),
            torch.tensor([3.0, 4.0]) / squares[1].sqrt(),
        ]
    )
    expected[0] += torch.tensor([0.0, 1.0]) / (squares[0] + 0.5).sqrt()
    torch.testing.assert_close(weight.detach(), 0.1 * expected)
    assert optimizer.state[weight]["sum"].flatten().tolist() == [13.0, 0.0, 12.5]


@pytest.mark.parametrize("optimizer", ["sparse-adam", "row-adagrad"])
def test_a_resumed_run_is_bit_equal(tmp_path, optimizer):
    whole, _ = train(optimizer=optimizer, out=tmp_path / "whole")
    train(optimizer=optimizer, out=tmp_path / "part", steps=3)
    again, norms = train(optimizer=optimizer, out=tmp_path / "part", resume=True)
    assert len(norms) == 3
    assert all(torch.equal(again[name], value) for name, value in whole.items())


@pytest.mark.ranks
@pytest.mark.parametrize("optimizer", ["sgd", "sparse-adam", "row-adagrad"])
def test_two_processes_train_as_one(optimizer):
    whole, norms = train_clipped(0, optimizer)
    for weights, found in together(2, train_clipped, optimizer):
        assert found == pytest.approx(norms, rel=1e-4)
        assert_close(weights, whole, 1e-5)


def test_optimizers_that_need_dense_gradients_are_refused():
    with pytest.raises(
        PartArgumentError, match=r"embed.weight are sparse, and optimizer adamw needs dense ones"
    ):
        train()
    with pytest.raises(PartArgumentError, match="momentum of all rows"):
        train(optimizer="sgd(momentum=0.9)")
    with pytest.raises(TrainingError, match="sharded weights do not support"):
        train(optimizer="sgd", strategy="fsdp")


def train_to_a_gradient_that_is_not_finite():
    model = build()
    for step in rk.loop(model, data(), steps=2, batch=8, optimizer="sgd", progress=False, device="cpu"):
        step.backward(step.model(step.batch).total)
        embedding = model.factors["code"].encoder.embed.weight
        embedding.grad = embedding.grad * float("nan")
        step.update()


def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(TrainingError, match="embed.weight"):
        train_to_a_gradient_that_is_not_finite()
