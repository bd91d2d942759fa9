"""A model of rows as the core of a scikit-learn estimator: reading rows, training, forward passes, pickles."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from reprkit.runs.filenames import MANIFEST, WEIGHTS

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from reprkit.data.base import Dataset
    from reprkit.data.signature import Column
    from reprkit.models.model import Model

CHUNK_ROWS = 256  # rows per forward pass, the last one padded to it, so that a row's code does not depend on the other rows


class RowModel(BaseEstimator):
    """A model of the rows of an array, or of a DataFrame with numbers, categories, dates and gaps.

    ``train`` reads the settings of the constructor.
    """

    columns_: tuple[Column, ...]
    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    model_: Model
    loss_: float

    def __init__(
        self,
        latent: str = "continuous(dim=8)",
        *,
        encoder: str = "mlp",
        decoder: str = "mlp",
        objective: str = "reconstruction",
        steps: int = 500,
        batch: int = 128,
        lr: float = 2e-3,
        device: str | None = "cpu",
        random_state: Any = None,
    ) -> None:
        self.latent = latent
        self.encoder = encoder
        self.decoder = decoder
        self.objective = objective
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.device = device
        self.random_state = random_state

    def learn_rows(self, X: Any, train: NDArray[np.intp] | None = None) -> Dataset:
        """Learn columns, means and scales of rows (b d), of the indices ``train`` only, and return these as a data set.

        Raises:
            DataError: a DataFrame with a column that no rule decides, or a row without any value.
            ValueError: an array that is no table of finite numbers.
        """
        import torch

        from reprkit.data.formats.arrays import Arrays
        from reprkit.data.formats.table import Table
        from reprkit.errors import DataError

        if is_mixed(X):
            frame = _frame(X)
            self.feature_names_in_, self.n_features_in_ = np.array(frame.columns, object), frame.shape[1]
            chosen = frame if train is None else frame.iloc[train]
            data = Table(chosen, columns=_not_labels(chosen))
            if "rows left out" in data.facts:
                raise DataError(
                    f"{data.facts['rows left out']} rows have no value in any column: leave them out (DataFrame.dropna)"
                )
            self.columns_ = data.signature["x"].columns
            self.mean_ = np.concatenate([np.full(c.width, c.mean) for c in self.columns_])
            self.scale_ = np.concatenate([np.full(c.width, c.std) for c in self.columns_])
            return data
        rows = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        rows = rows if train is None else rows[train]
        self.columns_ = ()
        self.mean_ = rows.mean(0, dtype=np.float64)
        deviation = rows.std(0, dtype=np.float64)
        # Rounding errors of a constant do not count as variation.
        constant = deviation <= 10 * np.finfo(rows.dtype).eps * np.maximum(np.abs(self.mean_), 1.0)
        self.scale_ = np.where(constant, 1.0, deviation)
        return Arrays({"x": torch.from_numpy(self._standardize(rows))})

    def train(self, data: Dataset, seed: int) -> None:
        """Build and train the model on the data that ``learn_rows`` returned; torch's random state is not changed."""
        import torch

        import reprkit as rk

        with torch.random.fork_rng(devices=_gpu_indices(self.device)):
            model = rk.build(
                data=data,
                encoder=self.encoder,
                latent=self.latent,
                decoder=self.decoder,
                objective=self.objective,
                seed=seed,
            )
            loop = rk.loop(
                model,
                data,
                steps=self.steps,
                batch=min(self.batch, len(data)),
                lr=self.lr,
                schedule="cosine",
                seed=seed,
                device=self.device,
                log_every=0,
                progress=False,
            )
            for step in loop:
                for turn in model.objective.turns:
                    losses = step.model(step.batch, turn)
                    step.backward(losses.total)
                    step.update(turn)
                if step.last:
                    self.loss_ = float(losses.total.detach())
        self.model_ = model

    def read_rows(self, X: Any, *, unseen_is_missing: bool = False) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return rows as elements of the field ``x`` in the rows' own units (b d), and which of them are known (b d).

        Raises:
            DataError: a DataFrame that lacks a column, or holds a class that was not learned.
            ValueError: no table of finite numbers, or an array where a DataFrame was learned.
        """
        check_is_fitted(self)
        if not self.columns_:
            rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
            return rows, np.ones(rows.shape, bool)
        from reprkit.data.formats.frame_columns import encode_rows
        from reprkit.data.formats.table import is_frame
        from reprkit.data.raw_input import not_learned

        if not is_frame(X):
            raise ValueError(
                f"{type(self).__name__} was fitted on a DataFrame with the columns {', '.join(self.feature_names_in_)}: give one, "
                f"not {type(X).__name__}"
            )
        x, known, unseen = encode_rows(_frame(X), self.columns_)
        if unseen and not unseen_is_missing:
            raise not_learned(unseen)
        return x.numpy(), known.numpy()

    def batches(self, rows: NDArray[Any], known: NDArray[np.bool_]) -> Iterator[dict[str, Tensor]]:
        """Yield the rows as batches of one size; the last is padded with copies of the last row."""
        import torch

        values = rows.astype(np.float32) if self.columns_ else self._standardize(rows)
        padding = ((0, -len(values) % CHUNK_ROWS), (0, 0))
        x = torch.from_numpy(np.pad(values, padding, mode="edge")).to(self.model_.device)
        if known.all():
            yield from ({"x": chunk} for chunk in x.split(CHUNK_ROWS))
            return
        mask = torch.from_numpy(np.pad(known, padding, mode="edge")).to(self.model_.device)
        for chunk, present in zip(x.split(CHUNK_ROWS), mask.split(CHUNK_ROWS), strict=True):
            yield {"x": chunk, "x_mask": present}

    def _standardize(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return ((rows - self.mean_) / self.scale_).astype(np.float32)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the model as the bytes of its files: JSON and safetensors."""
        state = dict(super().__getstate__())
        model = state.pop("model_", None)
        if model is not None:
            with tempfile.TemporaryDirectory() as folder:
                saved = model.save(Path(folder) / "model")
                state["_files"] = {name: (saved / name).read_bytes() for name in (MANIFEST, WEIGHTS)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; the model is loaded on the CPU."""
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            self.model_ = _load_model(files)
            self.__dict__.setdefault("columns_", ())  # pickles of earlier versions


def is_mixed(X: Any) -> bool:
    """Whether rows are a DataFrame that is no matrix of numbers: with categories, dates, booleans or gaps."""
    from reprkit.data.formats.table import is_bunch, is_frame

    if not is_frame(X) or is_bunch(X):
        return False
    frame = _frame(X)
    return any(dtype.kind not in "iuf" for dtype in frame.dtypes) or bool(frame.isna().any(axis=None))


def _frame(X: Any) -> pd.DataFrame:
    from reprkit.data.formats.table import read_frame

    return read_frame(X)[1]


def _not_labels(frame: pd.DataFrame) -> dict[str, str]:
    """Return the kinds of columns that a table takes for the label by their names: labels are given as y."""
    from pandas.api import types

    from reprkit.data.formats.frame_columns import LABELS

    return {
        name: "number"
        if types.is_numeric_dtype(frame[name]) and not types.is_bool_dtype(frame[name])
        else "category"
        for name in frame
        if name.lower() in LABELS
    }


def _load_model(files: dict[str, bytes]) -> Model:
    import reprkit as rk

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return rk.load(folder)


def _gpu_indices(device: str | None) -> list[int]:
    """Return the indices of the GPUs whose random state a fit may change."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return []
    return list(range(torch.cuda.device_count()))
