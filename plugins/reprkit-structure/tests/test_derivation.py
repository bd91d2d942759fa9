import ast

import pytest
import torch
from brute_force import derivations
from reprkit_structure.evaluators.exact_tree import sources_of, trees_of_texts
from reprkit_structure.layers.python_rules import expression_of, form_of, rules_of

import reprkit as rk
from reprkit import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.types import Features

FORM = form_of(["a"], ["1"])
DATA = Signature(
    {
        "x": Field(kind="tokens", shape=(None,), vocab=5),
        "tree": Field(kind="tokens", shape=(None,), vocab=len(rules_of(FORM).names), form=FORM),
    }
)


def latent_of(length=5, **options):
    torch.manual_seed(0)
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return rk.create("latent", f"derivation(width=8, length={length}, prior=6, {text})", data=DATA)


def rows_of(trees, length):
    rows = torch.tensor([[*tree, *[0] * (length - len(tree))] for tree in trees])
    return rows, torch.arange(length) < torch.tensor([len(tree) for tree in trees])[:, None]


@pytest.mark.parametrize("copy", [False, True])
def test_the_probabilities_of_all_trees_sum_to_one(copy):
    latent = latent_of(copy=copy).eval()
    rows, mask = rows_of(derivations(latent.rules, 5), 5)
    assert len(rows) == 43
    features = Features(x=torch.randn(1, 3, 8).expand(len(rows), -1, -1))
    for log_prob in (latent.log_prob_of(features, rows, mask), latent.prior_log_prob_of(rows, mask)):
        assert float(log_prob.sum(1).exp().sum().detach()) == pytest.approx(1.0, abs=1e-4)


def test_every_sampled_tree_parses_and_has_its_probability():
    latent = latent_of(length=9).train()
    with torch.no_grad():
        latent.writer.out.weight.mul_(4)
    x = torch.randn(200, 3, 8)
    mask = torch.arange(3) < torch.tensor([1, 2, 3, 3] * 50)[:, None]
    code = latent(Features(x=x, mask=mask))
    lengths = code.mask.sum(1)
    for row, length in zip(code.indices.squeeze(-1).tolist(), lengths.tolist(), strict=True):
        tree = expression_of(latent.rules, row[:length])
        assert ast.dump(ast.parse(ast.unparse(tree), mode="eval").body) == ast.dump(tree)
    assert len({tuple(row) for row in code.indices.squeeze(-1).tolist()}) > 20
    given = latent.log_prob_of(Features(x=x, mask=mask), code.indices.squeeze(-1), code.mask)
    torch.testing.assert_close(given, code.log_prob)
    torch.testing.assert_close(latent.code_of(code.indices.squeeze(-1), code.mask).z, code.z)


def test_samples_follow_the_probabilities():
    latent = latent_of(length=4).train()
    trees = derivations(latent.rules, 4)
    rows, mask = rows_of(trees, 4)
    x = torch.randn(1, 3, 8)
    expected = latent.log_prob_of(Features(x=x.expand(len(rows), -1, -1)), rows, mask).sum(1).exp()
    drawn = latent(Features(x=x.expand(4000, -1, -1))).indices.squeeze(-1)
    shares = (drawn[:, None] == rows).all(-1).float().mean(0)
    assert float((shares - expected).abs().sum() / 2) < 0.06  # total variation
    assert float(shares.sum()) == pytest.approx(1.0)


def test_kl_is_the_mean_over_trees():
    """The sum of the rules' KLs along drawn trees has the mean of log q - log p."""
    latent = latent_of(length=4).train()
    rows, mask = rows_of(derivations(latent.rules, 4), 4)
    x = torch.randn(1, 3, 8)
    log_q = latent.log_prob_of(Features(x=x.expand(len(rows), -1, -1)), rows, mask).sum(1)
    exact = (log_q.exp() * (log_q - latent.prior_log_prob_of(rows, mask).sum(1))).sum()
    code = latent(Features(x=x.expand(3000, -1, -1)))
    assert float(code.metrics["kl"]) == pytest.approx(float(exact.detach()), rel=0.1)


