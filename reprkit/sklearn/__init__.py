"""Models as scikit-learn estimators, for pipelines, grid searches, ``clone`` and ``joblib``."""

from reprkit.sklearn.outliers import OutlierDetector
from reprkit.sklearn.representation import Representation

__all__ = ["OutlierDetector", "Representation"]
