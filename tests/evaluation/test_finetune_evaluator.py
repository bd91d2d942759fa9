import pytest
import torch
import torch.nn.functional as F

import reprkit as rk
from reprkit.data import Order
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.evaluation.finetune import fine_tune, predict
from reprkit.evaluation.linear_probe import fit_probe
from reprkit.models.factor import masked_mean

NET = {"encoder": "mlp(widths=(32,))", "decoder": "mlp(widths=(16,))"}


def built(train, latent="continuous(dim=8)", **options):
    return rk.build(data=train, latent=latent, **{**NET, **options})


def test_finetune_learns_and_does_not_change_the_model(digits):
    train, test = digits
    model = built(train).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first = rk.evaluate(model, test, "finetune(steps=150, lr=5e-3)", fit_on=train, examples=0)["finetune"]
    again = rk.evaluate(model, test, "finetune(steps=150, lr=5e-3)", fit_on=train, examples=0)["finetune"]
    assert first == again
    assert first["accuracy"] > 0.85
    assert first["n"] == 100
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(each.grad is not None for each in model.parameters())
    assert not model.training


def test_steps_equal_a_loop_by_hand(digits):
    """Two steps on all examples at once: encoder, adapter, latent and layer, AdamW with decay on matrices only."""
    train, _ = digits
    few = train.subset(range(40))
    model = built(train).eval()
    tuned = fine_tune(model, few, steps=2, lr=1e-2, batch=40, weight_decay=0.05)
    twin = built(train)
    twin.load_state_dict(model.state_dict())
    path, layer = twin.factors["code"], torch.nn.Linear(8, 10)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    held = [*path.parameters(), *layer.parameters()]
    groups = [
        {"params": [each for each in held if each.ndim > 1], "weight_decay": 0.05},
        {"params": [each for each in held if each.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    order = Order(40, 40, 0)  # Adam makes much of rounding, so the same order too
    for index, factor in enumerate((1.0, 0.5)):  # half a cosine over two steps, no room to warm up
        batch = few.batch(order.at(index))
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * factor
        code = path(batch)
        loss = F.cross_entropy(
            layer(masked_mean(code.z if code.mean is None else code.mean, None)), batch["label"]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for (name, one), two in zip(tuned.factors["code"].named_parameters(), path.parameters(), strict=True):
        torch.testing.assert_close(one, two, msg=name, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tuned.objective.head.weight, layer.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("latent", ["gaussian(dim=8)", "vq(codes=32, dim=8)", "binary(bits=16)"])
def test_a_gradient_reaches_the_encoder_through_any_latent(latent, digits):
    train, _ = digits
    model = built(train, latent).eval()
    tuned = fine_tune(model, train, steps=2, lr=1e-2)
    old, new = model.factors["code"].encoder.state_dict(), tuned.factors["code"].encoder.state_dict()
    moved = [name for name, value in old.items() if not torch.equal(value, new[name])]
    assert any(name.endswith("weight") for name in moved)


def test_frozen_weights_stay(digits):
    train, _ = digits
    model = built(train).eval()
    model.factors["code"].encoder.requires_grad_(False)
    tuned = fine_tune(model, train, steps=3, lr=1e-2, weight_decay=0.0)
    old, new = model.factors["code"], tuned.factors["code"]
    assert all(
        torch.equal(a, b) for a, b in zip(old.encoder.parameters(), new.encoder.parameters(), strict=True)
    )
    assert not torch.equal(old.adapter.weight, new.adapter.weight)


def test_finetune_can_start_from_the_probe(digits, table):
    train, test = digits
    model = built(train).eval()
    tuned = fine_tune(model, train, steps=1, lr=1e-12, start="probe")
    with torch.no_grad():
        x, y = (model.represent(train.batch(range(400))).numpy(), train.batch(range(400))["label"].numpy())
        probe = fit_probe(x, y).predict(model.represent(test.batch(range(100))).numpy())
    assert (predict(tuned, test)[0] == probe).mean() > 0.98  # but for rounding
    two = train.subset([i for i in range(400) if y[i] in (3, 7)])
    assert set(predict(fine_tune(model, two, steps=1, lr=1e-12, start="probe"), two)[0]) == {3, 7}


def test_a_tuned_model_is_saved_and_read(digits, tmp_path):
    train, test = digits
    tuned = fine_tune(built(train).eval(), train, steps=5, lr=1e-2)
    tuned.save(tmp_path / "tuned")
    again = rk.load(tmp_path / "tuned")
    assert (predict(again, test)[0] == predict(tuned, test)[0]).all()


def test_a_sequence_is_read_by_its_valid_steps(table):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 2
    x = (y[:, None, None] * 2.0 - 1 + 0.1 * torch.randn(60, 5, 2, generator=generator)).clone()
    mask = torch.arange(5) < (1 + torch.arange(60) % 5)[:, None]
    data = table(torch.where(mask.unsqueeze(-1), x, 0 * x), y, mask)
    model = rk.build(
        data=data, encoder="gru(width=8)", latent="continuous(dim=4)", decoder="transformer(width=8, heads=2)"
    )
    found = rk.evaluate(model, data, "finetune(steps=40, lr=1e-2)", fit_on=data, examples=0)
    assert found["finetune"]["accuracy"] == 1.0


def test_errors_name_what_does_not_fit(digits, table):
    train, test = digits
    model = built(train).eval()
    with pytest.raises(DataError, match="finetune is fitted on labeled examples"):
        rk.evaluate(model, test, "finetune")
    with pytest.raises(DataError, match="no label field 'writer'"):
        rk.evaluate(model, test, "finetune(label='writer')", fit_on=train)
    with pytest.raises(
        BuildError, match=r"the model reads x as image \(8, 8, 1\), but this data has vector \(2,\)"
    ):
        fine_tune(model, table(torch.rand(8, 2), [0, 1] * 4))
    alone = rk.build(data=train, decoder="gru(width=8)", objective="autoregressive")
    with pytest.raises(BuildError, match="so it cannot be fine-tuned"):
        fine_tune(alone, train)


@pytest.mark.parametrize(
    "wrong", ["steps=0", "lr=0.0", "batch=0", "start='middle'", "weight_decay=1.0", "labels=0", "seed=-1"]
)
def test_arguments_are_checked(wrong):
    with pytest.raises(PartArgumentError, match="^evaluator finetune: .* must be"):
        rk.create("evaluator", f"finetune({wrong})")
