"""For each check of an objective and an evaluator, a wrong one that fails this check only."""

from dataclasses import replace

import pytest
import torch
from catching import titles
from torch import nn

from reprkit.data import Field
from reprkit.interfaces import Evaluator, Objective
from reprkit.testing import EvaluatorConformance, ObjectiveConformance
from reprkit.testing.kit import failed_checks
from reprkit.utils import collectives

pytestmark = pytest.mark.ranks


class Good(Objective):
    """Plain reconstruction, written out."""

    needs = frozenset({"encoder", "decoder"})

    def forward(self, model, batch, turn="main"):
        decoded = model.decode(model.encode(batch))
        nats = decoded.nll(model.target(batch, decoded)).sum()
        return {"nats": self.term(model, nats, len(batch["x"]))}

    def term(self, model, nats, count):
        return nats, count


class StateOutsideOfBuffers(Good):
    trained = False

    def term(self, model, nats, count):
        if model.training:
            self.trained = True
        return nats + (0 if model.training else 100 * self.trained), count


class GrowingBuffer(Good):
    def __init__(self):
        super().__init__()
        self.register_buffer("history", torch.zeros(0))

    def term(self, model, nats, count):
        if model.training:
            self.history = torch.cat([self.history, nats.detach().view(1)])
        return nats, count

    def _load_from_state_dict(self, state, prefix, *rest):
        self.history = torch.zeros_like(state[prefix + "history"])
        super()._load_from_state_dict(state, prefix, *rest)


class UndefinedForTwoExamples(Good):
    def term(self, model, nats, count):
        return nats + 0 * torch.log(torch.tensor(float(count - 2))), count


class UnusedDecoder(Good):
    def forward(self, model, batch, turn="main"):
        code = model.encode(batch)["code"]
        return {"size": (code.z.square().sum(), len(code.z))}


class FirstOutputOnly(Objective):
    """Says that it trains every output, and scores the first."""

    needs = frozenset({"encoder", "decoder"})
    several_outputs = True

    def forward(self, model, batch, turn="main"):
        return {"nats": model.score(batch, output=next(iter(model.outputs)), teacher_forcing=False).loss}


class RandomInEvaluation(Good):
    def term(self, model, nats, count):
        return nats if model.training else nats * torch.rand(()), count


class ModifiesTheBatch(Good):
    def forward(self, model, batch, turn="main"):
        batch["x"].clamp_(max=0.5)
        return super().forward(model, batch, turn)


class AnnealsInForward(Good):
    """The weight of a term falls with every forward in training, not in ``update``."""

    def __init__(self):
        super().__init__()
        self.register_buffer("forwards", torch.zeros(()))

    def term(self, model, nats, count):
        if model.training:
            self.forwards += 1
        return nats * (1 + 1 / self.forwards if model.training else 1), count


class FillsAnotherField(Good):
    """Declares one number as the time, and fills in two."""

    def fields(self, signature):
        return {"time": Field(kind="vector", shape=(1,), range=(0.0, 1.0))}

    def fill(self, batch):
        return {"time": torch.zeros(len(batch["x"]), 2), **batch}


class ScoresAnotherTarget(Good):
    """Compares with normalized data outside of training, instead of bringing the output into the data's units."""

    def in_data_units(self, scored):
        return replace(scored, target=scored.target - scored.target.mean())


class SamplesWithoutGenerator(Good):
    """Decodes random codes, and draws them from torch's own generator."""

    generates = True

    def sample(self, model, size, generator=None, *, like=None, **options):
        codes = model.encode(like)
        return model.decode(codes | {"code": replace(codes["code"], z=torch.randn_like(codes["code"].z))})


class UndeclaredLabel(Good):
    """Weighs examples by their class, and names no label."""

    def forward(self, model, batch, turn="main"):
        decoded = model.decode(model.encode(batch))
        nats = decoded.nll(model.target(batch, decoded)).sum(1)
        return {"nats": ((1 + batch["label"]) * nats).sum() / len(nats)}


class WrongSign(Good):
    def term(self, model, nats, count):
        return 2 * nats.detach() - nats, count


class SumPerRank(Good):
    def term(self, model, nats, count):
        return nats


class ComparesExamplesUndeclared(Good):
    def term(self, model, nats, count):
        return collectives.gather_with_gradient(nats.view(1)).sum() / collectives.world_size(), count


class Case(ObjectiveConformance):
    wrong = "Good"

    def make(self):
        return globals()[self.wrong]()


