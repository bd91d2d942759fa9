import math

import pytest
import torch
from brute_force import chart_of, trees
from reprkit_structure.data.induced import InducedTrees
from reprkit_structure.evaluators.bracket_f1 import trees_of
from reprkit_structure.layers.brackets import chart_of_brackets

import reprkit as rk
from reprkit.errors import BuildError
from reprkit.types import Codes


def small(objective, latent="tree(dim=4, width=6, hidden=6, gradient='none', prior='decoder')"):
    torch.manual_seed(0)
    data = rk.dataset("sentences(size=30, longest=7)")
    model = rk.build(
        data=data, encoder="gru(width=6)", latent=latent, decoder="stack(width=6)", objective=objective
    )
    return data, model


def enumerated(model, words):
    """Of every tree of a sentence: log q, -log p of words and tree, and the latter alone; and the rows' codes."""
    count = len(words)
    charts = torch.stack([chart_of(tree, count) for tree in trees(0, count - 1)])
    batch = {"x": torch.tensor(words).expand(len(charts), -1)}
    code = model.latent().code_of(model.factors["code"].features(batch), charts)
    scored = model.score(batch, Codes({"code": code}))
    return code.log_prob.sum(1), scored.per_example, scored.decoded.code_nll


@pytest.mark.parametrize("warmup", [0, 4])
def test_gradient_and_value_are_those_of_the_evidence_lower_bound(warmup):
    """Of all trees of five words; the weight of the tree's own cost is a half after two of four steps."""
    text = "tree(dim=4, width=6, hidden=6, gradient='none', prior='decoder', warmup={})"
    _, model = small(f"urnng(samples=60, warmup={warmup})", text.format(warmup))
    model.train()
    for _ in range(2 if warmup else 0):
        model.objective.update()
        model.latent().update()
    weight, words = (0.5 if warmup else 1.0), [0, 3, 1, 2, 3]
    log_q, nats, own = enumerated(model, words)
    q, entropy = log_q.exp(), -(log_q.exp() * log_q).sum()
    assert float(q.sum().detach()) == pytest.approx(1.0, abs=1e-4)
    reward = nats - own + weight * own
    exact = (q * reward).sum() - weight * entropy
    parameter = model.latent().parser.score.weight
    expected = torch.autograd.grad(exact, parameter, retain_graph=True)[0]
    step = model({"x": torch.tensor(words).expand(30, -1)})
    found = torch.autograd.grad(step.total, parameter)[0]
    torch.testing.assert_close(found, expected, atol=0.15 * float(expected.abs().max()), rtol=0)
    assert float(step.terms["reconstruction"]) == pytest.approx(float((q * reward).sum().detach()), rel=0.01)
    kl = model.encode({"x": torch.tensor([words])})["code"].losses["kl"]
    assert float(kl.detach()) == pytest.approx(-weight * float(entropy.detach()), rel=1e-3)


def test_priors_of_the_tree_differ_by_the_number_of_trees():
    _, model = small("urnng(samples=2)")
    words = {"x": torch.tensor([[0, 3, 1, 2, 3, 1]])}
    own = float(model.encode(words)["code"].metrics["kl"])
    model.latent().prior_of = "uniform"
    assert float(model.encode(words)["code"].metrics["kl"]) - own == pytest.approx(math.log(42), abs=1e-4)


@pytest.mark.slow
def test_given_trees_are_learned():
    data, model = small("given-trees")
    lengths = data.lengths()["x"]
    binary = InducedTrees(data, small("urnng(samples=2)")[1])
    optimizer, batch = torch.optim.Adam(model.parameters(), 0.03), binary.batch(range(30))
    losses = []
    for _ in range(25):
        step = model(batch)
        optimizer.zero_grad()
        step.total.backward()
        optimizer.step()
        losses.append(step.terms["parser"].item())
    assert losses[-1] < 0.5 * losses[0]
    found = rk.evaluate(model, binary, "bracket-f1", examples=0)["bracket-f1"]
    assert found["f1"] > 0.8
    assert found["f1_best"] == pytest.approx(1.0)  # the trees of the model are binary
    gold = chart_of_brackets(batch["opens"], batch["closes"], lengths)
    assert gold.sum((1, 2)).tolist() == (2 * lengths - 1).tolist()


def test_the_parser_loss_is_the_log_probability_of_the_tree():
    data, model = small("given-trees")
    binary = InducedTrees(data, model)
    row = binary[4]
    batch = {name: value[None] for name, value in row.items()}
    chart = trees_of(model, batch)
    words = row["x"].tolist()
    log_q, nats, _ = enumerated(model, words)
    place = [torch.equal(chart_of(tree, len(words)), chart[0]) for tree in trees(0, len(words) - 1)].index(
        True
    )
    terms = model.objective(model, batch, "main")
    torch.testing.assert_close(terms["parser"][0], -log_q[place])
    torch.testing.assert_close(terms["reconstruction"][0], nats[place])


def test_other_latents_are_refused():
    with pytest.raises(BuildError, match="takes given trees"):
        small("given-trees", "tree-lstm(width=6)")
