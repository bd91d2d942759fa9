"""Pictures with sounds: sounds as clusters and components, ranks of retrieved sounds, baselines, and figures of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from reprkit import Dataset, Model
from reprkit.data import sound
from reprkit.errors import DataError
from reprkit.evaluation import activations
from reprkit.reporting import Images, Sounds

SECONDS = 5.0  # of a sound that a page plays
_SIDE = 96  # pixels of a picture on a page, at most
_PEAK = 1e-9


class SoundTargets(NamedTuple):
    """Sounds as a network learns them.

    Attributes:
        vectors: principal components of the standardized statistics, of standard deviation 1 in all.
        clusters: number of the cluster of each sound.
        centers: of the clusters, in components.
    """

    vectors: Float[np.ndarray, "n d"]
    clusters: Int[np.ndarray, " n"]
    centers: Float[np.ndarray, "k d"]


def describe_sounds(
    textures: Float[np.ndarray, "n s"],
    train: Int[np.ndarray, " m"],
    components: int,
    clusters: int,
    seed: int,
) -> SoundTargets:
    """Describe all sounds by components and k-means clusters that are fitted to those of ``train`` alone.

    Raises:
        DataError: fewer sounds in ``train`` than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(train) < max(clusters, 2):
        raise DataError(f"{len(train)} sounds to train on are too few for {clusters} clusters")
    count = min(components, len(train) - 1, textures.shape[1])
    reduce = make_pipeline(StandardScaler(), PCA(count, random_state=seed)).fit(textures[train])
    vectors = reduce.transform(textures)
    vectors = (vectors / max(float(vectors[train].std()), _PEAK)).astype(np.float32)
    means = KMeans(clusters, n_init=10, random_state=seed).fit(vectors[train])
    return SoundTargets(vectors, means.predict(vectors).astype(np.int64), means.cluster_centers_)


def regress(
    pictures: Float[np.ndarray, "n p"],
    sounds: Float[np.ndarray, "n d"],
    train: Int[np.ndarray, " m"],
    test: Int[np.ndarray, " t"],
) -> Float[np.ndarray, "t d"]:
    """Return the sounds of ``test`` that ridge regression on standardized pictures predicts; its penalty is chosen on ``train``."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13))).fit(
        pictures[train], sounds[train]
    )
    return model.predict(pictures[test])


def similarities(
    pictures: Float[np.ndarray, "n d"], sounds: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n n"]:
    """Return the cosine of each picture's vector with each sound's; 0 for a vector of zeros."""
    one, two = (x / np.linalg.norm(x, axis=1, keepdims=True).clip(_PEAK) for x in (pictures, sounds))
    return one @ two.T


def ranks_of_own(similarity: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    """Return the rank of each picture's own sound, from 1; others of equal similarity come before it."""
    return (similarity >= similarity.diagonal()[:, None]).sum(1)


