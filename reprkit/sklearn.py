"""A model as a scikit-learn estimator: pipelines, grid searches, ``clone``, ``joblib`` and the rest work as they do there."""

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

_CHUNK_ROWS = 256  # go through the model at once, the last ones filled up: so a row's code does not depend on the rows beside it


class Representation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learns a representation of rows without labels: ``transform`` encodes, ``inverse_transform`` decodes.

    ::

        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from reprkit.sklearn import Representation

        pipeline = make_pipeline(StandardScaler(), Representation("gaussian(dim=16)"), LogisticRegression(max_iter=1000))
        pipeline.fit(x, y).score(x_test, y_test)

    Rows are standardised inside (mean 0, standard deviation 1 for each feature, constant ones left at 0), so that steps and
    rates that suit one table suit another.  Given equal ``random_state`` two fits are equal, and nothing else draws from, or
    leaves a trace in, torch's global random state.  Pickles hold the model as JSON and safetensors.

    Args:
        latent: a reference, as for ``rk.build``; any latent will do.
        encoder: a reference to an encoder of vectors.
        decoder: a reference to a decoder of vectors.
        objective: a reference or a weighted sum of them.
        steps: optimiser steps.
        batch: rows a step; with fewer rows than that, all of them.
        lr: learning rate of AdamW, falling to 0 along a cosine.
        device: "cpu", "cuda", ...; None takes a GPU when there is one.
        random_state: a number, a ``RandomState``, or None for another draw each time.

    Attributes:
        model_: the trained ``rk.Model``, in evaluation mode.
        mean_: of each feature (d,).
        scale_: of each feature, 1 for constant ones (d,).
        loss_: the objective at the last step, nats a row.
        n_features_in_: features of a row.
        feature_names_in_: their names, where the rows had some.
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
        """Train on rows (b d); labels are not looked at.

        Raises:
            ReprkitError: parts that do not exist or do not fit.
            ValueError: rows that are no table of finite numbers.
        """
        import torch

        import reprkit as rk

        rows = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.mean_ = rows.mean(0, dtype=np.float64)
        deviation = rows.std(0, dtype=np.float64)
        # What is left of a constant by rounding is no variation.
        still = deviation <= 10 * np.finfo(rows.dtype).eps * np.maximum(np.abs(self.mean_), 1.0)
        self.scale_ = np.where(still, 1.0, deviation)
        data = rk.dataset({"x": torch.from_numpy(self._scaled(rows))})
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
        self._n_features_out = self._encoded(rows[:2]).shape[1]
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """The representation (b e) of rows (b d), in their own precision."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._encoded(rows).astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Rows (b d) that the decoder makes of representations (b e).

        Raises:
            ValueError: not as many columns as ``transform`` gives.
        """
        import torch
        from sklearn.utils import check_array

        from reprkit.types import Code

        check_is_fitted(self)
        codes = check_array(X, dtype=(np.float64, np.float32))
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"X has {codes.shape[1]} columns, but transform gives {self._n_features_out}")
        name = next(iter(self.model_.factors))
        made = []
        with torch.no_grad():
            for part in self._pieces(codes.astype(np.float32)):
                decoded = self.model_.decode({name: Code(z=part.unsqueeze(1), grid=(1,), length=1)})
                made.append(self.model_.to_batch(decoded)["x"].cpu().numpy())
        rows = np.concatenate(made)[: len(codes)].astype(np.float64) * self.scale_ + self.mean_
        return rows.astype(codes.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """The share of the rows' variance that survives encoding and decoding (1 - squared error / variance, at most 1).

        All features count alike, whatever their units; 0 is what their means alone would give.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        error = (self.inverse_transform(self._encoded(rows).astype(np.float64)) - rows) / self.scale_
        spread = (rows - rows.mean(0)) / self.scale_
        return float(
            1 - np.square(error).sum() / max(float(np.square(spread).sum()), np.finfo(np.float64).tiny)
        )

    # ------------------------------------------------------------------ inside

    def _scaled(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return ((rows - self.mean_) / self.scale_).astype(np.float32)

    def _pieces(self, rows: NDArray[np.float32]) -> Any:
        """The rows as tensors on the model's device, ``_CHUNK_ROWS`` at a time; rows of zeros fill up the last piece."""
        import torch

        filled = np.concatenate([rows, np.zeros((-len(rows) % _CHUNK_ROWS, rows.shape[1]), np.float32)])
        return torch.from_numpy(filled).to(self.model_.device).split(_CHUNK_ROWS)

    def _encoded(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            pieces = self._pieces(self._scaled(rows))
            found = [self.model_.represent({"x": each}).cpu().numpy() for each in pieces]
        return np.concatenate(found)[: len(rows)]

    def __getstate__(self) -> dict[str, Any]:
        """The model as the bytes of its files: JSON and safetensors."""
        state = dict(super().__getstate__())
        model = state.pop("model_", None)
        if model is not None:
            with tempfile.TemporaryDirectory() as folder:
                place = model.save(Path(folder) / "model")
                state["_files"] = {name: (place / name).read_bytes() for name in (MANIFEST, WEIGHTS)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The inverse; the model comes back on the CPU."""
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
    """The GPUs whose random state a fit may touch."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return []
    return list(range(torch.cuda.device_count()))
