"""``rk.load(folder, data=)``: the same parts on data of another size."""

import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import CheckpointError, ReprkitError
from reprkit.testing.sample_data import random_batch


def images(side, channels=1, **more):
    return Signature({"x": Field(kind="image", shape=(side, side, channels), range=(0.0, 1.0), **more)})


def frames(length):
    return Signature({"x": Field(kind="sequence", shape=(length, 3))})


VIT = "vit(width=16, heads=2, depth=1, patch=4)"


@pytest.mark.parametrize(
    ("encoder", "decoder", "latent", "small", "large"),
    [
        ("conv(width=8)", "conv(width=8)", "vq(codes=8, dim=4)", images(8), images(16)),
        (VIT, VIT, "binary(bits=4)", images(8), images(16)),
        ("gru(width=8)", "gru(width=8)", "vq(codes=8, dim=4)", frames(6), frames(11)),
        ("transformer(width=16, heads=2, depth=1)", "gru(width=8)", "one-hot(classes=5)", frames(6), frames(None)),
    ],
    ids=["conv", "vit", "gru", "transformer"],
)  # fmt: skip
def test_parts_without_a_size_of_their_own_read_other_sizes(encoder, decoder, latent, small, large, tmp_path):
    model = rk.build(data=small, encoder=encoder, latent=latent, decoder=decoder).eval()
    model.save(tmp_path / "small")
    loaded = rk.load(tmp_path / "small", data=large)
    assert loaded.signature == large
    batch = random_batch(large, 2, length=9)
    with torch.no_grad():
        scored = loaded.score(batch)
    assert scored.decoded.x.shape == scored.target.shape
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    loaded.save(tmp_path / "large")
    again = rk.load(tmp_path / "large")
    with torch.no_grad():
        assert torch.equal(again.score(batch).decoded.x, scored.decoded.x)


def test_the_same_size_gives_the_same_model(tmp_path):
    model = rk.build(data=images(8), encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))").eval()
    model.save(tmp_path)
    batch = random_batch(images(8), 2)
    with torch.no_grad():
        assert torch.equal(
            rk.load(tmp_path, data=images(8)).score(batch).decoded.x, model.score(batch).decoded.x
        )


def test_parts_that_depend_on_the_size_raise_one_error(tmp_path):
    rk.build(data=images(8), encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))").save(tmp_path)
    with pytest.raises(
        CheckpointError, match="cannot be used on data of this size: some of its weights depend on the size"
    ) as caught:
        rk.load(tmp_path, data=images(16))
    assert "factors.code.encoder" in str(caught.value)
    assert "(file (8, 64), model (8, 256))" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (images(8, channels=3), "channels 3 instead of 1"),
        (frames(8), "kind 'sequence' instead of 'image'"),
        (images(8, vocab=2), "vocab 2 instead of None"),
        (Signature({"y": images(8)["x"]}), "no field 'x'"),
    ],
)
def test_data_that_differs_in_more_than_size_is_refused(data, what, tmp_path):
    rk.build(data=images(8), encoder="conv(width=8)", decoder="conv(width=8)").save(tmp_path)
    with pytest.raises(ReprkitError, match=what):
        rk.load(tmp_path, data=data)


def test_a_size_that_the_parts_cannot_cut_is_refused(tmp_path):
    rk.build(data=images(8), encoder=VIT, decoder=VIT).save(tmp_path)
    with pytest.raises(ReprkitError):
        rk.load(tmp_path, data=images(10))