def recall(
    ranks: Int[np.ndarray, " n"], others: Mapping[str, Int[np.ndarray, " n"]], at: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Return recall, and the paired gain in recall at 5 over other methods on the same pictures, with its standard error.

    Args:
        ranks: of the own sounds.
        others: name of a method -> its ranks on the same pictures.
        at: the numbers k of ``recall_at_k``.

    Returns:
        ``recall_at_k``, and for each of the others ``over_NAME`` and ``over_NAME_error``.
    """
    found = {f"recall_at_{k}": float((ranks <= k).mean()) for k in at}
    for name, other in others.items():
        gain = (ranks <= 5).astype(np.float64) - (other <= 5)
        found[f"over_{name}"] = float(gain.mean())
        found[f"over_{name}_error"] = float(gain.std(ddof=1) / len(gain) ** 0.5)
    return found


def chance(sizes: Sequence[int], at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Return the recall of random orders, in parts of these sizes."""
    total = sum(sizes)
    return {f"recall_at_{k}": sum(min(k, size) for size in sizes) / total for k in at}


def joint_similarities(model: Model, data: Dataset) -> Float[np.ndarray, "n n"]:
    """Return the cosine of each picture with each sound, factors ``image`` and ``sound``, in the space of the objective."""
    batch = data.batch(range(len(data)))
    one, two = (model.joint_vectors(batch, factor, to="numpy") for factor in ("image", "sound"))
    return similarities(one, two)


def expected_sounds(
    model: Model, data: Dataset, centers: Float[np.ndarray, "k d"]
) -> Float[np.ndarray, "n d"]:
    """Return the mean of the clusters' centers, by the probabilities that objective ``classify`` predicts of each picture."""
    batch = model.to_device(data.batch(range(len(data))))
    with torch.no_grad():
        logits = model.eval().objective.logits(model, batch)  # type: ignore[operator]
    return logits.softmax(-1).cpu().numpy() @ centers


def exciting_pictures(
    model: Model,
    data: Dataset,
    names: Sequence[str],
    *,
    factor: str | None = None,
    units: int = 12,
    shown: int = 8,
) -> Images:
    """Return the pictures that excite each unit of the encoder's output most (Owens et al. 2016, arXiv 1608.07017, figure 5).

    A unit's activation is its mean over the picture.  The units shown are those whose largest activation stands out most, in
    standard deviations over the pictures.

    Args:
        model: trained.
        data: the pictures, field ``x``.
        names: of the pictures; the rows name the first three.
        factor: whose encoder is meant.
        units: number of rows.
        shown: number of pictures in a row.
    """
    seen = activations(model, data, factor)["features"]
    deviations = (seen - seen.mean(0)) / np.maximum(seen.std(0), _PEAK)
    chosen = np.argsort(-deviations.max(0), kind="stable")[:units]
    pictures = _for_page(data)
    rows = {}
    for unit in chosen:
        first = np.argsort(-seen[:, unit], kind="stable")[:shown]
        label = ", ".join(names[row].rpartition("--")[2].rpartition("/")[2] for row in first[:3])
        rows[f"{unit}: {label}"] = pictures[first]
    return Images(
        title="What excites a unit",
        rows=rows,
        span=(0.0, 1.0),
        cell=5,
        caption="Pictures of the test part, those with the largest activation first; a row is a unit of the encoder's output.",
    )


def retrieved_sounds(
    data: Dataset,
    similarity: Float[np.ndarray, "n n"],
    names: Sequence[str],
    files: Sequence[Path],
    shown: int = 8,
) -> list[Images | Sounds]:
    """Return the first pictures of a data set, and players of their own sounds and of those that are found first.

    Args:
        data: the pictures, field ``x``.
        similarity: of each picture to each sound.
        names: of the pictures.
        files: sound of each.
        shown: number of pictures, at most; the first ones, not chosen.
    """
    count = min(shown, len(files))
    ranks, first = ranks_of_own(similarity), similarity.argmax(1)
    rows = {
        f"{row + 1}. {names[row]}": {
            "own sound": sound.read(files[row], stop=SECONDS).numpy(),
            "found first": sound.read(files[first[row]], stop=SECONDS).numpy(),
        }
        for row in range(count)
    }
    notes = {
        name: {"own sound": f"rank {ranks[row]} of {len(files)}", "found first": names[first[row]]}
        for row, name in enumerate(rows)
    }
    pictures = Images(
        title="Pictures",
        rows={"picture": _for_page(data)[:count]},
        span=(0.0, 1.0),
        cell=5,
        caption="Not chosen.",
    )
    return [pictures, Sounds(title="Their sounds", rows=rows, notes=notes)]


def _for_page(data: Dataset) -> np.ndarray:
    """Return the pictures (n h w c), each side at most ``_SIDE`` pixels where an integer factor allows."""
    pictures = data.batch(range(len(data)))["x"]
    step = -(-max(pictures.shape[1:3]) // _SIDE)
    return pictures[:, ::step, ::step].numpy()
