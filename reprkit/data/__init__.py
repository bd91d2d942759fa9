"""Data sets: map-style, plain dicts of tensors, each with a signature.  Names are resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.lazy import lazily

if TYPE_CHECKING:
    from reprkit.data.arrays import Arrays
    from reprkit.data.base import Dataset, Subset
    from reprkit.data.batching import collate
    from reprkit.data.checks import check_batch
    from reprkit.data.codes import CodesOf
    from reprkit.data.digits import Digits
    from reprkit.data.order import Order, loader
    from reprkit.data.resolve import dataset
    from reprkit.data.signature import Field, Signature
    from reprkit.data.tensors import Tensors

# Lazily, because parts read the signature (torch-free) long before anybody reads data.
_HOMES = {
    "Arrays": "arrays",
    "CodesOf": "codes",
    "Dataset": "base",
    "Digits": "digits",
    "Field": "signature",
    "Order": "order",
    "Signature": "signature",
    "Subset": "base",
    "Tensors": "tensors",
    "check_batch": "checks",
    "collate": "batching",
    "dataset": "resolve",
    "loader": "order",
}

__all__ = [
    "Arrays",
    "CodesOf",
    "Dataset",
    "Digits",
    "Field",
    "Order",
    "Signature",
    "Subset",
    "Tensors",
    "check_batch",
    "collate",
    "dataset",
    "loader",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
