"""Options are declared once; signatures, documentation, flags, checks and records are generated from it."""

import inspect
import subprocess
import sys
import typing
from dataclasses import MISSING
from pathlib import Path

import pytest
import torch

import reprkit as rk
from reprkit.errors import PartArgumentError, TrainingError
from reprkit.registry.constraints import Count
from reprkit.training.launch import FLAGS
from reprkit.training.option_signatures import with_options
from reprkit.training.options import (
    FitOptions,
    Options,
    declaration_of,
    option,
    option_fields,
    options,
)

ROOT = Path(rk.__file__).parents[1]


@pytest.mark.parametrize(
    ("function", "own", "cls"),
    [(rk.loop, ["model", "data"], Options), (rk.fit, ["model", "train"], FitOptions)],
)
def test_every_option_is_in_signature_and_documentation(function, own, cls):
    found = inspect.signature(function).parameters
    assert list(found) == [*own, *(field.name for field in option_fields(cls))]
    hints = typing.get_type_hints(function)
    text = inspect.getdoc(function)
    for field in option_fields(cls):
        parameter = found[field.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == (inspect.Parameter.empty if field.default is MISSING else field.default)
        assert parameter.annotation == hints[field.name]
        assert not isinstance(parameter.annotation, str)
        words = " ".join(text.split())
        assert f"{field.name}: {declaration_of(field).help}." in words
        assert " ".join(declaration_of(field).more.split()) in words
    assert "Raises:" in text
    assert max(map(len, function.__doc__.splitlines())) <= 132


def test_every_option_is_on_its_page_and_those_with_a_flag_in_launch():
    page = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    for field in option_fields(FitOptions):
        section = page.partition(f"### {field.name}\n")[2].partition("\n### ")[0]
        assert declaration_of(field).help.replace("``", "`") in section, field.name
        assert (f"`--{field.name.replace('_', '-')}`" in section) == (declaration_of(field).flag is not None)
    flagged = [field.name for field in option_fields(Options) if declaration_of(field).flag is not None]
    assert list(FLAGS) == flagged
    assert list(inspect.signature(rk.Launch).parameters) == flagged
    for name in flagged:
        assert f"{name}: {declaration_of(_field(name)).help}" in " ".join(rk.Launch.__doc__.split())
        assert FLAGS[name] == (declaration_of(_field(name)).flag, declaration_of(_field(name)).help)


def _field(name):
    return next(field for field in option_fields(Options) if field.name == name)


def test_a_new_option_is_one_declaration():
    @options
    class More(Options):
        patience: Count = option("steps without a better value before it stops", default=3, recorded=True)

    @with_options(More)
    def loop(model: rk.Model, data: typing.Any, options: More) -> typing.Any:
        """Steps.

        Args:
            model: to train.
            data: to train on.
            options: as declared.
        """
        return options

    assert inspect.signature(loop).parameters["patience"].default == 3
    assert (
        "patience: steps without a better value before it stops.  It must be an integer of at least 1."
        in loop.__doc__
    )
    assert loop(None, None, steps=1).to_json()["patience"] == 3
    assert loop(model=None, data=None, steps=1, patience=7).patience == 7
    with pytest.raises(PartArgumentError, match="rk.loop: patience=0 must be an integer of at least 1"):
        loop(None, None, steps=1, patience=0)


def test_the_declaration_needs_no_torch():
    code = (
        "import sys; import reprkit.training.launch, reprkit.training.options; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False"], done.stderr


def test_unknown_options_are_refused_with_the_nearest():
    with pytest.raises(
        PartArgumentError, match=r"rk.loop has no option 'acumulate'. Did you mean 'accumulate'\?"
    ):
        rk.loop(None, None, steps=1, acumulate=2)
    with pytest.raises(
        PartArgumentError, match="rk.fit: missing a required (keyword-only )?argument: 'steps'"
    ):
        rk.fit(None, None)
    with pytest.raises(TypeError, match="too many positional arguments"):
        rk.loop(None, None, 5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"accumulate": True}, "rk.loop: accumulate=True must be an integer of at least 1"),
        ({"buckets": 0.5}, "buckets=0.5 must be True or False or an integer of at least 1"),
        ({"lr": float("inf")}, "lr=inf must be a number above 0"),
        ({"ema": 1}, "ema=1 must be a number above 0 and below 1 or None"),
        ({"stage": "step-1"}, "stage='step-1' must be a string, folder name or None"),
        ({"strategy": 3}, "strategy=3 must be a string"),
    ],
)
def test_values_are_checked_by_their_constraints(wrong, said):
    with pytest.raises(PartArgumentError, match=said):
        Options(steps=1, **wrong)


def test_best_of_fit_needs_evaluations():
    with pytest.raises(TrainingError, match="is a metric of evaluators: pass valid="):
        FitOptions(steps=1, out="x", best="min reconstruction.error")


def test_recorded_options_are_plain_json():
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    found = Options(steps=3, optimizer=adam, optimizers={"critic": "sgd"}, schedule=abs, ema=0.5).to_json()
    assert found == {
        "batch": 128, "lr": 1e-3, "seed": 0, "optimizer": "Adam", "optimizers": {"critic": "sgd"}, "weight_decay": None,
        "schedule": "abs", "warmup": 0, "clip": None, "accumulate": 1, "precision": "fp32", "ema": 0.5, "buckets": False,
    }  # fmt: skip
    assert "optimizers" not in Options(steps=3).to_json()


@pytest.mark.parametrize("strategy", ["fsdp", "hsdp(shards=2)", "tp(shards=2)"])
def test_a_strategy_that_shards_nothing_warns(strategy):
    data = rk.dataset("digits")
    model = rk.build(data=data, encoder="mlp", latent="continuous(dim=2)", decoder="mlp")
    with pytest.warns(UserWarning, match="shards nothing with one process: start several with torchrun"):
        next(iter(rk.loop(model, data, steps=1, strategy=strategy, device="cpu", progress=False)))
