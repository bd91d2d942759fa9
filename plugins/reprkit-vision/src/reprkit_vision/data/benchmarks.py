"""CIFAR-10, CIFAR-100 and STL-10 from a folder of one's own, through torchvision; nothing is downloaded."""

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

    Fields: ``x`` image (32 32 3), float32 in [0, 1]; ``label``.  ``split`` gives the official 50,000 and
    10,000.  The files are pickles; torchvision reads them only where their MD5 sums are the published ones.

    Args:
        root: the folder that holds ``cifar-10-batches-py/``, unpacked from cifar-10-python.tar.gz.

    Raises:
        DataError: files that are missing or are not the official ones.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    def __init__(self, root: str) -> None:
        super().__init__(**_cifar(datasets.CIFAR10, root, "cifar10"))


class Cifar100(Official):
    """60,000 photographs of 32 x 32 in 100 classes (Krizhevsky 2009), as ``cifar10``.

    Args:
        root: the folder that holds ``cifar-100-python/``, unpacked from cifar-100-python.tar.gz.

    Raises:
        DataError: files that are missing or are not the official ones.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """

    def __init__(self, root: str) -> None:
        super().__init__(**_cifar(datasets.CIFAR100, root, "cifar100"))


class Stl10(Official):
    """13,000 labelled photographs of 96 x 96 in 10 classes, or 100,000 without labels.

    Fields: ``x`` image (96 96 3), float32 in [0, 1]; ``label``.  ``split`` gives the official 5,000 and
    8,000.  Without labels there is no official test part: the last tenth is it.

    Args:
        root: the folder that holds ``stl10_binary/``, unpacked from stl10_binary.tar.gz.
        unlabelled: the 100,000 images without labels (2.8 GB).

    Raises:
        DataError: files that are missing or are not the official ones.

    Source: Coates et al. 2011, "An analysis of single-layer networks in unsupervised feature learning".
    """

    def __init__(self, root: str, *, unlabelled: bool = False) -> None:
        base = datasets.STL10
        names = ("unlabeled",) if unlabelled else ("train", "test")
        read = [_read(base, root, "stl10_binary.tar.gz", split=name) for name in names]
        pixels = torch.from_numpy(np.concatenate([each.data for each in read])).permute(0, 2, 3, 1)
        labels = torch.from_numpy(np.concatenate([each.labels for each in read])).long()
        values, fields = {"x": pixels}, {"x": Field(kind="image", shape=(96, 96, 3), range=(0.0, 1.0))}
        if not unlabelled:
            values["label"] = labels
            fields["label"] = Field(kind="label", shape=(), vocab=10)
        trained = len(pixels) - max(1, len(pixels) // 10) if unlabelled else len(read[0].data)
        super().__init__(values, Signature(fields), trained=trained, name="stl10")


def _cifar(base: Any, root: str, name: str) -> dict[str, Any]:
    read = [_read(base, root, base.filename, train=train) for train in (True, False)]
    pixels = torch.from_numpy(np.concatenate([each.data for each in read]))
    labels = torch.tensor([label for each in read for label in each.targets])
    fields = {
        "x": Field(kind="image", shape=(32, 32, 3), range=(0.0, 1.0)),
        "label": Field(kind="label", shape=(), vocab=len(read[0].classes)),
    }
    return {
        "values": {"x": pixels, "label": labels},
        "signature": Signature(fields),
        "trained": len(read[0].data),
        "name": name,
    }


def _read(base: Any, root: str, archive: str, **part: Any) -> Any:
    """A part as torchvision reads it.

    Raises:
        DataError: files that are missing or damaged; the message says which belong where.
    """
    folder = Path(root).expanduser()
    try:
        return base(str(folder), download=False, **part)
    except (RuntimeError, OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        inside = folder / base.base_folder
        wanted = [name for name, _ in base.train_list + base.test_list]
        lacking = [name for name in wanted if not (inside / name).is_file()]
        found = f"lacks {', '.join(lacking)}" if lacking else "holds files that are not the official ones"
        if not inside.is_dir():
            found = "is not there"
        raise DataError(
            f"{base.__name__} is not in {str(folder)!r}: {inside} {found}\n"
            f"  nothing is downloaded: fetch {archive} from {base.url.rpartition('/')[0]}, and unpack it in {folder}"
        ) from error