def test_given_trees_are_checked():
    latent = latent_of(length=4)
    whole = derivations(latent.rules, 4)[0]
    with pytest.raises(PartArgumentError, match="no whole tree"):
        latent.code_of(torch.tensor([whole[:-1]]))
    with pytest.raises(PartArgumentError, match="at most length=4"):
        latent.code_of(torch.zeros(1, 7, dtype=torch.int64))
    with pytest.raises(DataError, match="derivations of a grammar"):
        rk.create("latent", "derivation", data=Signature({"x": DATA["x"], "tree": DATA["x"]}))


@pytest.mark.parametrize("baseline", ["others", "learned"])
def test_policy_gradient_is_that_of_the_expected_reward(baseline):
    torch.manual_seed(1)
    model = rk.build(
        data=DATA,
        encoder="gru(width=6)",
        latent="derivation(width=6, length=3, prior=6)",
        decoder="transformer(width=6, depth=1, heads=1, causal=True)",
        objective=f"structvae(samples=100, baseline={baseline!r}, kl=0.5, unlabelled=1)",
    )
    latent = model.latent()
    with torch.no_grad():
        latent.embedding.weight.mul_(3)
    x = torch.tensor([[0, 1, 2, 3]])
    rows, mask = rows_of(derivations(latent.rules, 3), 3)
    many = {"x": x.expand(len(rows), -1)}
    log_q = latent.log_prob_of(model.factors["code"].features(many), rows, mask).sum(1)
    nats = model.score(many, rk.Codes({"code": latent.code_of(rows, mask)})).per_example
    reward = -nats - 0.5 * (log_q - latent.prior_log_prob_of(rows, mask).sum(1))
    weights = [latent.writer.out.bias, latent.writer.out.weight]
    (exact, _) = torch.autograd.grad(-(log_q.exp() * reward.detach()).sum(), weights)

    model.train()
    terms = model.objective(model, {"x": x.expand(20, -1)}, "main")
    total, count = terms["policy"]
    found = torch.autograd.grad(total / count, weights, retain_graph=True)[0]
    torch.testing.assert_close(found, exact, atol=0.15 * float(exact.abs().max()), rtol=0)
    total, count = terms["reconstruction"]
    expected = float((log_q.exp() * nats).sum().detach())
    assert float(total.detach()) / count == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_few_trees_and_texts_alone_are_learned():
    data = rk.dataset("templates(size=60, nested=0)")
    model = rk.build(
        data=data,
        encoder="gru(width=16)",
        latent="derivation(width=16, length=28, prior=8)",
        decoder="gru(width=16, causal=True)",
        objective="structvae(samples=2, unlabelled=0.1)",
    )
    few, losses = data.subset(range(8)), []
    for step in rk.loop(model, data, steps=16, batch=8, lr=3e-2, extra={"labelled": few}):
        pairs = step.model(step.extra["labelled"])
        step.backward(pairs.total)
        texts = step.model({key: step.batch[key] for key in ("x", "x_mask")})
        step.backward(texts.total)
        step.update()
        losses.append(pairs.terms["tree"].item())
    assert set(pairs.terms) == {"tree", "prior", "reconstruction", "baseline"}
    assert pairs.terms["baseline"] == 0  # texts alone train it
    assert {"reconstruction", "policy", "baseline", "language"} <= set(texts.terms)
    assert losses[-1] < 0.7 * losses[0]
    found = rk.evaluate(model, few, "exact-tree", fit_on=few, examples=0)["exact-tree"]
    assert found["parsed"] == 1.0
    assert 0 <= found["exact"] <= found["f1"] <= 1
    rows, nats = trees_of_texts(model, few)
    assert nats / len(few) == pytest.approx(found["nats"])
    assert found["exact"] == pytest.approx(sum(own == gold for own, gold in rows) / len(few))
    text, gold, _ = sources_of(model, few)[3]
    assert (text, gold) == (data.text(3), data.source(3))


def test_other_latents_are_refused():
    for objective, decoder in (("parse", None), ("structvae", "gru(width=8, causal=True)")):
        with pytest.raises(BuildError, match="needs a latent that writes derivations"):
            rk.build(
                data=DATA,
                encoder="gru(width=8)",
                latent="binary(bits=4)",
                decoder=decoder,
                objective=objective,
            )
