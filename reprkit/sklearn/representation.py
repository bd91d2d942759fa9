"""The representation of rows that a model learns, as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from reprkit.sklearn.rows import CHUNK_ROWS, RowModel


class Representation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowModel):
    """Learn a representation of rows without labels: ``transform`` encodes, ``inverse_transform`` decodes.

    ::

        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from reprkit.sklearn import Representation

        pipeline = make_pipeline(StandardScaler(), Representation("gaussian(dim=16)"), LogisticRegression(max_iter=1000))
        pipeline.fit(x, y).score(x_test, y_test)

    Rows are standardized internally (each feature to mean 0 and standard deviation 1, constant ones to 0), so that the same
    steps and learning rate suit many tables.  A DataFrame may hold numbers, texts of few values, booleans, dates and gaps,
    which the rules of the data set ``table`` distinguish; ``inverse_transform`` then returns a DataFrame with the same
    columns, without gaps.

    Fits with equal ``random_state`` are equal; torch's global random state is neither used nor changed.  Pickles hold the model
    as JSON and safetensors.

    Args:
        latent: a reference to any latent, as for ``rk.build``.
        encoder: a reference to an encoder of vectors.
        decoder: a reference to a decoder of vectors.
        objective: a reference or a weighted sum of them.
        steps: number of optimizer steps.
        batch: rows per step; all of them where there are fewer.
        lr: learning rate of AdamW, with a cosine schedule to 0.
        device: "cpu", "cuda", ...; None takes a GPU if there is one.
        random_state: an integer, a ``RandomState``, or None for a different fit each time.

    Attributes:
        model_: the trained ``rk.Model``, in evaluation mode.
        mean_: mean of each feature, or of each element of a DataFrame's rows (d,).
        scale_: their standard deviations, 1 for constant ones and for classes (d,).
        columns_: the columns of a DataFrame that is no matrix of numbers, with their classes; else ().
        loss_: the total loss at the last step, nats a row.
        n_features_in_: number of features.
        feature_names_in_: their names, if the rows had names.
    """

    def fit(self, X: Any, y: Any = None) -> Representation:
        """Fit the model to rows (b d); labels are ignored.

        Raises:
            ReprkitError: parts that do not exist or do not fit each other, or a column that no rule decides.
            ValueError: an array that is not a table of finite numbers.
        """
        data = self.learn_rows(X)
        self.train(data, int(check_random_state(self.random_state).randint(2**31 - 1)))
        self._n_features_out = int(self.model_.represent(data.batch([0])).shape[1])
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the representation (b e) of rows (b d), in the precision of the rows.

        Raises:
            DataError: a DataFrame that lacks a column, or holds a class that was not learned.
        """
        rows, known = self.read_rows(X)
        return self._encode(rows, known).astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> Any:
        """Decode representations (b e) to rows: (b d), or a DataFrame where one with ``columns_`` was learned.

        Raises:
            ValueError: another number of columns than ``transform`` returns.
        """
        from sklearn.utils import check_array

        check_is_fitted(self)
        codes = check_array(X, dtype=(np.float64, np.float32))
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"X has {codes.shape[1]} columns, but transform gives {self._n_features_out}")
        rows = self._decode(codes)
        if not self.columns_:
            return rows.astype(codes.dtype, copy=False)
        import torch

        from reprkit.data.formats.frame_columns import decode_rows

        return decode_rows(torch.from_numpy(rows), self.columns_)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the fraction of variance explained by the reconstruction: 1 - squared error / variance, at most 1.

        All features have equal weight, whatever their units; predicting the means scores 0.  Of a DataFrame the elements count, one
        for each class, and gaps do not.
        """
        rows, known = self.read_rows(X)
        rows = rows.astype(np.float64)
        error = (self._decode(self._encode(rows, known)) - rows) / self.scale_
        means = (rows * known).sum(0) / np.maximum(known.sum(0), 1)
        centered = (rows - means) / self.scale_
        total = float(np.square(centered)[known].sum())
        return float(1 - np.square(error)[known].sum() / max(total, np.finfo(np.float64).tiny))

    def _encode(self, rows: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            codes = [self.model_.represent(batch).cpu().numpy() for batch in self.batches(rows, known)]
        return np.concatenate(codes)[: len(rows)]

    def _decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the rows of codes in the rows' own units (b d)."""
        import torch

        from reprkit.types import Code

        name = next(iter(self.model_.factors))
        padded = np.pad(codes.astype(np.float32), ((0, -len(codes) % CHUNK_ROWS), (0, 0)))
        outputs = []
        with torch.no_grad():
            for chunk in torch.from_numpy(padded).to(self.model_.device).split(CHUNK_ROWS):
                decoded = self.model_.decode({name: Code(z=chunk.unsqueeze(1), grid=(1,), length=1)})
                outputs.append(self.model_.to_batch(decoded)["x"].cpu().numpy())
        rows: NDArray[np.float64] = np.concatenate(outputs)[: len(codes)].astype(np.float64)
        return rows if self.columns_ else rows * self.scale_ + self.mean_
