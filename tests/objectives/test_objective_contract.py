"""What the core does for an objective with a state and fields of its own."""

import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.data import Field
from reprkit.errors import BuildError
from reprkit.interfaces import Objective
from reprkit.registry import using_registry

TIME = Field(kind="vector", shape=(1,), range=(0.0, 1.0))


class Timed(Objective):
    """Reconstruct data that fades with the time, which a factor reads; counts its updates and forwards."""

    needs = frozenset({"encoder", "decoder"})

    def __init__(self):
        super().__init__()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.forwards = 0

    def fields(self, signature):
        return {"time": TIME}

    def fill(self, batch):
        return {"time": batch["x"].new_zeros(len(batch["x"]), 1), **batch}

    def forward(self, model, batch, turn="main"):
        self.forwards += 1
        time = torch.full((len(batch["x"]), 1), 0.5)
        view = {**batch, "x": batch["x"] * 0.5, "time": time}
        return {"timed": model.score(batch, view=view).loss}

    def update(self):
        self.updates += 1


class Plugin:
    @hookimpl
    def reprkit_objectives(self):
        yield Spec("timed", f"{__name__}:Timed")


FACTORS = {"code": rk.factor("mlp(width=8)"), "time": rk.factor("mlp(width=4)", input="time")}


def timed(objective="timed", **options):
    data = digits()[0]
    return rk.build(
        data=data,
        factors=FACTORS,
        decoder="mlp(width=8)",
        objective=Timed() if objective == "timed" else objective,
        **options,
    )


@pytest.mark.parametrize("sum_of_two", [False, True])
def test_update_is_called_once_a_step(sum_of_two):
    own = Timed()
    model = timed([(1.0, own), (0.5, "reconstruction")] if sum_of_two else own)
    for step in rk.loop(model, digits()[0], steps=3, batch=8, accumulate=2):
        step.backward(step.model(step.batch).total)
        step.update()
    assert (int(own.updates), own.forwards) == (3, 6)


def test_update_is_called_once_a_step_of_a_closure():
    model = timed()
    for step in rk.loop(model, digits()[0], steps=2, batch=8, optimizer="lbfgs(lr=0.1, max_iter=4)"):

        def closure(step=step):
            losses = step.model(step.batch)
            step.backward(losses.total)

        step.update(closure=closure)
    assert int(model.objective.updates) == 2


def test_a_frozen_objective_is_not_updated():
    model = timed(freeze="objective")
    model.update()
    assert int(model.objective.updates) == 0


def test_fields_are_added_before_the_encoders_are_made():
    model = timed()
    assert model.signature["time"] == TIME
    assert model.computed_fields == {"time"}
    assert "time" not in digits()[0].signature


def test_plain_data_is_encoded_with_filled_fields():
    model, batch = timed().eval(), digits()[0].batch(range(4))
    with torch.no_grad():
        plain, given = model.encode(batch), model.encode({**batch, "time": torch.zeros(4, 1)})
        other = model.encode({**batch, "time": torch.ones(4, 1)})
    torch.testing.assert_close(plain["time"].z, given["time"].z, rtol=0, atol=0)
    assert not torch.equal(plain["time"].z, other["time"].z)
    assert "time" not in batch


def test_a_saved_model_has_its_fields(tmp_path):
    with using_registry() as registry:
        registry.register(Plugin(), name="mine")
        model = timed()
        model.update()
        model.save(tmp_path)
        loaded = rk.load(tmp_path)
        assert loaded.computed_fields == {"time"}
        assert int(loaded.objective.updates) == 1
        batch = digits()[0].batch(range(4))
        with torch.no_grad():
            expected = model.eval().encode(batch)["time"].z
            torch.testing.assert_close(loaded.encode(batch)["time"].z, expected, rtol=0, atol=0)
            same = rk.load(tmp_path, data=digits()[0])  # data without the computed field
            torch.testing.assert_close(same.encode(batch)["time"].z, expected, rtol=0, atol=0)


class OtherTime(Timed):
    def fields(self, signature):
        return {"time": Field(kind="vector", shape=(2,))}


class OwnX(Timed):
    def fields(self, signature):
        return {"x": TIME}


def test_a_field_of_the_data_is_not_replaced():
    with pytest.raises(BuildError, match="computes a field 'x', and the data has another one of that name"):
        timed(OwnX())


def test_two_objectives_with_different_fields_of_one_name_are_refused():
    with pytest.raises(BuildError, match="compute a field 'time', and they differ"):
        timed([(1.0, Timed()), (1.0, OtherTime())])
