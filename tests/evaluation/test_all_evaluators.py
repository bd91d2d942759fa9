from reprkit.testing import EvaluatorConformance


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
