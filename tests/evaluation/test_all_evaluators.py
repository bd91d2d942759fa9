from reprkit.testing import EvaluatorConformance
from reprkit.testing.worlds import SEQUENCES


class TestReconstruction(EvaluatorConformance):
    part = "reconstruction"


class TestLinearProbe(EvaluatorConformance):
    part = "linear-probe(C=2.0)"


class TestKNN(EvaluatorConformance):
    part = "knn(k=3)"


class TestCodebook(EvaluatorConformance):
    part = "codebook"


class TestProjection(EvaluatorConformance):
    part = "projection(limit=40)"


class TestFineTune(EvaluatorConformance):
    part = "finetune(steps=3, labels=20, start='probe')"


class TestFewLabels(EvaluatorConformance):
    part = "few-labels(labels=(20,), measures=('knn(k=3)', 'finetune(steps=2)'))"


class TestMasking(EvaluatorConformance):
    part = "masking"


class TestMaskingOfSequences(EvaluatorConformance):
    part = "masking(ratio=0.5)"
    data = SEQUENCES
