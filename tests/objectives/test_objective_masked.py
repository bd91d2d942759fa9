import math

import pytest
import torch
from learning import FRAMES, digits, evaluate_on_test, fit, freeze_encoder, padded_batch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.layers.gather_rows import gather_tokens
from reprkit.models.grid import to_tokens
from reprkit.objectives.masked import select_tokens, token_moments

VIT = "vit(patch=2, width=16, depth=1, heads=2)"
SMALL = {"encoder": VIT, "latent": "continuous(dim=8)", "decoder": VIT}


def draws(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("n", "ratio", "k"),
    [(16, 0.75, 4), (196, 0.75, 49), (16, 0.99, 1), (16, 0.01, 15), (5, 0.5, 3), (2, 0.9, 1)],
)
def test_number_of_visible_tokens(n, ratio, k):
    keep, hidden = select_tokens(draws(50, n), None, ratio)
    assert keep.shape == (50, k)
    assert bool((keep[:, 1:] > keep[:, :-1]).all()), "ascending, so different"
    again = torch.ones(50, n, dtype=torch.bool).scatter(1, keep, False)
    assert torch.equal(hidden, again)


def test_every_token_is_equally_likely():
    keep, _ = select_tokens(draws(8000, 8), None, 0.75)
    share = torch.bincount(keep.flatten(), minlength=8) / 8000
    assert bool(((share - 0.25).abs() < 4 * math.sqrt(0.25 * 0.75 / 8000)).all()), share


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.7, 0.75, 0.9, 0.95])
def test_shorter_examples_keep_the_same_fraction_and_are_padded(ratio):
    lengths = torch.tensor([20, 19, 11, 7, 2, 1] * 5)
    valid = torch.arange(20) < lengths.unsqueeze(1)
    keep, hidden = select_tokens(draws(30, 20), valid, ratio)
    real = valid.gather(1, keep)
    for row, length in enumerate(lengths.tolist()):
        assert len(set(keep[row].tolist())) == keep.shape[1]
        wanted = max(1, min(length - 1, math.floor(length * (1 - ratio) + 0.5)))
        assert int(real[row].sum()) == wanted
        assert int(hidden[row].sum()) == length - wanted
    assert not bool((hidden & ~valid).any())
    assert not bool(hidden.gather(1, keep).any())


def test_an_example_of_padding_only_hides_nothing():
    keep, hidden = select_tokens(draws(2, 6), torch.tensor([[True] * 6, [False] * 6]), 0.5)
    assert keep.shape == (2, 3)
    assert hidden.sum(1).tolist() == [3, 0]


@pytest.mark.parametrize("on", ["masked", "all"])
def test_the_encoder_reads_visible_tokens_and_the_loss_is_on_hidden_ones(on):
    model = rk.build(data=digits()[0], objective=f"masked(ratio=0.5, on={on!r})", **SMALL).eval()
    batch = digits()[0].batch(range(6))
    losses = model(batch)
    keep, hidden = model.objective.draw(batch, model.factors["code"], fixed=True)
    decoded = model.decode(model.encode(batch, keep=keep))
    target = to_tokens(batch["x"], (4, 4), "image")
    scale = decoded.params["log_scale"].exp().expand_as(decoded.x)
    elements = -torch.distributions.Normal(decoded.x, scale).log_prob(target)
    counted = hidden if on == "masked" else torch.ones_like(hidden)
    torch.testing.assert_close(losses.terms["masked"], (elements.sum(-1) * counted).sum(1).mean())
    error = ((decoded.x - target).square().sum(-1) * counted).sum(1).mean()
    torch.testing.assert_close(losses.metrics["error"], error)
    # What is hidden reaches the loss as target only: not the codes.
    shown = to_tokens(batch["x"], (4, 4), "image").masked_fill(hidden.unsqueeze(-1), 0.3)
    other = {**batch, "x": model.to_batch(rk.types.replace(decoded, x=shown))["x"]}
    assert torch.equal(model.encode(other, keep=keep).z, model.encode(batch, keep=keep).z)
    assert torch.equal(gather_tokens(shown, keep), gather_tokens(target, keep))


