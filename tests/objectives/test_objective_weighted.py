import math

import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.errors import BuildError, PartArgumentError, UnknownPartError
from reprkit.interfaces import Objective
from reprkit.models.weighted_sum import WeightedSum, objective_from
from reprkit.objectives.reconstruction import Reconstruction
from reprkit.registry import using_registry

MLP = {"encoder": "mlp(width=16)", "latent": "gaussian(dim=4)", "decoder": "mlp(width=16)"}


class Constant(Objective):
    """A constant loss, in the given turns."""

    def __init__(self, value, *, name="constant", turns=("main",), distributes="mean"):
        super().__init__()
        self.value, self.name, self.turns, self.distributes = value, name, turns, distributes

    def forward(self, model, batch, turn="main"):
        model.record(**{self.name: self.value})
        return {self.name: torch.tensor(float(self.value), requires_grad=True)}


def test_the_total_is_the_weighted_sum():
    model = rk.build(data=digits()[0], objective="reconstruction + 0.25 * denoising", **MLP)
    torch.manual_seed(0)
    losses = model(digits()[0].batch(range(6)))
    terms = losses.terms
    torch.testing.assert_close(
        losses.total, terms["reconstruction"] + 0.25 * terms["denoising"] + terms["kl"]
    )
    assert model.objective_weight("denoising") == 0.25


def test_latent_losses_count_once_per_view(monkeypatch):
    calls = []
    for objective, views in [
        ("reconstruction + 0.5 * reconstruction", 1),
        ("reconstruction + denoising", 2),
        ("reconstruction + denoising + denoising", 3),
    ]:
        model = rk.build(data=digits()[0], objective=objective, **MLP)
        model.factors["code"].encoder.register_forward_hook(lambda *_: calls.append(1))
        calls.clear()
        losses = model(digits()[0].batch(range(4)))
        assert len(calls) == views, objective
        assert len([name for name in losses.terms if name == "kl"]) == 1


def test_duplicate_loss_names_are_numbered():
    terms = [(1.0, Constant(1, name="a")), (2.0, Constant(2, name="ab")), (3.0, Constant(3, name="a"))]
    model = rk.build(encoder=Any(), objective=[*terms, (4.0, Constant(4, name="a"))])
    losses = model({"x": torch.ones(2, 3)})
    assert {name: float(value) for name, value in losses.terms.items()} == {
        "a": 1,
        "ab": 2,
        "a-2": 3,
        "a-3": 4,
    }
    assert losses.total.item() == 1 + 4 + 9 + 16
    assert {name: float(losses.metrics[name]) for name in ("a", "ab", "a-2", "a-3")} == {
        "a": 1, "ab": 2, "a-2": 3, "a-3": 4
    }  # fmt: skip


def Any():
    from reprkit.interfaces import Encoder
    from reprkit.types import Features

    class Plain(Encoder):
        out_dim = 3

        def forward(self, batch, *, keep=None):
            return Features(x=batch["x"].unsqueeze(1))

    return Plain()


def test_a_sum_combines_the_properties_of_its_terms():
    total = WeightedSum(
        [(1.0, Constant(1, turns=("main", "critic"))), (2.0, Constant(2, distributes="gather"))]
    )
    assert total.turns == ("main", "critic")
    assert total.distributes == "gather"
    nested = WeightedSum([(0.5, total), (3.0, Reconstruction())])
    assert nested.weights == (0.5, 1.0, 3.0)
    assert nested.members == (*total.members, nested.members[2])
    assert nested.needs == {"encoder", "decoder"}


def test_every_objective_has_members_and_weights():
    own = objective_from("denoising(on='all')")
    assert own.members == (own,)
    assert own.weights == (1.0,)
    assert (own.expression, own.title) == ("reprkit/denoising(on='all')", "reprkit/denoising")
    total = objective_from("reconstruction + 0.25 * denoising(on='all')")
    assert [type(each).__name__ for each in total.members] == ["Reconstruction", "Denoising"]
    assert total.weights == (1.0, 0.25)
    assert total.expression == "reprkit/reconstruction + 0.25 * reprkit/denoising(on='all')"
    assert total.title == "reprkit/reconstruction + reprkit/denoising"
    assert objective_from("2 * reconstruction").expression == "2 * reprkit/reconstruction"


