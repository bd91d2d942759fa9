"""One step of a model: encodings, names and weights of losses, and error notes."""

import pytest
import torch
from small_models import PAIRS, Cut, Row, Taxed, Views, batch, model

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
    made = model(decoder=None, objective=Views(views))
    encoder = made.factors["code"].encoder
    encoder.calls = 0
    losses = made(batch())
    assert encoder.calls == encodings
    seen = {id(codes["code"]): codes for codes in made.objective.seen}
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
    made = model()
    encoder, given = made.factors["code"].encoder, batch()
    made(given)
    encoder.calls = 0
    made(given)
    assert encoder.calls == 1
    made.encode(given)
    made.encode(given)
    assert encoder.calls == 3


def test_an_error_in_a_step_clears_the_forward_cache():
    made = model()
    made.factors["code"].encoder.forward = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        made(batch())
    del made.factors["code"].encoder.forward
    encoder = made.factors["code"].encoder
    encoder.calls = 0
    made.encode(batch())
    made.encode(batch())
    assert encoder.calls == 2


def test_weights_override_the_parts_own():
    given = batch()
    plain = model()(given)
    expected = plain.terms["reconstruction"] + 0.5 * plain.terms["tax"] + plain.terms["toll"]
    torch.testing.assert_close(plain.total, expected)
    other = model(weights={"tax": 3.0, "toll": 0.0, "reconstruction": 0.1})(given)
    assert other.terms["tax"] == plain.terms["tax"], "terms are not weighted"
    torch.testing.assert_close(other.total, 0.1 * plain.terms["reconstruction"] + 3 * plain.terms["tax"])


def test_a_weight_without_a_loss_raises_at_the_first_step():
    made = model(weights={"taxes": 1.0})
    with pytest.raises(BuildError, match="no loss named 'taxes'.*'tax'"):
        made(batch())
    with pytest.raises(BuildError, match="no factor named 'content'"):
        model(weights={"content.tax": 1.0})
    with pytest.raises(BuildError, match="must be a number"):
        model(weights={"tax": "high"})


def test_factors_have_their_own_names_and_weights():
    made = rk.build(
        data=PAIRS,
        factors={"a": rk.factor(Cut(3), Taxed(2)), "b": rk.factor(Cut(2), Taxed(3), input="y")},
        decoder=Row(2),
        weights={"b.tax": 0.0, "b.toll": 0.0, "a.toll": 2.0},
    )
    losses = made(batch())
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

    losses = model(decoder=None, objective=Twice(["same"]))(batch())
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
            model(**options)(batch(3))
        assert len(caught.value.__notes__) == 2, caught.value.__notes__
        assert caught.match(note)
        assert caught.match("in objective reprkit/reconstruction")
    with pytest.raises(BuildError, match="no decoder"):
        model(decoder=None, objective=Views(["same"])).decode(None)


def test_usage_is_observed_in_training_only():
    made = model()
    made.eval()
    made(batch())
    usage = made.factors["code"].usage
    assert float(usage.value()) == 0
    made.train()
    assert float(made(batch()).metrics["usage"]) == 1.0
    made.update()
    assert float(usage.value()) == 1.0
