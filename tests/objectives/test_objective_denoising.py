import pytest
import torch
from learning import SYMBOLS, digits, fit, full_batch, padded_batch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Corruption
from reprkit.objectives.denoising import Denoising

MLP = {"encoder": "mlp(width=128)", "latent": "continuous(dim=16)", "decoder": "mlp(width=128)"}


class Upper(Corruption):
    """Set the upper half of images to a value: a deterministic corruption."""

    def __init__(self, value=0.5):
        super().__init__()
        self.value = value

    def forward(self, batch, generator=None):
        hit = torch.zeros_like(batch["x"], dtype=torch.bool)
        hit[:, : hit.shape[1] // 2] = True
        return {**batch, "x": batch["x"].masked_fill(hit, self.value)}, hit


def upper(x, value=0.5):
    return torch.cat([torch.full_like(x[:, :4], value), x[:, 4:]], 1)


def nll(decoded, x):
    scale = decoded.params["log_scale"].exp().expand_as(decoded.x)
    return -torch.distributions.Normal(decoded.x, scale).log_prob(x)


@pytest.mark.parametrize("decoder", ["mlp(width=32)", "vit(patch=2, width=16, depth=1, heads=2)"])
@pytest.mark.parametrize("on", ["all", "hit"])
def test_the_input_is_corrupted_and_the_target_clean(on, decoder):
    model = rk.build(
        data=digits()[0], encoder="mlp(width=32)", decoder=decoder, objective=Denoising(Upper(), on=on)
    )
    batch = digits()[0].batch(range(6))
    before = {name: value.clone() for name, value in batch.items()}
    losses = model(batch)
    decoded = model.decode(model.encode({**batch, "x": upper(batch["x"])}, in_range=False))
    elements = nll(decoded, model.target(batch, decoded))
    if on == "hit":  # the upper half: of one row of pixels, or of a raster of patches, it is the first half
        elements = elements.flatten(1)[:, :32]
    torch.testing.assert_close(losses.terms["denoising"], elements.flatten(1).sum(1).mean())
    squares = (decoded.x - model.target(batch, decoded)).square().flatten(1)
    expected = squares[:, :32] if on == "hit" else squares
    torch.testing.assert_close(losses.metrics["error"], expected.sum(1).mean())
    assert all(torch.equal(batch[name], value) for name, value in before.items())


def test_evaluation_uses_clean_data_and_every_element():
    options = {"data": digits()[0], "encoder": "mlp(width=16)", "decoder": "mlp(width=16)"}
    model = rk.build(objective="denoising(on='hit')", **options).eval()
    plain = rk.build(objective="reconstruction", **options).eval()
    batch = digits()[0].batch(range(4))
    assert torch.equal(model(batch).total, model(batch).total)
    assert torch.equal(model(batch).total, plain(batch).total)


def test_draws_differ_between_steps_and_depend_on_the_seed():
    model = rk.build(data=digits()[0], objective="denoising", **MLP)
    batch = digits()[0].batch(range(4))
    torch.manual_seed(3)
    first, second = model(batch).total, model(batch).total
    torch.manual_seed(3)
    assert torch.equal(first, model(batch).total)
    assert not torch.equal(first, second)


def test_several_corruptions_are_applied_in_order():
    model = rk.build(data=digits()[0], objective=Denoising((Upper(0.2), Upper(0.9))), **MLP)
    damaged, hits = model.objective.damage(digits()[0].batch(range(3)))
    assert bool((damaged["x"][:, :4] == 0.9).all())
    assert hits["x"].sum() == 3 * 32


def test_every_input_field_is_corrupted_according_to_its_kind():
    signature = Signature(
        {
            "x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)),
            "word": Field(kind="tokens", shape=(6,), vocab=7),
            "label": Field(kind="label", shape=(), vocab=10),
        }
    )
    model = rk.build(
        data=signature,
        factors={
            "kind": rk.factor("mlp(width=8)", input="label"),
            "image": rk.factor("mlp(width=8)"),
            "text": rk.factor("gru(width=8)", input="word", pool=True),
        },
        decoder="mlp(width=8)",
        objective="denoising(corruption='mask-elements(ratio=1.0)')",
    )
    batch = signature.example(3)
    batch["x"] += 1.0
    damaged, hits = model.objective.damage(batch)
    assert bool((damaged["x"] == 0).all())
    assert bool((damaged["word"] == 7).all())  # the mask symbol of this field's vocabulary
    assert damaged["label"] is batch["label"]
    assert hits.keys() == {"x", "word"}
    model(batch).total.backward()


def test_hidden_symbols_are_predicted_and_padding_is_not():
    model = rk.build(
        data=SYMBOLS,
        encoder="transformer(width=8, depth=1, heads=2)",
        decoder="transformer(width=8, depth=1, heads=2)",
        objective="denoising(corruption='mask-elements(ratio=1.0)', on='hit')",
    )
    batch = padded_batch(SYMBOLS, [6, 2])
    torch.manual_seed(0)
    loss = model(batch).total
    other = {**batch, "x": torch.where(batch["x_mask"], batch["x"], 4 - batch["x"])}
    torch.manual_seed(0)
    torch.testing.assert_close(model(other).total, loss)
    decoded = model.decode(model.encode({**batch, "x": torch.full_like(batch["x"], 5)}, in_range=False))
    chances = torch.log_softmax(decoded.params["logits"].squeeze(-2), -1)
    picked = chances.gather(-1, batch["x"].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(loss, -(picked * batch["x_mask"]).sum() / 2)


def test_invalid_arguments_are_refused():
    with pytest.raises(PartArgumentError, match="on='some' must be 'all' or 'hit'"):
        rk.create("objective", "denoising(on='some')")
    with pytest.raises(PartArgumentError, match=r"corruption=\(\) must be .* at least 1 long"):
        rk.create("objective", "denoising(corruption=())")
    with pytest.raises(BuildError, match="mask-spans|MaskSpans"):
        rk.build(data=digits()[0], objective="denoising(corruption='mask-spans')", **MLP)
    signature = Signature({"x": digits()[0].signature["x"], "y": digits()[0].signature["x"]})
    with pytest.raises(BuildError, match="no encoder reads that field"):
        rk.build(
            data=signature,
            factors={"code": rk.factor("mlp", input="y")},
            decoder="mlp",
            objective="denoising(on='hit')",
        )


@pytest.mark.slow
def test_it_denoises_better_than_a_plain_autoencoder():
    test = full_batch(1)
    damage = rk.create("corruption", "mask-elements(ratio=0.3)", data=digits()[0].signature)
    view = damage(test, torch.Generator().manual_seed(0))[0]
    errors = {}
    for objective in ("reconstruction", "denoising"):
        model = fit(rk.build(data=digits()[0], objective=objective, **MLP), 250, lr=4e-3)
        with torch.no_grad():
            decoded = model.decode(model.encode(view, in_range=False))
        errors[objective] = float((decoded.x - model.target(test, decoded)).square().sum((1, 2)).mean())
    untouched = float((view["x"] - test["x"]).square().sum((1, 2, 3)).mean())
    assert errors["denoising"] < 0.5 * untouched, (errors, untouched)  # 4.46
    assert errors["denoising"] < 0.75 * errors["reconstruction"], errors
