import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.evaluation.interpolation import _smoothness


def test_a_cross_fade_is_straight_and_even_and_a_jump_is_not():
    ends = torch.zeros(2), torch.tensor([3.0, 4.0])
    fade = torch.stack([torch.lerp(*ends, at) for at in (0.0, 0.25, 0.5, 0.75, 1.0)])[None]
    assert _smoothness(fade) == pytest.approx({"path_length": 1.0, "evenness": 1.0})
    jump = torch.stack([ends[0], ends[0], ends[1], ends[1]])[None]
    assert _smoothness(jump) == pytest.approx({"path_length": 1.0, "evenness": 0.0})
    detour = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]]])
    assert _smoothness(detour)["path_length"] == pytest.approx(3.0)
    assert _smoothness(torch.ones(2, 3, 4)) == {"path_length": 1.0, "evenness": 1.0}


@pytest.mark.parametrize(
    "latent", ["continuous(dim=4)", "gaussian(dim=4)", "vq(codes=8, dim=4)", "binary(bits=6)"]
)
def test_the_ends_are_the_reconstructions_of_the_pair(digits, latent):
    train, test = digits
    model = rk.build(data=train, encoder="mlp", latent=latent, decoder="mlp").eval()
    found = rk.evaluate(model, test, "interpolation(steps=5, pairs=3)")
    rows = found.figures["interpolation"]["interpolation"].rows
    batch = test.batch(range(6))
    with torch.no_grad():
        direct = model.to_batch(model.decode(model.encode(batch)))["x"]
    for pair in range(3):
        line = torch.from_numpy(rows[f"pair {pair + 1}"])
        assert len(line) == 5
        assert torch.allclose(line[[0, -1]], direct[2 * pair : 2 * pair + 2], atol=1e-5)
    assert found["interpolation"]["path_length"] >= 1 - 1e-6
    assert 0 <= found["interpolation"]["evenness"] <= 1


def test_data_that_cannot_be_interpolated_is_refused(digits):
    train, test = digits
    with pytest.raises(PartArgumentError, match="steps=2 must be an integer from 3"):
        rk.create("evaluator", "interpolation(steps=2)")
    model = rk.build(data=train, encoder="mlp", latent="gaussian(dim=2)", decoder="gru(causal=True)")
    with pytest.raises(BuildError, match="that is not causal"):
        rk.evaluate(model, test, "interpolation")
    plain = rk.build(data=train, encoder="mlp", latent="gaussian(dim=2)", decoder="mlp")
    with pytest.raises(DataError, match="two examples"):
        rk.evaluate(plain, test.subset([0]), "interpolation")
