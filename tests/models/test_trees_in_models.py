"""Trees in a model: from a latent, through replaced and fused factors, to a decoder that reads them, and to bytes."""

from dataclasses import replace

import pytest
import torch
from small_models import PAIRS, Cut, make_batch
from torch import nn

import reprkit as rk
from reprkit import Spec, hookimpl
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Latent, Objective
from reprkit.layers.trees import check_tree, right_branching, tree_of
from reprkit.models.draws import repeat_features
from reprkit.models.factor import pool_features
from reprkit.models.grid import fuse
from reprkit.registry import Registry, using_registry
from reprkit.registry.create import create
from reprkit.types import Code, Decoded, Features

LEFT = torch.tensor([[2, 2, 4, 4, -1]])


class Tree(Latent):
    """Five tokens of 2 values, each bit of them a symbol; left-branching where the first value is positive."""

    provides = frozenset({"tree"})

    def __init__(self, data=None, *, wrong=False):
        super().__init__(in_dim=2, out_dim=2, vocab=(2, 2))
        self.data, self.wrong = data, wrong

    def count(self, tokens):
        return 5

    def forward(self, features):
        x = features.x[:, :1].expand(-1, 5, -1) * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).view(5, 1)
        right = right_branching(torch.ones(len(x), 5, dtype=torch.bool))
        parents = torch.where(x[:, :1, 0] > 0, LEFT, right)
        if self.wrong:
            parents = parents.clamp(min=0)
        hard = torch.where(x > 0, 1.0, -1.0)
        return Code(z=hard + x - x.detach(), indices=(x > 0).long(), grid=(), parents=parents)

    def embed(self, indices):
        return indices * 2.0 - 1


class Reader(Decoder):
    """The sum of each token times its distance to its parent: (b 1 6)."""

    provides = frozenset({"tree"})

    def __init__(self, provides=("tree",)):
        super().__init__()
        self.provides, self.in_dim = frozenset(provides), 2
        self.linear = nn.Linear(2, 6)

    def forward(self, features, *, teacher=None, length=None):
        parents = tree_of(features)
        distance = (parents - torch.arange(parents.shape[1])).clamp(min=0).unsqueeze(-1)
        mean = self.linear((features.x * (1 + distance.square())).sum(1, keepdim=True))
        params = {"mean": mean, "log_scale": torch.zeros(1, 1, 1)}
        return Decoded(x=mean, likelihood="gaussian", params=params, grid=(1,))


def build(**options):
    parts = {"encoder": Cut(3), "latent": Tree(), "decoder": Reader()}
    return rk.build(data=PAIRS, **{**parts, **options})


def test_a_decoder_reads_the_tree_of_the_latent():
    model, batch = build().eval(), make_batch()
    codes = model.encode(batch)
    check_tree(codes.parents, arity=2)
    assert len(codes.parents.unique(dim=0)) == 2
    seen = model.merge(codes)
    assert torch.equal(seen.parents, codes.parents)
    plain = codes | {"code": replace(codes["code"], parents=None)}
    right = codes | {"code": replace(codes["code"], parents=right_branching(torch.ones(4, 5).bool()))}
    outputs = [model.decode(each).x for each in (codes, plain, right)]
    assert torch.equal(outputs[1], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


class TreesPlugin:
    @hookimpl
    def reprkit_latents(self):
        yield Spec("tree", f"{__name__}:Tree")


def test_latents_receive_the_signature_of_the_data_also_after_loading(tmp_path):
    registry = Registry()
    registry.register(TreesPlugin(), name="trees", version="1.0")
    fields = {"x": Field(kind="vector", shape=(3,)), "y": Field(kind="vector", shape=(6,))}
    with using_registry(registry):
        factors = {"code": rk.factor("mlp(widths=(4,))", "trees/tree", input="y")}
        model = rk.build(data=Signature(fields), factors=factors, decoder="mlp(widths=(4,))")
        again = rk.load(model.save(tmp_path / "model"))
    for each in (model, again):
        assert each.latent().data["x"] == fields["y"]
        assert "data" not in each.latent().arguments


def test_replaced_factors_keep_their_tree_and_pooling_drops_it():
    model = build().eval()
    one, two = model.encode(make_batch(seed=1)), model.encode(make_batch(seed=2))
    assert (one | {"code": two["code"]})["code"].parents is two["code"].parents
    features = Features(x=torch.ones(1, 5, 2), parents=LEFT)
    assert pool_features(features).parents is None
    assert torch.equal(Code.of(features, z=features.x).parents, LEFT)
    assert torch.equal(repeat_features(features, 3).parents, LEFT.expand(3, -1))


def test_fusion_keeps_the_tree_of_the_longest_code():
    tree = Code(z=torch.ones(1, 5, 2), parents=LEFT)
    plain, single = Code(z=torch.ones(1, 5, 2)), Code(z=torch.ones(1, 1, 2))
    longer = Code(z=torch.ones(1, 9, 2))
    for codes in ([tree, single], [single, tree], [plain, tree], [tree, plain]):
        assert torch.equal(fuse(codes).parents, LEFT)
    assert fuse([tree, longer]).parents is None


def test_bytes_keep_the_tree():
    model = build().eval()
    codes = model.encode(make_batch(6))
    again = model.decompress(model.compress(codes))
    assert torch.equal(again.parents, codes.parents)
    torch.testing.assert_close(model.decode(again).x, model.decode(codes).x)


def test_an_undeclared_or_wrong_tree_is_refused_by_build():
    with pytest.raises(BuildError, match="the root, and its parent must be -1"):
        build(latent=Tree(wrong=True))
    latent = Tree()
    latent.provides = frozenset()
    with pytest.raises(BuildError, match="neither encoder nor latent declares them"):
        build(latent=latent)
    latent = create("latent", "continuous(dim=2)")
    latent.provides = frozenset({"tree"})
    with pytest.raises(BuildError, match=r'provides "tree", and the code has no parents'):
        build(latent=latent)


def test_build_checks_that_trees_are_read():
    class NeedsTrees(Objective):
        needs = frozenset({"decoder", "tree"})

        def forward(self, model, batch, turn="main"):
            return {"reconstruction": model.score(batch).loss}

    build(objective=NeedsTrees())
    with pytest.raises(BuildError, match='needs trees: use a decoder that provides "tree"'):
        build(objective=NeedsTrees(), decoder=Reader(provides=()))
    with pytest.raises(BuildError, match='needs trees: use a latent that provides "tree"'):
        build(objective=NeedsTrees(), latent="continuous(dim=2)")
    with pytest.warns(UserWarning, match="no decoder reads them"):
        build(decoder=Reader(provides=()))


def test_a_decoder_of_trees_goes_with_any_latent():
    signature = Signature({"x": Field(kind="vector", shape=(6,))})
    model = rk.build(data=signature, encoder=Cut(3), latent="gaussian(dim=2)", decoder=Reader())
    model({"x": torch.randn(4, 6)}).total.backward()
    assert model.encode({"x": torch.randn(4, 6)}).deviation.shape == (4, 3, 2)
