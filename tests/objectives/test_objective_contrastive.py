import math

import pytest
import torch
import torch.nn.functional as F
from learning import FRAMES, SYMBOLS, digits, evaluate_on_test, fit, freeze_encoder, full_batch, padded_batch

import reprkit as rk
from reprkit.data.signature import Field
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Corruption
from reprkit.objectives.contrastive import Contrastive, default_views
from reprkit.testing.pool import together
from reprkit.utils import collectives

MLP = {"encoder": "mlp(width=32)", "latent": "continuous(dim=8)"}


class Shift(Corruption):
    """Add 0.1 at the first call and 0.2 at the second: deterministic views."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, batch, generator=None):
        self.calls += 1
        return {**batch, "x": batch["x"] + 0.1 * self.calls}, torch.ones_like(batch["x"], dtype=torch.bool)


def equation(a, b, temperature):
    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))


def test_the_loss_is_nt_xent_of_the_projected_means():
    model = rk.build(
        data=digits()[0],
        factors={
            "patches": rk.factor("vit(patch=4, width=16, depth=1, heads=2)", "continuous(dim=6)"),
            "whole": rk.factor("mlp(width=16)", "continuous(dim=3)"),
        },
        objective=Contrastive(0.3, views=Shift(), dim=5, hidden=7),
    )
    head = model.objective.head
    assert [tuple(each.weight.shape) for each in (head[0], head[2])] == [(7, 9), (5, 7)]
    batch = digits()[0].batch(range(10))
    losses = model(batch)
    vectors = []
    for shift in (0.1, 0.2):
        codes = model.encode({**batch, "x": batch["x"] + shift}, in_range=False)
        h = torch.cat([codes["patches"].z.mean(1), codes["whole"].z[:, 0]], 1)
        hidden = (h @ head[0].weight.T + head[0].bias).relu()
        vectors.append(hidden @ head[2].weight.T + head[2].bias)
    torch.testing.assert_close(losses.terms["contrastive"], equation(*vectors, 0.3))
    assert set(losses.metrics) >= {"accuracy", "patches.usage", "whole.usage"}


def test_one_factor_s_field_alone_is_made_into_views():
    """The other factor reads a sequence, which would be refused by a corruption of images, and has no part in the loss."""
    field = Field(kind="tokens", shape=(6,), vocab=5)
    data = rk.Signature({**digits()[0].signature, "text": field})
    views = "gaussian-noise(std=0.3)"
    model = rk.build(
        data=data,
        factors={
            "image": rk.factor("mlp(width=16)", "continuous(dim=6)"),
            "text": rk.factor("gru(width=16)", "continuous(dim=3)", input="text"),
        },
        objective=Contrastive(0.3, views=views, dim=5, hidden=7, factor="image"),
    ).eval()
    head, text = model.objective.head, torch.randint(5, (10, 6))
    assert head[0].in_features == 6
    batch = {**digits()[0].batch(range(10)), "text": text}
    loss = model(batch).terms["contrastive"]
    generator = torch.Generator().manual_seed(0)
    corruption = rk.create("corruption", views, data=digits()[0].signature)
    views = [corruption(batch, generator)[0] for _ in range(2)]
    vectors = [head(model.encode(view, factors=["image"], in_range=False)["image"].z[:, 0]) for view in views]
    torch.testing.assert_close(loss, equation(*vectors, 0.3))
    torch.testing.assert_close(model({**batch, "text": text.flip(0)}).terms["contrastive"], loss)
    with pytest.raises(BuildError, match="imge"):
        rk.build(data=data, factors={"image": rk.factor("mlp")}, objective=Contrastive(factor="imge"))


def test_latent_losses_count_both_views():
    model = rk.build(
        data=digits()[0], encoder="mlp(width=16)", latent="gaussian(dim=4)", objective="contrastive"
    )
    batch = digits()[0].batch(range(8))
    torch.manual_seed(0)
    losses = model(batch)
    torch.manual_seed(0)
    view = [model.objective.damage(batch)[0]]
    first = model.encode(view[0], in_range=False)
    second = model.encode(model.objective.damage(batch)[0], in_range=False)
    torch.testing.assert_close(losses.terms["kl"], first.losses["kl"] + second.losses["kl"])


def test_evaluation_is_deterministic_and_does_not_use_the_global_generator():
    model = rk.build(data=digits()[0], objective="contrastive", **MLP).eval()
    batch, state = digits()[0].batch(range(8)), torch.get_rng_state()
    assert torch.equal(model(batch).total, model(batch).total)
    assert torch.equal(state, torch.get_rng_state())
    model.train()
    assert not torch.equal(model(batch).total, model(batch).total)


@pytest.mark.parametrize("signature", [FRAMES, SYMBOLS], ids=["frames", "symbols"])
def test_padding_has_no_effect(signature):
    model = rk.build(data=signature, encoder="gru(width=8)", objective="contrastive")
    batch = padded_batch(signature, [7, 3, 1, 5])
    mask = batch["x_mask"]
    noise = torch.randn_like(batch["x"]) if batch["x"].is_floating_point() else 4 - batch["x"]
    other = {**batch, "x": torch.where(mask.unsqueeze(-1) if noise.ndim == 3 else mask, batch["x"], noise)}
    losses = []
    for each in (batch, other):
        torch.manual_seed(0)
        losses.append(model(each).total)
    torch.testing.assert_close(*losses)
    losses[0].backward()


@pytest.mark.parametrize(
    ("field", "names"),
    [
        (Field(kind="image", shape=(9, 8, 1)), ["mask-elements", "gaussian-noise"]),
        (Field(kind="sequence", shape=(None, 4)), ["mask-spans", "gaussian-noise"]),
        (Field(kind="vector", shape=(4,), range=(0.0, 255.0)), ["mask-elements", "gaussian-noise"]),
        (Field(kind="tokens", shape=(None,), vocab=9), ["mask-elements"]),
        (None, ["mask-elements"]),
    ],
)
def test_default_views_fit_the_data(field, names):
    data = None if field is None else rk.data.Signature({"x": field})
    made = [rk.create("corruption", each, data=data) for each in default_views(field)]
    assert [each.qualified for each in made] == [f"reprkit/{name}" for name in names]
    if field is not None and field.range == (0.0, 255.0):
        assert made[1].std == pytest.approx(51)


def test_invalid_arguments_are_refused():
    for options, says in [
        ({"temperature": 0.0}, "temperature=.* must be a number from 0.005 to 1000"),
        ({"temperature": "low"}, "temperature=.* must be a number from 0.005 to 1000"),
        ({"dim": 0}, "dim=0 must be an integer"),
        ({"hidden": 1.5}, "hidden=1.5 must be an integer"),
        ({"views": ()}, "at least 1 long"),
        ({"views": 1}, "views=1 must be a string"),
    ]:
        with pytest.raises(PartArgumentError, match=says):
            Contrastive(**options)
    with pytest.raises(BuildError, match="never uses a decoder"):
        rk.build(data=digits()[0], decoder="mlp", objective="contrastive", **MLP)


@pytest.mark.slow
def test_it_separates_views_and_groups_classes():
    from sklearn.neighbors import KNeighborsClassifier

    options = {
        "data": digits()[0],
        "encoder": "mlp(width=128)",
        "latent": "continuous(dim=32)",
        "objective": "contrastive(temperature=0.2, views='gaussian-noise(std=0.3)')",
    }
    model = fit(rk.build(**options), 200, lr=4e-3)
    learned, without = (
        evaluate_on_test(model),
        evaluate_on_test(fit(freeze_encoder(rk.build(**options)), 200, lr=4e-3)),
    )
    assert learned["contrastive"] < without["contrastive"] - 0.7, (learned, without)
    assert learned["accuracy"] > 1.8 * without["accuracy"], (learned, without)
    with torch.no_grad():
        train, test = (model.represent(full_batch(part)) for part in (0, 1))
    knn = KNeighborsClassifier(5).fit(train, full_batch(0)["label"])
    assert knn.score(test, full_batch(1)["label"]) > 0.97  # labels were not seen in training


def test_it_can_be_combined_with_a_classifier():
    """The output is the label, which cannot be corrupted; the input is an image."""
    model = rk.build(
        data=digits()[0],
        decoder="mlp(width=8)",
        output="label",
        objective="reconstruction + contrastive",
        **MLP,
    )
    losses = model(digits()[0].batch(range(6)))
    losses.total.backward()
    assert losses.terms.keys() == {"reconstruction", "contrastive"}


def step(rank, latent):
    """Return loss and averaged gradients of one training step on this rank's share of sixteen digits."""
    world = collectives.world_size()
    model = rk.build(data=digits()[0], encoder="mlp(width=16)", latent=latent, objective="contrastive")
    rows = slice(rank * 16 // world, (rank + 1) * 16 // world)
    batch = {name: value[rows] for name, value in digits()[0].batch(range(16)).items()}
    torch.manual_seed(7)
    losses = model(batch)
    losses.total.backward()
    gradients = {
        name: collectives.sum_over_ranks(value.grad) / world for name, value in model.named_parameters()
    }
    return collectives.sum_over_ranks(losses.total.detach()) / world, gradients


@pytest.mark.ranks
@pytest.mark.parametrize("latent", ["continuous(dim=4)", "gaussian(dim=4)"])
@pytest.mark.slow
def test_two_ranks_equal_one_process(latent):
    total, gradients = step(0, latent)
    for seen, found in together(2, step, latent):
        torch.testing.assert_close(seen, total)
        for name, value in gradients.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
