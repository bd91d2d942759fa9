"""A model as a scikit-learn estimator, for pipelines, grid searches, ``clone`` and ``joblib``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from reprkit.runs.filenames import MANIFEST, WEIGHTS

if TYPE_CHECKING:
    from reprkit.models.model import Model

_CHUNK_ROWS = 256  # rows per forward pass, the last one padded to it, so that a row's code does not depend on the other rows


class Representation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a representation of rows without labels: ``transform`` encodes, ``inverse_transform`` decodes.

    ::

        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from reprkit.sklearn import Representation

        pipeline = make_pipeline(StandardScaler(), Representation("gaussian(dim=16)"), LogisticRegression(max_iter=1000))
        pipeline.fit(x, y).score(x_test, y_test)

    Rows are standardized internally (each feature to mean 0 and standard deviation 1, constant ones to 0), so that the same
    steps and learning rate suit many tables.  Fits with equal ``random_state`` are equal; torch's global random state is neither
    used nor changed.  Pickles hold the model as JSON and safetensors.

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
        mean_: mean of each feature (d,).
        scale_: standard deviation of each feature, 1 for constant ones (d,).
        loss_: the total loss at the last step, nats a row.
        n_features_in_: number of features.
        feature_names_in_: their names, if the rows had names.
    """

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

    def fit(self, X: Any, y: Any = None) -> Representation:
        """Fit the model to rows (b d); labels are ignored.

        Raises:
            ReprkitError: parts that do not exist or do not fit each other.
            ValueError: rows that are not a table of finite numbers.
        """
        import torch

        import reprkit as rk

        rows = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.mean_ = rows.mean(0, dtype=np.float64)
        deviation = rows.std(0, dtype=np.float64)
        # Rounding errors of a constant do not count as variation.
        constant = deviation <= 10 * np.finfo(rows.dtype).eps * np.maximum(np.abs(self.mean_), 1.0)
        self.scale_ = np.where(constant, 1.0, deviation)
        data = rk.dataset({"x": torch.from_numpy(self._standardize(rows))})
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
                batch=min(self.batch, len(rows)),
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
        self._n_features_out = self._encode(rows[:2]).shape[1]
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the representation (b e) of rows (b d), in the precision of the rows."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._encode(rows).astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Decode representations (b e) to rows (b d).

        Raises:
            ValueError: another number of columns than ``transform`` returns.
        """
        import torch
        from sklearn.utils import check_array

        from reprkit.types import Code

        check_is_fitted(self)
        codes = check_array(X, dtype=(np.float64, np.float32))
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"X has {codes.shape[1]} columns, but transform gives {self._n_features_out}")
        name = next(iter(self.model_.factors))
        outputs = []
        with torch.no_grad():
            for chunk in self._split(codes.astype(np.float32)):
                decoded = self.model_.decode({name: Code(z=chunk.unsqueeze(1), grid=(1,), length=1)})
                outputs.append(self.model_.to_batch(decoded)["x"].cpu().numpy())
        rows = np.concatenate(outputs)[: len(codes)].astype(np.float64) * self.scale_ + self.mean_
        return rows.astype(codes.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the fraction of variance explained by the reconstruction: 1 - squared error / variance, at most 1.

        All features have equal weight, whatever their units; predicting the means scores 0.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        error = (self.inverse_transform(self._encode(rows).astype(np.float64)) - rows) / self.scale_
        centered = (rows - rows.mean(0)) / self.scale_
        return float(
            1 - np.square(error).sum() / max(float(np.square(centered).sum()), np.finfo(np.float64).tiny)
        )

    # ------------------------------------------------------------------ internals

    def _standardize(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return ((rows - self.mean_) / self.scale_).astype(np.float32)

    def _split(self, rows: NDArray[np.float32]) -> Any:
        """Split rows into tensors of ``_CHUNK_ROWS`` on the model's device; the last is padded with rows of zeros."""
        import torch

        padded = np.concatenate([rows, np.zeros((-len(rows) % _CHUNK_ROWS, rows.shape[1]), np.float32)])
        return torch.from_numpy(padded).to(self.model_.device).split(_CHUNK_ROWS)

    def _encode(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            chunks = self._split(self._standardize(rows))
            codes = [self.model_.represent({"x": chunk}).cpu().numpy() for chunk in chunks]
        return np.concatenate(codes)[: len(rows)]

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