WRONG = {
    "every output is trained": ("FirstOutputOnly", "no gradient reaches adapters.two"),
    "weights round trip through disk": (
        "StateOutsideOfBuffers",
        "the loss, loaded into a new model: differs",
    ),
    "buffers keep their shape": ("GrowingBuffer", "change their shape: history"),
    "losses are finite scalars": ("UndefinedForTwoExamples", "loss 'nats' is nan for 2 examples"),
    "gradients reach every parameter": ("UnusedDecoder", "no gradient reaches adapters.code.weight"),
    "evaluation is deterministic": (
        "RandomInEvaluation",
        "the loss in evaluation, under another random state",
    ),
    "state changes in update only": (
        "AnnealsInForward",
        "the loss of turn main, computed again before update",
    ),
    "its own fields are filled": ("FillsAnotherField", "fill makes values that fields() does not declare"),
    "labels are declared": ("UndeclaredLabel", "with other values of label (name the label in labels)"),
    "scores are in units of the data": ("ScoresAnotherTarget", "in_data_units must not change the target"),
    "samples fit the data": ("SamplesWithoutGenerator", "two draws under one generator: differs"),
    "batch is not modified": ("ModifiesTheBatch", "the input batch's x: differs"),
    "loss can be minimized": ("WrongSign", "in 40 steps on one batch"),
    "two ranks equal one process": ("SumPerRank", "two ranks and one process: loss of turn main: differs"),
    "pieces equal the whole batch": (
        "ComparesExamplesUndeclared",
        "an objective sets distributes = 'gather'",
    ),
}


def case(name):
    made = Case()
    made.wrong = name
    return made


def test_a_correct_objective_passes_every_check():
    assert failed_checks(case("Good")) == {}


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_objective_fails_one_check(check):
    name, reason = WRONG[check]
    found = failed_checks(case(name))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_every_check_has_a_wrong_objective():
    assert set(WRONG) == titles(ObjectiveConformance)


class Mean(Evaluator):
    """The mean of the representation."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, model, data, fit_on=None):
        self.calls += 1
        mean = model.represent(data.batch(range(len(data)))).mean()
        return self.finish(model, mean)

    def finish(self, model, mean):
        return {"inner": {"mean": float(mean)}, "figures": {"points": mean}}


class ReturnsAString(Mean):
    def finish(self, model, mean):
        return {"mean": str(float(mean))}


class DependsOnCalls(Mean):
    def finish(self, model, mean):
        return {"mean": float(mean) + self.calls}


class LeavesTrainingMode(Mean):
    def forward(self, model, data, fit_on=None):
        model.eval()
        found = super().forward(model, data, fit_on)
        model.train()
        return found


WRONG_EVALUATORS = {
    "returns numbers for any latent": (ReturnsAString, "mean is a str, not a number"),
    "evaluation is deterministic": (DependsOnCalls, "mean was"),
    "model is not modified": (LeavesTrainingMode, "it left the model in training mode"),
}


def evaluator(cls):
    made = EvaluatorConformance()
    made.make = cls
    return made


def test_a_correct_evaluator_passes_every_check():
    assert failed_checks(evaluator(Mean)) == {}


@pytest.mark.parametrize("check", WRONG_EVALUATORS)
def test_a_wrong_evaluator_fails_one_check(check):
    cls, reason = WRONG_EVALUATORS[check]
    found = failed_checks(evaluator(cls))
    assert set(found) == {check}, found
    assert reason in found[check]


class UndeclaredNoise(Mean):
    in_range = True

    def forward(self, model, data, fit_on=None):
        noisy = {"x": data.batch(range(len(data)))["x"] + 0.5}
        return self.finish(model, model.represent(noisy, in_range=self.in_range).mean())


class DeclaredNoise(UndeclaredNoise):
    in_range = False


def test_an_evaluator_must_declare_noisy_input():
    assert failed_checks(evaluator(DeclaredNoise)) == {}
    found = failed_checks(evaluator(UndeclaredNoise))
    assert set(found) == set(WRONG_EVALUATORS)
    assert all("its signature says range (0.0, 1.0)" in reason for reason in found.values())


def test_every_check_has_a_wrong_evaluator():
    assert set(WRONG_EVALUATORS) == titles(EvaluatorConformance)


def test_modules_are_needed():
    """A class of another kind is named as such."""
    assert "Linear is not a subclass of reprkit.Evaluator" in str(
        failed_checks(evaluator(lambda: nn.Linear(1, 1)))
    )
