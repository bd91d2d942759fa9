"""Image encoders on real digits and against independent references."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from reprkit.data.signature import Field, Signature
from reprkit.encoders.conv import ConvEncoder
from reprkit.encoders.flat import FlatEncoder
from reprkit.encoders.mlp import MLPEncoder
from reprkit.encoders.vit import ViTEncoder

DIGITS = Signature({"x": Field(kind="image", shape=(8, 8, 1), range=(0, 1))})


def digits(size=16):
    return torch.tensor(load_digits().images[:size] / 16, dtype=torch.float32).unsqueeze(-1)


def test_the_vit_equals_a_reference_implementation():
    """Against torch's own pre-norm encoder layer, and patches cut by hand."""
    torch.manual_seed(0)
    encoder = ViTEncoder(patch=2, width=16, depth=1, heads=2, data=DIGITS).eval()
    layer = nn.TransformerEncoderLayer(
        16, 2, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    block = encoder.blocks.blocks[0]
    pairs = {
        layer.self_attn.in_proj_weight: block.attention.qkv.weight,
        layer.self_attn.in_proj_bias: block.attention.qkv.bias,
        layer.self_attn.out_proj.weight: block.attention.out.weight,
        layer.self_attn.out_proj.bias: block.attention.out.bias,
        layer.linear1.weight: block.feed[1].weight,
        layer.linear1.bias: block.feed[1].bias,
        layer.linear2.weight: block.feed[3].weight,
        layer.linear2.bias: block.feed[3].bias,
    }
    with torch.no_grad():
        for theirs, ours in pairs.items():
            ours.copy_(nn.init.normal_(theirs, std=0.2))
    x = digits(3)
    patches = torch.stack(
        [x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1) for i in range(4) for j in range(4)], 1
    )
    places = encoder.places
    expected = layer(nn.functional.linear(patches * 2 - 1, encoder.embed.weight, encoder.embed.bias) + places)
    expected = nn.functional.layer_norm(expected, (16,))
    torch.testing.assert_close(encoder({"x": x}).x, expected, atol=1e-5, rtol=1e-5)


def test_without_attention_visible_patches_are_encoded_as_in_the_whole():
    """With attention switched off, which others are visible does not matter to a patch; with it, it does."""
    torch.manual_seed(0)
    encoder, batch = ViTEncoder(width=16, depth=2, heads=2, data=DIGITS).eval(), {"x": digits(3)}
    keep = torch.stack([torch.randperm(16)[:5] for _ in range(3)])

    def visible_of_all():
        return torch.take_along_dim(encoder(batch).x, keep.unsqueeze(-1), 1)

    assert not torch.allclose(encoder(batch, keep=keep).x, visible_of_all(), atol=1e-3)
    for block in encoder.blocks.blocks:
        nn.init.zeros_(block.attention.out.weight)
    torch.testing.assert_close(encoder(batch, keep=keep).x, visible_of_all(), atol=1e-5, rtol=1e-5)


def test_the_vit_computes_only_what_it_keeps():
    encoder, seen = ViTEncoder(width=16, depth=1, heads=2, data=DIGITS), []
    encoder.embed.register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    encoder({"x": digits(3)}, keep=torch.zeros(3, 1, dtype=torch.int64))
    assert seen == [(3, 1, 4)]


def test_cells_are_in_reading_order():
    """Changing the image's upper left corner changes the first cell most."""
    torch.manual_seed(0)
    encoder, x = ConvEncoder(width=16, depth=2, blocks=0, data=DIGITS).eval(), digits(4)
    other = x.clone()
    other[:, :2, :2] = 1 - other[:, :2, :2]
    change = (encoder({"x": other}).x - encoder({"x": x}).x).square().sum(-1).mean(0)
    assert change.argmax() == 0


def test_symbols_are_read_one_hot():
    field = Field(kind="tokens", shape=(5,), vocab=6)
    encoder = MLPEncoder(width=7, depth=1, data=Signature({"x": field}))
    text = torch.randint(7, (3, 5))
    hot = nn.functional.one_hot(text, 7).flatten(1).float()
    expected = nn.functional.gelu(hot @ encoder.layers[0].columns.weight + encoder.layers[0].bias)
    torch.testing.assert_close(encoder({"x": text}).x[:, 0], expected)


def test_flat_reads_values_rescaled_or_as_they_are():
    x = digits(3)
    assert torch.equal(FlatEncoder(data=DIGITS)({"x": x}).x, (2 * x - 1).flatten(1).unsqueeze(1))
    assert torch.equal(FlatEncoder(rescale=False, data=DIGITS)({"x": x}).x, x.flatten(1).unsqueeze(1))


def test_flat_drops_elements_in_training_only():
    x = torch.rand(64, 8, 8, 1)
    encoder = FlatEncoder(rescale=False, dropout=0.25, data=DIGITS)
    kept = encoder.train()({"x": x}).x.squeeze(1)
    dropped = kept == 0
    assert 0.2 < dropped.float().mean() < 0.3
    torch.testing.assert_close(kept[~dropped], x.flatten(1)[~dropped] / 0.75)
    assert torch.equal(encoder.eval()({"x": x}).x.squeeze(1), x.flatten(1))
