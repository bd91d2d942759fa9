"""Image decoders: positions of tokens in the image, and an autoencoder of digits against PCA."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

from reprkit.data.signature import Field, Signature
from reprkit.decoders.conv import ConvDecoder
from reprkit.decoders.mlp import MLPDecoder
from reprkit.decoders.vit import ViTDecoder
from reprkit.encoders.mlp import MLPEncoder
from reprkit.models.grid import from_tokens, to_tokens
from reprkit.types import Features

WIDE = Field(kind="image", shape=(12, 20, 3))


@pytest.mark.parametrize(
    ("cls", "options", "grid"),
    [
        (ConvDecoder, {"width": 8, "depth": 2, "blocks": 0}, (3, 5)),
        (ViTDecoder, {"patch": 4, "width": 16}, (3, 5)),
    ],
)
def test_a_token_affects_its_own_pixels_most(cls, options, grid):
    torch.manual_seed(0)
    decoder = cls(**options, data=Signature({"x": WIDE}), tokens=15).eval()
    for index, layer in enumerate(getattr(decoder, "layers", ())):
        if isinstance(layer, nn.GroupNorm):  # its statistics are the whole map's
            decoder.layers[index] = nn.Identity()
    x = torch.randn(4, 15, decoder.in_dim)
    for row, column in ((0, 4), (2, 0), (1, 3)):
        other = x.clone()
        other[:, row * 5 + column] += torch.randn(decoder.in_dim) * 3
        pair = (decoder(Features(x=each, grid=grid)) for each in (x, other))
        one, two = (from_tokens(each.x, each.grid, WIDE) for each in pair)
        change = (one - two).square().sum((0, 3)).unflatten(0, (3, 4)).unflatten(2, (5, 4)).sum((1, 3))
        assert change[row, column] > 0.1 * change.max()
        away = (torch.arange(5) - column).abs() > 2  # further than any convolution reaches
        assert change[row, column] > 10 * change[:, away].max()


def test_the_mask_token_replaces_hidden_tokens():
    torch.manual_seed(0)
    decoder = ViTDecoder(patch=4, width=16, data=Signature({"x": WIDE}), tokens=15).eval()
    features = Features(
        x=torch.randn(2, 1, 16), positions=torch.zeros(2, 1, dtype=torch.int64), length=15, grid=(3, 5)
    )
    before = decoder(features).x
    nn.init.normal_(decoder.code.absent)
    assert not torch.allclose(decoder(features).x, before, atol=1e-3)


@pytest.mark.slow
def test_an_autoencoder_of_digits_beats_pca():
    """8 numbers a digit: at most 0.6 of PCA's error after a few seconds (0.42 after four times as long)."""
    images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(-1)
    torch.manual_seed(0)
    order = torch.randperm(len(images))
    train, test = images[order[:1400]], images[order[1400:]]
    data = Signature({"x": Field(kind="image", shape=(8, 8, 1), range=(0, 1))})
    encoder = MLPEncoder(widths=(256, 128), data=data)
    decoder = MLPDecoder(widths=(128, 256), data=data, tokens=1)
    model = nn.ModuleList([encoder, nn.Linear(128, 8), nn.Linear(8, decoder.in_dim), decoder])
    steps = 500
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def decode(x):
        return decoder(Features(x=model[2](model[1](encoder({"x": x}).x))))

    for _ in range(steps):
        x = train[torch.randint(len(train), (128,))]
        optimizer.zero_grad()
        decode(x).nll(to_tokens(x, (1, 1), "image")).mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        decoded = decode(test)
    error = (from_tokens(decoded.x, decoded.grid, data["x"]) - test).square().flatten(1).sum(1).mean().item()
    pca = PCA(8).fit(train.flatten(1))
    flat = test.flatten(1).numpy()
    bar = ((pca.inverse_transform(pca.transform(flat)) - flat) ** 2).sum(1).mean()
    assert error < 0.6 * bar
    deviation = decoded.params["log_scale"].exp().item()
    assert deviation == pytest.approx((error / 64) ** 0.5, rel=0.35)  # calibrated: it knows how far off it is
