"""The presets of ``recipes/voice_conversion.py``: every one builds with every kind of content, trains and converts."""

import importlib.util
from pathlib import Path

import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import PartArgumentError
from reprkit.testing.small import small_references

RECIPE = Path(__file__).parents[3] / "recipes" / "voice_conversion.py"
DATA = Signature(
    {
        "x": Field(kind="sequence", shape=(None, 5), form="world(coefficients=5)"),
        "speaker": Field(kind="label", shape=(), vocab=3),
    }
)
CONTENTS = [None, *small_references("latent")]


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("voice_conversion_recipe", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def presets(recipe):
    return recipe.PRESETS


def built(plan, content, stage):
    sizes = {"width": 8, "neck": 4, "stride": 4}
    parts = {name: text.format(**sizes) for name, text in plan.items() if isinstance(text, str)}
    factors = {
        "content": rk.factor(parts["encoder"], content or parts["latent"], condition=plan["condition"]),
        "speaker": rk.factor(parts["speaker"], "continuous(dim=64)", pool=True),
    }
    return rk.build(data=DATA, factors=factors, decoder=parts["decoder"], objective=parts[stage])


@pytest.mark.parametrize(
    "options", [{"neck": 4}, {"preset": "adain", "content": "vq(codes=8, dim=4)", "neck": 4}]
)
def test_a_size_that_no_part_has_is_refused(recipe, options):
    with pytest.raises(PartArgumentError, match="--neck 4: no part has this size"):
        recipe.main(**options)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["perturbed", "adain", "autovc", "multi-target", "grouped"])
def test_every_preset_trains_with_any_content_and_converts(presets, name, content):
    plan = presets[name]
    data = {"x": torch.randn(4, 13, 5), "speaker": torch.arange(4) % 3}
    for stage in ("objective", "after") if plan["after"] else ("objective",):
        model = built(plan, content, stage)
        for turn in model.objective.turns:
            total = model(data, turn).total
            total.backward()
            assert torch.isfinite(total)
            model.update()
    codes = model.eval().encode(data)
    tokens = -(-13 // 4)
    assert codes["content"].z.shape[1] == tokens
    assert codes["speaker"].z.shape[1] == 1
    other = codes | {"speaker": rk.Code(z=codes["speaker"].z.roll(1, 0))}
    made, own = (model.decode(each, length=13).x for each in (other, codes))
    assert made.shape == (4, 13, 5)
    assert not torch.allclose(made, own)