def test_draws_vary_in_training_and_are_fixed_in_evaluation():
    model = rk.build(data=digits()[0], objective="masked", **SMALL)
    batch = digits()[0].batch(range(6))
    torch.manual_seed(1)
    first, second = model(batch).total, model(batch).total
    torch.manual_seed(1)
    assert torch.equal(first, model(batch).total)
    assert not torch.equal(first, second)
    model.eval()
    state = torch.get_rng_state()
    assert torch.equal(model(batch).total, model(batch).total)
    assert torch.equal(state, torch.get_rng_state()), "evaluation leaves the global generator alone"


def test_an_encoder_of_rows_and_a_decoder_of_patches():
    model = rk.build(
        data=digits()[0], encoder="gru(width=8)", decoder=VIT, objective="masked(ratio=0.75)"
    ).eval()
    batch = digits()[0].batch(range(4))
    keep, hidden = model.objective.draw(batch, model.factors["code"], fixed=True)
    decoded = model.decode(model.encode(batch, keep=keep))
    pixels = hidden.view(4, 8, 1, 1).expand(4, 8, 8, 1)
    nll = decoded.nll(to_tokens(batch["x"], (4, 4), "image"), to_tokens(pixels, (4, 4), "image").float())
    torch.testing.assert_close(model(batch).total, nll.sum(1).mean())


def test_normalized_targets_match_the_paper():
    model = rk.build(data=digits()[0], objective="masked(normalize=True)", **SMALL).eval()
    batch = digits()[0].batch(range(4))
    keep, hidden = model.objective.draw(batch, model.factors["code"], fixed=True)
    decoded = model.decode(model.encode(batch, keep=keep))
    target = to_tokens(batch["x"], (4, 4), "image")
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    torch.testing.assert_close(model(batch).total, (decoded.nll(target) * hidden).sum(1).mean())


def test_token_moments_match_torch():
    target = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0)) * 3 + 2
    variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
    torch.testing.assert_close(token_moments(target), (mean, target - mean, (variance + 1e-6).sqrt()))
    assert token_moments(torch.ones(1, 1, 3))[2] == pytest.approx(1e-3)


def test_factors_with_equal_grids_share_a_draw():
    options = {"data": digits()[0], "decoder": VIT, "objective": "masked(ratio=0.5)"}
    batch = digits()[0].batch(range(4))
    same = rk.build(factors={"a": rk.factor(VIT), "b": rk.factor(VIT, "gaussian(dim=4)")}, **options)
    seen = watch(same, batch)
    assert torch.equal(seen["a"], seen["b"])
    model = rk.build(factors={"a": rk.factor(VIT), "b": rk.factor("gru(width=8)")}, **options)
    seen = watch(model, batch)
    assert seen["a"].shape == (4, 8)
    assert seen["b"].shape == (4, 4)
    # Hidden is what neither saw: of 16 patches those that are not kept, in rows that are not kept.
    patches = (
        torch.ones(4, 16)
        .scatter(1, seen["a"], 0)
        .view(4, 4, 1, 4, 1)
        .expand(4, 4, 2, 4, 2)
        .reshape(4, 8, 8, 1)
    )
    rows = torch.ones(4, 8).scatter(1, seen["b"], 0).view(4, 8, 1, 1)
    model.decode = lambda codes, length=None: rk.types.Decoded(
        x=torch.zeros(4, 16, 4),
        likelihood="gaussian",
        params={"mean": torch.zeros(1, 1, 1), "log_scale": torch.zeros(1, 1, 1)},
        grid=(4, 4),
    )
    torch.manual_seed(0)
    error = model(batch).metrics["error"]
    torch.testing.assert_close(error, (batch["x"].square() * patches * rows).sum() / 4)


