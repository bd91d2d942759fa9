"""``renamed_arguments``: a former argument name works with one DeprecationWarning, in calls, references and checkpoints."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.errors import PartArgumentError
from reprkit.objectives.masked import Masked
from reprkit.registry.create import create
from reprkit.testing import DatasetConformance, ObjectiveConformance


class Scale(rk.Latent):
    """Multiply features by a factor, formerly called ``gain``."""

    renamed_arguments = {"gain": "factor"}

    def __init__(self, factor: float = 1.0):
        super().__init__(in_dim=2, out_dim=2)
        self.factor = factor

    def forward(self, features):
        return rk.Code.of(features, z=self.factor * features.x)


def call(function, old, new):
    """Call the function and check that it gives one DeprecationWarning here, which names both arguments."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    found = [each for each in caught if f"{old}=" in str(each.message)]
    assert len(found) == 1, found
    assert str(found[0].message).endswith(f"{old}= is now called {new}=")
    assert found[0].filename == __file__  # the caller, whose script Python shows the warning in
    return result


def test_a_direct_call():
    latent = call(lambda: Scale(gain=2.0), "gain", "factor")
    assert latent.factor == 2.0
    assert dict(latent.arguments) == {"factor": 2.0}
    with pytest.raises(PartArgumentError, match="gain= is the former name of factor=; pass only factor="):
        Scale(gain=2.0, factor=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Scale(factor=3.0).factor == 3.0


def test_a_builtin_objective():
    assert call(lambda: Masked(normalise=True), "normalise", "normalize").normalize
    with pytest.raises(PartArgumentError, match="former name of normalize="):
        Masked(normalise=True, normalize=True)


def test_a_reference():
    objective = call(lambda: create("objective", "masked(normalise=True)"), "normalise", "normalize")
    assert str(objective.reference).endswith("masked(normalize=True)")
    with pytest.raises(PartArgumentError, match="former name of normalize="):
        create("objective", "masked(normalise=True, normalize=True)")


def test_a_checkpoint(tmp_path):
    data = rk.dataset({"x": torch.rand(8, 8, 8, 1)})
    parts = "vit(patch=4, width=16, depth=1, heads=2)"
    model = rk.build(
        data=data,
        encoder=parts,
        latent="continuous(dim=4)",
        decoder=parts,
        objective="masked(normalize=True)",
    )
    folder = model.save(tmp_path / "model")
    path = folder / "reprkit.json"
    text = path.read_text()
    assert text.count("normalize") == 1
    path.write_text(text.replace("normalize", "normalise"))
    loaded = call(lambda: rk.load(folder), "normalise", "normalize")
    assert loaded.objective.normalize


@pytest.fixture
def pictures(tmp_path):
    for index in range(4):
        Image.fromarray(np.full((8, 8, 3), 40 * index, dtype=np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def test_a_data_set(pictures):
    data = call(lambda: rk.dataset(f"images(root='{pictures}', size=8, grey=True)"), "grey", "gray")
    assert data.signature["x"].shape == (8, 8, 1)
    with pytest.raises(PartArgumentError, match="former name of gray="):
        rk.dataset(f"images(root='{pictures}', size=8, grey=True, gray=True)")


def test_the_conformance_check(pictures):
    objective = ObjectiveConformance()
    objective.part = "masked(normalize=True)"
    objective.test_former_argument_names_are_accepted()
    images = DatasetConformance()
    images.part = f"images(root='{pictures}', size=8)"
    images.test_former_argument_names_are_accepted()
