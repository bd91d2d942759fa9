"""The kit's checks of the parts."""

import pytest
import torch
from reprkit_structure.objectives.parse import small_model

import reprkit as rk
from reprkit import Field, Signature
from reprkit.testing import (
    DatasetConformance,
    DecoderConformance,
    EvaluatorConformance,
    LatentConformance,
    ObjectiveConformance,
)

WORDS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=11)})

pytestmark = pytest.mark.slow  # of each part some dozens of checks


class TestPCFG(DecoderConformance):
    part = "reprkit-structure/pcfg(nonterminals=3, preterminals=4, width=8, depth=1)"
    data = WORDS


class TestPCFGOfOneLength(DecoderConformance):
    part = "reprkit-structure/pcfg(nonterminals=2, preterminals=3, width=6, depth=0)"
    data = Signature({"x": Field(kind="tokens", shape=(6,), vocab=5)})


class TestStack(DecoderConformance):
    part = "reprkit-structure/stack(width=8)"
    data = WORDS


class TestSentences(DatasetConformance):
    part = "reprkit-structure/sentences(size=40)"


class TestArithmetic(DatasetConformance):
    part = "reprkit-structure/expressions(kind='arithmetic', size=40)"


class TestTree(LatentConformance):
    part = "reprkit-structure/tree(dim=3, width=6, hidden=8)"


class TestTreeWithoutAGradient(LatentConformance):
    part = "reprkit-structure/tree(dim=3, width=6, hidden=8, gradient='none')"


class TestTreeLSTM(LatentConformance):
    part = "reprkit-structure/tree-lstm(width=6, hidden=8)"


class TestTreeLSTMRoot(LatentConformance):
    part = "reprkit-structure/tree-lstm(width=6, hidden=8, keep='root')"


class TestBracketF1(EvaluatorConformance):
    part = "reprkit-structure/bracket-f1"
    data = WORDS
    latents = ("reprkit-structure/tree(dim=4, width=8)", "reprkit-structure/tree-lstm(width=8)")

    def sets(self):
        return rk.dataset("sentences(size=60, longest=8)").split()


class WithTrees(ObjectiveConformance):
    """Random rules are no trees: the batch holds trees of the grammar of ``small_model``."""

    def batch(self, size, *, seed=0, length=6):
        from brute_force import derivations
        from reprkit_structure.layers.python_rules import rules_of

        batch = super().batch(size, seed=seed, length=length)
        trees = derivations(rules_of(small_model()["data"]["tree"].form), 4)
        rows = [trees[(seed + place) % len(trees)] for place in range(size)]
        batch["tree"] = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
        batch["tree_mask"] = torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]
        return batch


class TestParse(WithTrees):
    part = "reprkit-structure/parse"
    data = WORDS


class TestStructVAE(WithTrees):
    part = "reprkit-structure/structvae(samples=2)"
    data = WORDS


class TestURNNG(ObjectiveConformance):
    part = "reprkit-structure/urnng(samples=2, warmup=3)"
    data = WORDS
    latent = "reprkit-structure/tree(dim=4, width=8, gradient='none', prior='decoder')"
    decoder = "reprkit-structure/stack(width=8)"


class TestTemplates(DatasetConformance):
    part = "reprkit-structure/templates(size=40)"


class TestDerivation(LatentConformance):
    part = "reprkit-structure/derivation(width=6, length=5, prior=6)"
    data = small_model()["data"]
