"""A latent whose code has another number of tokens than the features, its own mask, and no position over the data."""

import pytest
import torch

import reprkit as rk
from reprkit.layers.resample_tokens import resampled_mask
from reprkit.testing import LatentConformance
from reprkit.testing.sample_data import IMAGES, TOKENS, random_batch


class Three(rk.Latent):
    """Three tokens, each the mean of the features through a map of its own; the last is not always there."""

    def __init__(self) -> None:
        super().__init__(in_dim=4, out_dim=4)
        self.maps = torch.nn.Linear(4, 12)

    def count(self, tokens):
        return 3

    def forward(self, features):
        x, mask = features.x, features.mask
        weight = torch.ones_like(x[..., 0]) if mask is None else mask.float()
        mean = (x.nan_to_num() * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True)
        z = self.maps(mean).unflatten(-1, (3, 4))
        there = torch.arange(3, device=x.device).expand(len(x), 3) < 2
        return rk.Code(z=z, mask=there, grid=())


class TestThree(LatentConformance):
    def make(self):
        return Three()


@pytest.mark.parametrize("decoder", ["mlp(widths=(8,))", "conv(width=8)", "vit(width=8, depth=1, heads=2)"])
def test_an_image_decoder_is_built_for_the_code_s_number_of_tokens(decoder):
    model = rk.build(
        data=IMAGES, encoder="vit(patch=2, width=8, depth=1, heads=2)", latent=Three(), decoder=decoder
    )
    losses = model(random_batch(IMAGES, 3))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert not [name for name, value in model.named_parameters() if value.grad is None]


def test_the_mask_of_such_a_code_hides_no_data():
    features = rk.Features(x=torch.randn(2, 3, 4), mask=torch.tensor([[1, 1, 0], [1, 0, 0]]).bool(), grid=())
    assert resampled_mask(features, 6) is None
    aligned = rk.Features(x=features.x, mask=features.mask, grid=(3,))
    assert resampled_mask(aligned, 6).sum(1).tolist() == [4, 2]
    model = rk.build(
        data=TOKENS,
        encoder="gru(width=4)",
        latent=Three(),
        decoder="gru(width=8)",
        objective="autoregressive",
    )
    batch = random_batch(TOKENS, 3)
    decoded = model.decode(model.encode(batch), teacher=batch["x"].unsqueeze(-1))
    last = decoded.params["logits"][:, -1]
    assert decoded.mask is None
    assert (last - last.mean(-1, keepdim=True)).abs().sum() > 0
