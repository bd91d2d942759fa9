import pytest
import torch
from learning import digits

import reprkit as rk

VIT = "vit(patch=4, width=8, depth=1, heads=2)"


@pytest.mark.parametrize(
    ("objective", "decoder"),
    [
        ("reconstruction", VIT),
        ("denoising(corruption=('mask-elements(ratio=0.2)', 'gaussian-noise(std=0.1)'), on='hit')", VIT),
        ("masked(ratio=0.5, normalize=True)", VIT),
        ("contrastive(temperature=0.2, dim=6, hidden=5)", None),
        ("autoregressive", "gru(width=8, causal=True)"),
        ("reconstruction + 0.5 * masked + 1e-05 * contrastive(views='dropout')", VIT),
    ],
)
def test_training_continues_equally_after_a_save(objective, decoder, tmp_path):
    model = rk.build(data=digits()[0], encoder=VIT, decoder=decoder, objective=objective, seed=3)
    batch = digits()[0].batch(range(6))
    loaded = rk.load(model.save(tmp_path / "model"))
    assert not loaded.training
    for mode in (False, True):
        totals, gradients = [], []
        for each in (model.train(mode), loaded.train(mode)):
            torch.manual_seed(0)
            total = each(batch).total
            total.backward()
            totals.append(total)
            gradients.append({name: value.grad.clone() for name, value in each.named_parameters()})
        assert torch.equal(*totals)
        assert gradients[0].keys() == gradients[1].keys()
        assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())
