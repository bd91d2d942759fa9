import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError, UnknownPartError
from reprkit.objectives.grouped import draw_partners
from reprkit.testing import ObjectiveConformance

FACTORS = {
    "own": rk.factor("mlp(width=32)", "continuous(dim=4)"),
    "shared": rk.factor("mlp(width=32)", "continuous(dim=8)", pool=True),
}


class TestGrouped(ObjectiveConformance):
    part = "grouped"


MASKED = "grouped(factor='shared', corruption='mask-elements(ratio=1.0)')"


class TestGroupedCorrupted(ObjectiveConformance):
    part = "grouped(factor='shared', corruption=('gaussian-noise(std=0.3)', 'mask-elements'))"

    def model(self, outputs=()):
        decoders = {name: rk.output("mlp(width=16)", field="x") for name in outputs}
        objective = self.fresh()
        return rk.build(
            data=self.data, factors=FACTORS, decoder=decoders or "mlp(width=16)", objective=objective
        )


def grouped(objective="grouped(factor='shared')", **more):
    return rk.build(data=digits()[0], factors=FACTORS, decoder="mlp(width=64)", objective=objective, **more)


def test_partners_are_a_permutation_within_each_group():
    label = torch.randint(5, (40,), generator=torch.Generator().manual_seed(0))
    label[0] = 9  # alone
    seen = set()
    for seed in range(6):
        found = draw_partners(label, torch.rand(40, generator=torch.Generator().manual_seed(seed)))
        assert sorted(found.tolist()) == list(range(40))
        assert torch.equal(label[found], label)
        assert (found == torch.arange(40)).nonzero().flatten().tolist() == [0]
        seen.add(int(found[1]))
    assert len(seen) > 2, "not always the same one"
    assert draw_partners(torch.tensor([1, 2, 1, 1]), torch.zeros(4)).tolist() == [2, 1, 3, 0]


def test_the_loss_is_that_of_the_exchanged_codes():
    model, batch = grouped().eval(), digits()[0].batch(range(30))
    rows = draw_partners(batch["label"], torch.zeros(30))
    with torch.no_grad():
        codes, losses = model.encode(batch), model(batch)
        decoded = model.decode(codes | {"shared": rk.Code(z=codes["shared"].z[rows])})
        expected = decoded.nll(model.target(batch, decoded), None).sum() / 30
    torch.testing.assert_close(losses.terms["reconstruction"], expected)
    assert losses.metrics["mates"] == (rows != torch.arange(30)).float().mean()


def test_only_the_other_factors_read_the_corrupted_input_and_only_in_training():
    """With everything masked, the factor ``own`` encodes zeros; the shared code and the target stay those of the data."""
    model, batch = grouped(MASKED), digits()[0].batch(range(30))
    label = torch.arange(30)  # nobody has a partner, so every shared code is the example's own
    batch = {**batch, "label": label % 10}
    batch = {name: value[:10] for name, value in batch.items()}
    losses = model(batch)
    with torch.no_grad():
        codes = model.encode(batch) | model.encode(
            {**batch, "x": torch.zeros_like(batch["x"])}, factors=("own",)
        )
        expected = model.score(batch, codes)
    torch.testing.assert_close(losses.terms["reconstruction"], expected.total / 10)
    plain = grouped()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(batch).total, plain.eval()(batch).total, rtol=0, atol=0)


@pytest.mark.slow
def test_the_exchanged_code_encodes_the_group():
    """Compared with plain reconstruction by equal networks: the exchanged code encodes what the group shares."""
    ratios = {}
    for objective in ("grouped(factor='shared')", "reconstruction"):
        model = grouped(objective, seed=0)
        for step in rk.loop(model, digits()[0], steps=400, batch=64, lr=3e-3, seed=0):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
        test = digits()[1]
        ratios[objective] = spread(model, test)
    assert ratios["grouped(factor='shared')"] < 0.5 * ratios["reconstruction"], ratios


def spread(model, data):
    """Return the variance of the shared code within classes divided by its total variance."""
    batch = data.batch(range(len(data)))
    with torch.no_grad():
        z, y = model.eval().encode(batch)["shared"].z[:, 0], batch["label"]
    within = sum(z[y == k].var(0, correction=0).sum() * (y == k).float().mean() for k in y.unique())
    return float(within / z.var(0, correction=0).sum())


def test_invalid_arguments_are_refused():
    with pytest.raises(BuildError, match="objective grouped: say which: factor=; there are: own, shared"):
        grouped("grouped")
    with pytest.raises(BuildError, match="label field 'who'"):
        grouped("grouped(factor='own', label='who')")
    with pytest.raises(DataError, match="grouped reads field 'label'"):
        grouped()({"x": torch.rand(4, 8, 8, 1)})
    with pytest.raises(BuildError, match="there are none: add a factor"):
        rk.build(
            data=digits()[0],
            encoder="mlp(width=8)",
            latent="continuous(dim=4)",
            decoder="mlp(width=8)",
            objective="grouped(corruption='mask-elements')",
        )
    with pytest.raises(PartArgumentError, match="corruption"):
        rk.create("objective", "grouped(corruption=())")
    with pytest.raises(UnknownPartError, match="mask-element"):
        grouped("grouped(factor='shared', corruption='mask-element')")
