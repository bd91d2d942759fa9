import dataclasses

import pytest
import torch
from torch.utils import _pytree as pytree

import reprkit as rk
from reprkit.types import replace


def code(**fields):
    return rk.Code(z=torch.arange(6.0).reshape(1, 2, 3), **fields)


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        code().z = torch.zeros(1)


def test_records_are_pytrees_of_their_tensors():
    # FSDP and DDP find a forward's tensors this way; an opaque record means weights that never move.
    losses = rk.Losses(total=torch.ones(()), terms={"a": torch.zeros(())})
    leaves = [leaf for leaf in pytree.tree_leaves(losses) if isinstance(leaf, torch.Tensor)]
    assert any(leaf is losses.total for leaf in leaves)
    codes = rk.Codes({"content": code()})
    doubled = pytree.tree_map(lambda leaf: leaf * 2 if isinstance(leaf, torch.Tensor) else leaf, codes)
    assert torch.equal(doubled["content"].z, codes["content"].z * 2)


def test_fields_of_one_factor_are_read_directly_and_several_must_be_named():
    one = rk.Codes({"content": code(bits=torch.ones(1))})
    assert one.z is one["content"].z
    assert one.bits is one["content"].bits
    two = one | {"speaker": code()}
    with pytest.raises(AttributeError, match="2 factors; say which"):
        _ = two.z
    with pytest.raises(AttributeError, match="no attribute 'zz'"):
        _ = one.factors["content"] and two.zz
    with pytest.raises(KeyError, match="no factor named 'speeker'; there are: content, speaker"):
        _ = two["speeker"]


def test_merging_codes_leaves_both_unchanged():
    a = rk.Codes({"content": code(), "speaker": code()})
    b = rk.Codes({"content": code(), "speaker": code()})
    converted = a | {"speaker": b["speaker"]}
    assert converted["content"] is a["content"]
    assert converted["speaker"] is b["speaker"]
    assert a["speaker"] is not b["speaker"]


def test_code_copies_the_layout_of_the_features():
    features = rk.Features(x=torch.zeros(1, 2, 3), grid=(1, 2), positions=torch.tensor([[0, 4]]), length=5)
    code = rk.Code.of(features, z=torch.zeros(1, 2, 7))
    assert (code.grid, code.length) == ((1, 2), 5)
    assert torch.equal(code.positions, features.positions)
    assert replace(code, length=6).length == 6
