"""One step of a model: encodings, names and weights of losses, and error notes."""

import pytest
import torch
from small_models import PAIRS, Cut, Row, Taxed, Views, make_batch, make_model

import reprkit as rk
from reprkit.errors import BuildError

# ------------------------------------------------------------------ what a step costs


@pytest.mark.parametrize(
    ("views", "encodings"),
    [
        (["same"], 1),
        (["same", "same"], 1),
        (["same", "other"], 2),
        (["same", "other", "keep", "other"], 4 - 1),
        (["keep", "keep"], 1),
    ],
)
def test_each_distinct_view_is_encoded_once_and_its_losses_count_once(views, encodings):
    model = make_model(decoder=None, objective=Views(views))
    encoder = model.factors["code"].encoder
    encoder.calls = 0
    losses = model(make_batch())
    assert encoder.calls == encodings
    seen = {id(codes["code"]): codes for codes in model.objective.seen}
    assert len(seen) == encodings
    tax = sum(codes.losses["tax"] for codes in seen.values())
    torch.testing.assert_close(losses.terms["tax"], tax)
    toll = sum(codes.losses["toll"] for codes in seen.values())
    torch.testing.assert_close(
        losses.total, 1 + 0.5 * tax + toll
    )  # weights: the latent's own, 1 where not named
    assert float(losses.metrics["bits"]) == 7
    assert {"size", "usage"} <= losses.metrics.keys()


def test_the_forward_cache_is_empty_between_steps():
    model = make_model()
    encoder, batch = model.factors["code"].encoder, make_batch()
    model(batch)
    encoder.calls = 0
    model(batch)
    assert encoder.calls == 1
    model.encode(batch)
    model.encode(batch)
    assert encoder.calls == 3


def test_an_error_in_a_step_clears_the_forward_cache():
    model = make_model()
    model.factors["code"].encoder.forward = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model(make_batch())
    del model.factors["code"].encoder.forward
    encoder = model.factors["code"].encoder
    encoder.calls = 0
    model.encode(make_batch())
    model.encode(make_batch())
    assert encoder.calls == 2


def test_weights_override_the_parts_own():
    batch = make_batch()
    plain = make_model()(batch)
    expected = plain.terms["reconstruction"] + 0.5 * plain.terms["tax"] + plain.terms["toll"]
    torch.testing.assert_close(plain.total, expected)
    other = make_model(weights={"tax": 3.0, "toll": 0.0, "reconstruction": 0.1})(batch)
    assert other.terms["tax"] == plain.terms["tax"], "terms are not weighted"
    torch.testing.assert_close(other.total, 0.1 * plain.terms["reconstruction"] + 3 * plain.terms["tax"])


def test_a_weight_without_a_loss_raises_at_the_first_step():
    model = make_model(weights={"taxes": 1.0})
    with pytest.raises(BuildError, match="no loss named 'taxes'.*'tax'"):
        model(make_batch())
    with pytest.raises(BuildError, match="no factor named 'content'"):
        make_model(weights={"content.tax": 1.0})
    with pytest.raises(BuildError, match="must be a finite number"):
        make_model(weights={"tax": "high"})


def test_factors_have_their_own_names_and_weights():
    model = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(2), Taxed(3), input="y")},
        decoder=Row(2),
        weights={"b.tax": 0.0, "b.toll": 0.0, "a.toll": 2.0},
    )
    losses = model(make_batch())
    terms = losses.terms
    assert terms.keys() == {"reconstruction", "a.tax", "a.toll", "b.tax", "b.toll"}
    torch.testing.assert_close(
        losses.total, terms["reconstruction"] + 0.5 * terms["a.tax"] + 2 * terms["a.toll"]
    )
    assert {"a.usage", "b.usage", "a.bits", "b.size"} <= losses.metrics.keys()
    assert not torch.equal(terms["a.tax"], terms["b.tax"])


def test_metrics_of_one_name_are_numbered_and_losses_are_detached():
    class Twice(Views):
        def forward(self, model, batch, turn="main"):
            model.record(error=1.0)
            model.record(error=torch.full((), 2.0, requires_grad=True), other=3)
            return super().forward(model, batch, turn)

    losses = make_model(decoder=None, objective=Twice(["same"]))(make_batch())
    assert [float(losses.metrics[name]) for name in ("error", "error-2", "other")] == [1, 2, 3]
    assert losses.total.requires_grad
    assert not any(value.requires_grad for value in [*losses.terms.values(), *losses.metrics.values()])