def watch(model, batch):
    """Return the tokens that each factor's encoder reads."""
    seen = {}
    for name, path in model.factors.items():
        path.encoder.register_forward_hook(
            lambda module, args, kwargs, out, name=name: seen.__setitem__(name, kwargs["keep"]),
            with_kwargs=True,
        )
    torch.manual_seed(0)
    model(batch)
    return seen


def test_another_output_field_is_predicted_completely():
    signature = Signature({"x": digits()[0].signature["x"], "y": digits()[0].signature["x"]})
    model = rk.build(
        data=signature,
        factors={"code": rk.factor(VIT, input="y")},
        decoder=VIT,
        objective="masked(ratio=0.5)",
    )
    batch = {"x": torch.rand(3, 8, 8, 1), "y": torch.rand(3, 8, 8, 1)}
    model.eval()
    keep, _ = model.objective.draw({"x": batch["y"]}, model.factors["code"], fixed=True)
    decoded = model.decode(model.encode(batch, keep=keep))
    torch.testing.assert_close(model(batch).total, decoded.nll(model.target(batch, decoded)).sum(1).mean())


@pytest.mark.parametrize("encoder", ["gru(width=8)", "transformer(width=8, depth=1, heads=2)"])
def test_padding_has_no_effect(encoder):
    model = rk.build(
        data=Signature({"x": FRAMES["x"]}),
        encoder=encoder,
        decoder="transformer(width=8, depth=1, heads=2)",
        objective="masked(ratio=0.5)",
    )
    batch = padded_batch(FRAMES, [9, 4, 1])
    torch.manual_seed(0)
    loss = model(batch).total
    other = {
        **batch,
        "x": torch.where(batch["x_mask"].unsqueeze(-1), batch["x"], torch.randn_like(batch["x"])),
    }
    torch.manual_seed(0)
    torch.testing.assert_close(model(other).total, loss)
    loss.backward()


def test_invalid_arguments_are_refused():
    for value in (0.0, 1.0, -0.5, "most"):
        with pytest.raises(PartArgumentError, match="must be a number above 0 and below 1"):
            rk.create("objective", f"masked(ratio={value!r})")
    with pytest.raises(PartArgumentError, match="'masked' or 'all'"):
        rk.create("objective", "masked(on='hit')")
    with pytest.raises(BuildError, match="cannot read only some"):
        rk.build(data=digits()[0], encoder="mlp", decoder="mlp", objective="masked")
    with pytest.raises(BuildError, match="reads an example as one"):
        rk.build(
            data=digits()[0], encoder="vit(patch=8, width=8, heads=2)", decoder="mlp", objective="masked"
        )
    faces = Signature({"x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0), vocab=2)})
    model = rk.build(data=faces, objective="masked(normalize=True)", **SMALL)
    with pytest.raises(BuildError, match="not bernoulli"):
        model({"x": torch.ones(2, 8, 8, 1)})


def test_a_decoder_of_single_tokens_is_refused():
    """Its hidden tokens have no code, so nothing would be learned."""
    data = Signature({"x": Field(kind="tokens", shape=(6,), vocab=5)})
    parts = {"data": data, "encoder": "gru(width=8)", "latent": "continuous(dim=3)", "decoder": "flat"}
    with pytest.raises(BuildError, match="flat decodes each token of the code by itself"):
        rk.build(**parts, objective="masked")
    rk.build(**parts, objective="reconstruction")


@pytest.mark.slow
def test_it_learns_from_visible_tokens():
    options = {
        "data": digits()[0],
        "encoder": "vit(patch=2, width=32, depth=1, heads=2)",
        "latent": "continuous(dim=32)",
        "decoder": "mlp(width=128)",
        "objective": "masked(ratio=0.5)",
    }
    learned = evaluate_on_test(fit(rk.build(**options), 300, lr=4e-3, size=64))
    without = evaluate_on_test(fit(freeze_encoder(rk.build(**options)), 300, lr=4e-3, size=64))
    # Of the mean digit 2.33 is left on half of the patches, of the best linear prediction from the others 1.26.
    assert learned["error"] < 1.25, learned
    assert without["error"] > 1.08 * learned["error"], (learned, without)
