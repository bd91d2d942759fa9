"""The kit's checks of the parts."""

import pytest

import reprkit as rk
from reprkit import Field, Signature
from reprkit.testing import DatasetConformance, DecoderConformance, EvaluatorConformance, LatentConformance

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
