"""``Model.score`` against values computed by hand; private names of the model are not used elsewhere."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributions import Categorical, Normal

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError

ROOT = Path(__file__).parents[2]
VECTORS = Signature({"x": Field(kind="vector", shape=(5,))})
IMAGES = Signature({"x": Field(kind="image", shape=(8, 8, 1))})
SYMBOLS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=7)})
FRAMES = Signature({"x": Field(kind="sequence", shape=(None, 2))})


def vectors():
    return rk.build(
        data=VECTORS, encoder="mlp(width=8)", latent="continuous(dim=3)", decoder="mlp(width=8, scale=0.5)"
    ).eval()


def images(objective="reconstruction"):
    vit = "vit(patch=4, width=8, depth=1, heads=2)"
    return rk.build(
        data=IMAGES, encoder=vit, latent="continuous(dim=4)", decoder=vit, objective=objective
    ).eval()


def texts(decoder="gru(width=8, causal=True)", **options):
    return rk.build(
        data=SYMBOLS, encoder="gru(width=8)", latent="continuous(dim=4)", decoder=decoder, **options
    ).eval()


def padded_symbols():
    x = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    return {"x": x, "x_mask": torch.tensor([[True] * 4, [True, True, False, False]])}


# ------------------------------------------------------------------ values


def test_images_of_another_size_are_refused_without_an_encoder():
    decoder = "transformer(width=8, depth=1, heads=2, causal=True)"
    model = rk.build(data=IMAGES, decoder=decoder, objective="autoregressive").eval()
    height, width, channels = IMAGES["x"].shape
    with pytest.raises(DataError, match="has shape"):
        model.score({"x": torch.rand(2, 2 * height, width, channels)})


def test_nats_of_real_values():
    model, batch = vectors(), {"x": torch.randn(6, 5)}
    with torch.no_grad():
        scored = model.score(batch)
        decoded = model.decode(model.encode(batch))
    elements = -Normal(decoded.x, 0.5).log_prob(batch["x"].unsqueeze(1))
    torch.testing.assert_close(scored.target, batch["x"].unsqueeze(1))
    assert scored.weight is None
    assert torch.equal(scored.full_weight, torch.ones(6, 1, 5))
    torch.testing.assert_close(scored.nats, elements.sum(-1))
    torch.testing.assert_close(scored.per_example, elements.sum((1, 2)))
    torch.testing.assert_close(scored.total, elements.sum())
    assert scored.loss == (scored.total, 6)
    squares = (decoded.x - batch["x"].unsqueeze(1)).square()
    torch.testing.assert_close(scored.metrics["error"], squares.sum() / 6)
    torch.testing.assert_close(scored.rates["bits_per_dim"], elements.mean() / math.log(2))


def test_padding_does_not_count_and_perplexity_is_per_symbol():
    model, batch = texts("gru(width=8, causal=False)"), padded_symbols()
    with torch.no_grad():
        scored = model.score(batch)
    logits = scored.decoded.params["logits"].squeeze(-2)
    each = -Categorical(logits=logits).log_prob(batch["x"]) * batch["x_mask"]
    torch.testing.assert_close(scored.nats, each)
    torch.testing.assert_close(scored.per_example, each.sum(1))
    assert torch.equal(scored.weight, batch["x_mask"].unsqueeze(-1).float())
    expected = (each.sum() / 6).exp()
    torch.testing.assert_close(scored.metrics, {"perplexity": expected})
    torch.testing.assert_close(scored.rates, {"perplexity": expected})


def test_padded_frames_count_element_by_element():
    model = rk.build(
        data=FRAMES, encoder="gru(width=8)", latent="continuous(dim=4)", decoder="gru(width=8, causal=False)"
    )
    batch = {"x": torch.randn(2, 4, 2), "x_mask": torch.tensor([[True] * 4, [True, False, False, False]])}
    scored = model.eval().score(batch)
    assert scored.full_weight.sum() == 10
    squares = (scored.decoded.x - batch["x"]).square().sum(-1) * batch["x_mask"]
    torch.testing.assert_close(scored.metrics["error"], squares.sum() / 2)
    alone = model.score({"x": batch["x"][1:, :1]})
    torch.testing.assert_close(scored.per_example[1:], alone.per_example)


# ------------------------------------------------------------------ options


def test_codes_argument_is_decoded():
    model, batch = vectors(), {"x": torch.randn(4, 5)}
    codes = model.encode({"x": torch.randn(4, 5)})
    scored = model.score(batch, codes)
    assert torch.equal(scored.decoded.x, model.decode(codes).x)
    assert torch.equal(scored.target.squeeze(1), batch["x"])


def test_a_view_is_read_and_the_batch_is_the_target():
    model, batch = vectors(), {"x": torch.randn(4, 5)}
    view = {"x": torch.zeros(4, 5)}
    scored = model.score(batch, view=view)
    assert torch.equal(scored.decoded.x, model.decode(model.encode(view, in_range=False)).x)
    assert torch.equal(scored.target.squeeze(1), batch["x"])


def test_a_causal_decoder_reads_the_target_with_teacher_forcing_only():
    model, batch = texts(), padded_symbols()
    codes, teacher = model.encode(batch), batch["x"].unsqueeze(-1)
    forced, free = model.score(batch), model.score(batch, teacher_forcing=False)
    torch.testing.assert_close(
        forced.nats, model.decode(codes, teacher=teacher).nll(teacher) * batch["x_mask"]
    )
    torch.testing.assert_close(free.nats, model.decode(codes, length=4).nll(teacher) * batch["x_mask"])
    assert not torch.allclose(forced.nats, free.nats)


def test_a_model_without_an_encoder():
    model = rk.build(data=SYMBOLS, decoder="gru(width=8, causal=True)", objective="autoregressive").eval()
    batch = padded_symbols()
    teacher = batch["x"].unsqueeze(-1)
    torch.testing.assert_close(
        model.score(batch).nats, model.decode(teacher=teacher).nll(teacher) * batch["x_mask"]
    )


def test_queries_score_only_those_tokens():
    model, batch = images(), {"x": torch.rand(3, 8, 8, 1)}
    queries = torch.tensor([[0, 3], [2, 1], [3, 0]])
    some, every = model.score(batch, queries=queries), model.score(batch)
    assert some.decoded.x.shape == some.target.shape == (3, 2, 16)
    torch.testing.assert_close(some.nats, every.nats.gather(1, queries))
    assert torch.equal(some.target[1, 0], batch["x"][1, 4:, :4].flatten())  # token 2: the lower left patch


def test_queries_raise_for_a_decoder_without_them():
    with pytest.raises(
        BuildError, match=r"decoder .*mlp can only decode all its tokens, and queries= selects some"
    ):
        vectors().score({"x": torch.randn(2, 5)}, queries=torch.zeros(2, 1, dtype=torch.long))


def test_models_that_cannot_score_raise():
    without = rk.build(
        data=IMAGES, encoder="vit(patch=4, width=8, depth=1, heads=2)", objective="contrastive"
    )
    for ask in (without.get_decoder, lambda: without.score({"x": torch.rand(2, 8, 8, 1)})):
        with pytest.raises(BuildError, match=r"no decoder: objective reprkit/contrastive does not need one"):
            ask()
    assert without.output_field is IMAGES["x"]
    without.signature = None
    with pytest.raises(BuildError, match="built without data="):
        _ = without.output_field


# ------------------------------------------------------------------ the result


def test_restrict_excludes_elements():
    model, batch = texts("gru(width=8, causal=False)"), padded_symbols()
    scored = model.score(batch)
    first = torch.zeros(2, 4, 1)
    first[:, 1:] = 1
    fewer = scored.restrict(first)
    torch.testing.assert_close(fewer.nats, scored.nats * first.squeeze(-1))
    assert fewer.full_weight.sum() == 4  # of six valid symbols, two are first ones
    assert scored.restrict(None) is scored
    whole = vectors().score({"x": torch.randn(2, 5)}).restrict(torch.ones(2, 1, 5))
    assert torch.equal(whole.weight, torch.ones(2, 1, 5))


def test_another_target():
    scored = vectors().score({"x": torch.randn(4, 5)})
    assert scored.nats.shape == (4, 1)  # cached now, and not copied by replace
    other = replace(scored, target=scored.decoded.x.detach())
    assert other.metrics["error"] == 0
    torch.testing.assert_close(other.total, torch.tensor(20 * (math.log(0.5) + 0.5 * math.log(2 * math.pi))))


def test_as_tokens_cuts_values_like_the_target():
    model, batch = images(), {"x": torch.rand(2, 8, 8, 1)}
    decoded = model.score(batch).decoded
    assert torch.equal(model.as_tokens(batch["x"], decoded), model.target(batch, decoded))
    assert torch.equal(model.as_tokens(batch["x"] > 0.5, decoded), model.target(batch, decoded) > 0.5)


@pytest.mark.parametrize("attribute", ["metrics", "rates"])
def test_reading_metrics_first_keeps_the_gradient_of_the_loss(attribute):
    for model, batch in ((vectors(), {"x": torch.randn(4, 5)}), (texts(), padded_symbols())):
        scored = model.score(batch)
        assert not any(each.requires_grad for each in getattr(scored, attribute).values())
        scored.loss[0].backward()
        assert all(each.grad is not None for each in model.decoder.parameters())


def test_the_likelihood_is_computed_once_and_on_demand(monkeypatch):
    from reprkit.likelihoods.categorical import Categorical

    calls, plain = [], Categorical.nll
    monkeypatch.setattr(Categorical, "nll", lambda *args: calls.append(1) or plain(*args))
    scored = texts().score(padded_symbols())
    assert scored.decoded.x.shape == (2, 4, 1)
    assert not calls
    assert scored.metrics == scored.rates
    assert scored.loss[0] == scored.nats.sum()
    assert len(calls) == 1


def test_a_sum_of_objectives_scores_one_code():
    model = images("reconstruction + 0.5 * reconstruction").train()
    seen = []
    model.factors["code"].encoder.register_forward_hook(lambda *_: seen.append(1))
    losses = model({"x": torch.rand(2, 8, 8, 1)})
    assert len(seen) == 1
    torch.testing.assert_close(losses.total, 1.5 * losses.terms["reconstruction"])


# ------------------------------------------------------------------ private names


def private_names():
    """Return the private names of the class Model: methods and attributes."""
    (cls,) = (
        each
        for each in ast.parse((ROOT / "reprkit/models/model.py").read_text()).body
        if isinstance(each, ast.ClassDef) and each.name == "Model"
    )
    methods = {each.name for each in cls.body if isinstance(each, ast.FunctionDef)}
    own = {
        each.attr
        for each in ast.walk(cls)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
    }
    # ``_repr_html_`` is a method that notebooks call on any object.
    return {name for name in methods | own if name.startswith("_") and not name.endswith("_")}


def find_uses(source, names):
    """Yield (line, text) where one of the names is read from another object than ``self``."""
    for each in ast.walk(ast.parse(source)):
        own = (
            isinstance(each, ast.Attribute)
            and isinstance(each.value, ast.Name)
            and each.value.id in ("self", "cls")
        )
        if isinstance(each, ast.Attribute) and each.attr in names and not own:
            yield each.lineno, ast.unparse(each)


def test_private_names_of_the_model_are_used_only_by_itself():
    names = private_names()
    assert {"_check", "_forward_cache"} <= names
    assert {
        text
        for _, text in find_uses("self.model._check(batch)\nlearner._forward_cache\nself._check()", names)
    } == {
        "self.model._check",
        "learner._forward_cache",
    }
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for folder in ("reprkit", "plugins", "recipes")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file != ROOT / "reprkit/models/model.py"
        for line, text in find_uses(file.read_text(), names)
    ]
    assert not found, "\n".join(found)


# ------------------------------------------------------------------ outputs that are more than a product over elements


class Counting(rk.interfaces.Decoder):
    """The mean of the code; counts how often its point estimate is computed."""

    def __init__(self, *, has_point=True, decoded=rk.Decoded):
        super().__init__()
        self.in_dim, self.linear, self.has_point, self.decoded, self.calls = (
            3,
            torch.nn.Linear(3, 5),
            has_point,
            decoded,
            0,
        )

    def forward(self, features, *, teacher=None, length=None):
        mean = self.linear(features.x)

        def point():
            self.calls += 1
            return mean + 1

        params = {"mean": mean, "log_scale": torch.zeros(1, 1, 1)}
        generated = features.x.square().sum((1, 2))
        more = {"x": point} if self.has_point else {"has_point": False}
        return self.decoded(likelihood="gaussian", params=params, grid=(1,), code_nll=generated, **more)


def generated(**options):
    return rk.build(
        data=VECTORS, encoder="mlp(width=8)", latent="continuous(dim=3)", decoder=Counting(**options)
    )


def test_what_a_decoder_generates_is_scored():
    model, batch = generated(), {"x": torch.randn(6, 5)}
    codes = model.encode(batch)
    scored = model.score(batch, codes)
    extra = model.merge(codes).x.square().sum((1, 2))
    torch.testing.assert_close(scored.per_example, scored.nats.sum(1) + extra)
    torch.testing.assert_close(scored.total, scored.per_example.sum())
    losses = model(batch)
    torch.testing.assert_close(losses.terms["reconstruction"], scored.total.detach() / 6)
    assert losses.metrics["error"] > 0


def test_the_point_estimate_is_computed_once_where_it_is_read():
    model, batch = generated(), {"x": torch.randn(6, 5)}
    decoder = model.decoder
    decoder.calls = 0
    scored = model.score(batch)
    assert scored.total.requires_grad
    assert decoder.calls == 0, "a loss needs none"
    with torch.no_grad():
        first = scored.decoded.x
    assert scored.decoded.x is first
    assert decoder.calls == 1
    assert first.requires_grad, "as the output was created"
    torch.testing.assert_close(first, scored.decoded.params["mean"] + 1)
    plain = rk.Decoded(likelihood="gaussian", params=scored.decoded.params)
    assert plain.x is plain.params["mean"]
    assert replace(plain, grid=(1,)).x is plain.x


def test_an_output_without_a_point_estimate_is_evaluated_without():
    model = generated(has_point=False).eval()
    data = rk.dataset({"x": torch.randn(8, 5)})
    metrics = rk.evaluate(model, data, "reconstruction")["reconstruction"]
    assert set(metrics) == {"nll"}
    assert metrics["nll"] == pytest.approx(float(model.score(data.batch(range(8))).total) / 8, rel=1e-5)
    decoded = model.score(data.batch(range(8))).decoded
    assert replace(decoded, grid=(1,)).has_point is False
    with pytest.raises(PartArgumentError, match="no point estimate"):
        _ = decoded.x.shape


class Halved(rk.Decoded):
    """A likelihood of its own: half the nats."""

    def nll(self, target, weight=None):
        return 0.5 * super().nll(target, weight)


def test_everything_scores_by_an_overridden_nll():
    data = rk.dataset({"x": torch.randn(8, 5)})
    batch = data.batch(range(8))
    signature = {"data": VECTORS, "encoder": "mlp(width=8)", "latent": "gaussian(dim=3)"}
    plain = rk.build(**signature, decoder=Counting()).eval()
    own = rk.build(**signature, decoder=Counting(decoded=Halved)).eval()
    own.load_state_dict(plain.state_dict())
    scored = [model.score(batch) for model in (plain, own)]
    torch.testing.assert_close(scored[1].nats, 0.5 * scored[0].nats)
    nll = [rk.evaluate(model, data, "likelihood(samples=2)")["likelihood"]["nll"] for model in (plain, own)]
    assert nll[1] < nll[0]
    found = rk.evaluate(own, data, "reconstruction")["reconstruction"]["nll"]
    assert found == pytest.approx(float(scored[1].total) / 8, rel=1e-5)