class Sum(Objective):
    """A sum of objectives that is not the class of reprkit."""

    def __init__(self, *, weight=3.0):
        super().__init__()
        self.terms = torch.nn.ModuleList([Reconstruction(), Constant(7, name="critic", turns=("critic",))])
        self.terms[1].critic = torch.nn.Linear(2, 3)
        self.weight, self.needs, self.turns = weight, frozenset({"encoder", "decoder"}), ("main", "critic")

    @property
    def members(self):
        return tuple(self.terms)

    @property
    def weights(self):
        return (1.0, self.weight)

    def forward(self, model, batch, turn="main"):
        return next(each for each in self.terms if turn in each.turns)(model, batch, turn)


class SumPlugin:
    @hookimpl
    def reprkit_objectives(self):
        yield Spec("sum", f"{__name__}:Sum")


def test_a_sum_of_another_class_is_supported():
    from reprkit.checkpoints.manifest import describe
    from reprkit.reporting.describe_model import describe_model
    from reprkit.runs.model_summary import model_summary
    from reprkit.training.optimizers import optimizers_from

    model = rk.build(data=digits()[0], objective=Sum(), **MLP)
    critic = model.objective.members[1].critic
    assert model.objective.expression.startswith("Reconstruction + 3 * Constant(")
    assert model_summary(model)["objective"] == model.objective.expression
    assert describe_model(model, digits()[0])["parts"]["objective"]["reference"] == model.objective.expression
    made = optimizers_from(model, "adam", None, lr=1e-3, weight_decay=None)
    held = [each for group in made["critic"].param_groups for each in group["params"]]
    assert {id(each) for each in held} == {id(each) for each in critic.parameters()}
    model.objective.terms[1] = objective_from("denoising")
    record = describe(model)["objective"]["sum"]
    assert [(weight, each["id"]) for weight, each in record] == [
        (1.0, "reprkit/reconstruction"),
        (3.0, "reprkit/denoising"),
    ]
    with using_registry() as registry:  # a plugin offers it: it is created again as itself
        registry.register(SumPlugin(), name="acme")
        model.objective.qualified = "acme/sum"
        assert describe(model)["objective"] == {"id": "acme/sum", "arguments": {}}
    opened = WeightedSum([(2.0, model.objective), (1.0, Constant(1))])
    assert opened.weights == (2.0, 6.0, 1.0)
    assert opened.members[:2] == model.objective.members


def test_errors_name_the_members():
    with pytest.raises(
        BuildError, match=r"objective reprkit/contrastive \+ reprkit/classify never uses a decoder.*"
    ) as caught:
        rk.build(data=digits()[0], objective="contrastive + 0.5 * classify", **MLP)
    assert '("reconstruction + contrastive + 0.5 * classify")' in str(caught.value)


def test_a_turn_uses_the_terms_that_have_it():
    total = [(1.0, Constant(1, name="a")), (5.0, Constant(2, name="b", turns=("critic",)))]
    model = rk.build(encoder=Any(), objective=total)
    assert model({"x": torch.ones(1, 3)}).total.item() == 1
    assert model({"x": torch.ones(1, 3)}, turn="critic").total.item() == 2, "weights are those of turn main"


def test_the_note_names_the_term_that_failed():
    class Broken(Objective):
        def forward(self, model, batch, turn="main"):
            raise ZeroDivisionError

    model = rk.build(encoder=Any(), objective=[(1.0, Constant(1)), (1.0, Broken())])
    with pytest.raises(ZeroDivisionError) as caught:
        model({"x": torch.ones(1, 3)})
    assert any("Broken" in note for note in caught.value.__notes__)


def test_a_single_unweighted_term_is_not_wrapped():
    assert isinstance(objective_from("reconstruction"), Reconstruction)
    own = Reconstruction()
    assert objective_from(own) is own
    assert objective_from([(1.0, own)]) is own
    assert isinstance(objective_from("2 * reconstruction"), WeightedSum)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "takes a reference, a sum, or an Objective, not int"),
        ([], "at least one"),
        (["reconstruction"], "pairs"),
        ([(-1.0, "reconstruction")], "number of at least 0"),
        ([(math.inf, "reconstruction")], r"\(inf, .* number of at least 0"),
        ([("a lot", "reconstruction")], r"\('a lot', .* number of at least 0"),
        ([(1.0, torch.nn.Linear(2, 2))], "Linear is not an Objective"),
    ],
)
def test_invalid_arguments_are_refused(given, says):
    with pytest.raises((BuildError, PartArgumentError), match=says):
        objective_from(given)


def test_one_object_twice_is_refused():
    own = Reconstruction()
    with pytest.raises(BuildError, match="twice"):
        WeightedSum([(1.0, own), (2.0, own)])


def test_an_unknown_term_is_named():
    with pytest.raises(UnknownPartError, match="reconstructoin"):
        objective_from("0.1 * reconstructoin + contrastive")