# ------------------------------------------------------------------ blame


def test_errors_name_the_part():
    class Sour(Taxed):
        def forward(self, features):
            if features.x.shape[0] == 3:
                raise ZeroDivisionError("sour")
            return super().forward(features)

    class Torn(Cut):
        def forward(self, batch, *, keep=None):
            if batch["x"].shape[0] == 3:
                raise ZeroDivisionError("torn")
            return super().forward(batch, keep=keep)

    class Lost(Row):
        def forward(self, features, *, teacher=None, length=None):
            if features.x.shape[0] == 3:
                raise ZeroDivisionError("lost")
            return super().forward(features)

    for options, note in [
        ({"latent": Sour(2)}, "in latent .*Sour, factor code"),
        ({"encoder": Torn(3)}, "in encoder .*Torn, factor code"),
        ({"decoder": Lost(2)}, "in decoder .*Lost"),
    ]:
        with pytest.raises(ZeroDivisionError) as caught:
            make_model(**options)(make_batch(3))
        assert len(caught.value.__notes__) == 2, caught.value.__notes__
        assert caught.match(note)
        assert caught.match("in objective reprkit/reconstruction")
    with pytest.raises(BuildError, match="no decoder"):
        make_model(decoder=None, objective=Views(["same"])).decode(None)


def test_usage_is_observed_in_training_only():
    model = make_model()
    model.eval()
    model(make_batch())
    usage = model.factors["code"].usage
    assert float(usage.value()) == 0
    model.train()
    assert float(model(make_batch()).metrics["usage"]) == 1.0
    model.update()
    assert float(usage.value()) == 1.0


def test_a_schedule_changes_a_weight_with_the_updates():
    model, batch = make_model(weights={"tax": "4 * warmup(2)", "reconstruction": "decay(4)"}), make_batch()
    for tax, rest in ((0.0, 1.0), (2.0, 0.75), (4.0, 0.5), (4.0, 0.25)):
        losses = model(batch)
        terms = losses.terms
        expected = rest * terms["reconstruction"] + tax * terms["tax"] + terms["toll"]
        torch.testing.assert_close(losses.total, expected)
        model.update()
    model.eval()
    expected = 4 * terms["tax"] + terms["toll"]
    torch.testing.assert_close(model(batch).total, expected, msg="evaluation uses the weight at the end")


@pytest.mark.parametrize("value", ["warmup", "warmup(0)", "warmup(-1)", "x * warmup(3)", "inf * warmup(3)"])
def test_a_weight_that_is_no_schedule_is_refused(value):
    with pytest.raises(BuildError, match="weights: 'tax'"):
        make_model(weights={"tax": value})


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(BuildError, match="no schedule named 'warmpu'.*Did you mean 'warmup'"):
        make_model(weights={"tax": "warmpu(200)"})


def test_a_schedule_is_saved_with_the_model(tmp_path):
    weights = {"kl": "0.5 * warmup(10)", "reconstruction": 2.0}
    model = rk.build(data=PAIRS, encoder="mlp", latent="gaussian(dim=2)", decoder="mlp", weights=weights)
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.weights == weights
    assert loaded.train().objective_weight("kl") == 0.0
    assert loaded.eval().objective_weight("kl") == 0.5


def test_draws_repeat_each_example_and_cost_one_encoding():
    encoder = Cut(3)
    latent = "gaussian(dim=2)"
    model = rk.build(data=PAIRS, encoder=encoder, latent=latent, decoder=Row(2))
    batch, encoder.calls = make_batch(), 0
    codes = model.encode(batch, draws=3)
    assert codes.z.shape == (12, 3, 2)
    assert encoder.calls == 1
    means, draws = codes.mean.unflatten(0, (4, 3)), codes.z.unflatten(0, (4, 3))
    torch.testing.assert_close(means[:, :1].expand_as(means), means)
    assert not torch.equal(draws[:, 0], draws[:, 1])
    scored = model.score(batch, codes, draws=3)
    torch.testing.assert_close(scored.target, batch["x"].repeat_interleave(3, 0).unsqueeze(1))
    assert scored.per_example.shape == (12,)
    model.eval()
    evaluated = model.encode(batch, draws=2).z.unflatten(0, (4, 2))
    torch.testing.assert_close(evaluated[:, 0], model.encode(batch).z)
    torch.testing.assert_close(evaluated[:, 1], evaluated[:, 0])
