"""CIFAR-10, CIFAR-100 and STL-10 from a local folder, read by torchvision; nothing is downloaded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from reprkit import Field, Signature
from reprkit.errors import DataError
from reprkit_vision.data.official import Official


class Cifar10(Official):
    """60,000 photographs of 32 x 32 in 10 classes, from their official files.

    Fields: ``x`` image (32 32 3), float32 in [0, 1]; ``label``.  ``split`` returns the official 50,000 training and
    10,000 test images.  The files are pickles; torchvision reads them only if their MD5 sums are the published ones.

    Args:
        root: the folder that holds ``cifar-10-batches-py/``, unpacked from cifar-10-python.tar.gz.

    Raises:
        DataError: files that are missing or are not the official ones.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    def __init__(self, root: str) -> None:
        super().__init__(**_read_cifar(datasets.CIFAR10, root, "cifar10"))


class Cifar100(Official):
    """60,000 photographs of 32 x 32 in 100 classes (Krizhevsky 2009); fields and split as those of ``cifar10``.

    Args:
        root: the folder that holds ``cifar-100-python/``, unpacked from cifar-100-python.tar.gz.

    Raises:
        DataError: files that are missing or are not the official ones.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    def __init__(self, root: str) -> None:
        super().__init__(**_read_cifar(datasets.CIFAR100, root, "cifar100"))


class Stl10(Official):
    """13,000 labeled photographs of 96 x 96 in 10 classes, or 100,000 without labels.

    Fields: ``x`` image (96 96 3), float32 in [0, 1]; ``label``.  ``split`` returns the official 5,000 training and
    8,000 test images.  The unlabeled images have no official test part: the last tenth is used.

    Args:
        root: the folder that holds ``stl10_binary/``, unpacked from stl10_binary.tar.gz.
        unlabeled: read the 100,000 images without labels (2.8 GB).

    Raises:
        DataError: files that are missing or are not the official ones.

    Source: Coates et al. 2011, "An analysis of single-layer networks in unsupervised feature learning".
    """

    renamed_arguments = {"unlabelled": "unlabeled"}  # noqa: RUF012

    def __init__(self, root: str, *, unlabeled: bool = False) -> None:
        base = datasets.STL10
        names = ("unlabeled",) if unlabeled else ("train", "test")
        splits = [_read_split(base, root, "stl10_binary.tar.gz", split=name) for name in names]
        pixels = torch.from_numpy(np.concatenate([split.data for split in splits])).permute(0, 2, 3, 1)
        labels = torch.from_numpy(np.concatenate([split.labels for split in splits])).long()
        values, fields = {"x": pixels}, {"x": Field(kind="image", shape=(96, 96, 3), range=(0.0, 1.0))}
        if not unlabeled:
            values["label"] = labels
            fields["label"] = Field(kind="label", shape=(), vocab=10)
        train_size = len(pixels) - max(1, len(pixels) // 10) if unlabeled else len(splits[0].data)
        super().__init__(values, Signature(fields), train_size=train_size, name="stl10")


def _read_cifar(base: Any, root: str, name: str) -> dict[str, Any]:
    splits = [_read_split(base, root, base.filename, train=train) for train in (True, False)]
    pixels = torch.from_numpy(np.concatenate([split.data for split in splits]))
    labels = torch.tensor([label for split in splits for label in split.targets])
    fields = {
        "x": Field(kind="image", shape=(32, 32, 3), range=(0.0, 1.0)),
        "label": Field(kind="label", shape=(), vocab=len(splits[0].classes)),
    }
    return {
        "values": {"x": pixels, "label": labels},
        "signature": Signature(fields),
        "train_size": len(splits[0].data),
        "name": name,
    }


def _read_split(base: Any, root: str, archive: str, **split: Any) -> Any:
    """Read an official split with torchvision.

    Raises:
        DataError: files that are missing or damaged; the message says which files are expected where.
    """
    folder = Path(root).expanduser()
    try:
        return base(str(folder), download=False, **split)
    except (RuntimeError, OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        inside = folder / base.base_folder
        wanted = [name for name, _ in base.train_list + base.test_list]
        missing = [name for name in wanted if not (inside / name).is_file()]
        fault = f"lacks {', '.join(missing)}" if missing else "has files that are not the official ones"
        if not inside.is_dir():
            fault = "does not exist"
        raise DataError(
            f"{base.__name__} is not in {str(folder)!r}: {inside} {fault}\n"
            f"  nothing is downloaded: fetch {archive} from {base.url.rpartition('/')[0]}, and unpack it in {folder}"
        ) from error
