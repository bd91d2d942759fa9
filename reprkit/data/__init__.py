"""Data sets: map-style, plain dicts of tensors, each with a signature.  Names are resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.lazy import lazily

if TYPE_CHECKING:
    from reprkit.data.arrays import Arrays
    from reprkit.data.audio import Audio
    from reprkit.data.base import Dataset, Subset
    from reprkit.data.batching import collate
    from reprkit.data.checks import check_batch
    from reprkit.data.codes import CodesOf
    from reprkit.data.digits import Digits
    from reprkit.data.hub import Hub
    from reprkit.data.hub_stream import HubStream
    from reprkit.data.images import Images
    from reprkit.data.json_lines import JsonLines
    from reprkit.data.lines import Lines
    from reprkit.data.order import Order, loader
    from reprkit.data.resolve import dataset
    from reprkit.data.signature import Field, Signature
    from reprkit.data.streaming import Stream
    from reprkit.data.tensors import Tensors

# Lazily, because parts read the signature (torch-free) long before anybody reads data.
_HOMES = {
    "Arrays": "arrays",
    "Audio": "audio",
    "CodesOf": "codes",
    "Dataset": "base",
    "Digits": "digits",
    "Field": "signature",
    "Hub": "hub",
    "HubStream": "hub_stream",
    "Images": "images",
    "JsonLines": "json_lines",
    "Lines": "lines",
    "Order": "order",
    "Signature": "signature",
    "Stream": "streaming",
    "Subset": "base",
    "Tensors": "tensors",
    "check_batch": "checks",
    "collate": "batching",
    "dataset": "resolve",
    "loader": "order",
}

__all__ = [
    "Arrays",
    "Audio",
    "CodesOf",
    "Dataset",
    "Digits",
    "Field",
    "Hub",
    "HubStream",
    "Images",
    "JsonLines",
    "Lines",
    "Order",
    "Signature",
    "Stream",
    "Subset",
    "Tensors",
    "check_batch",
    "collate",
    "dataset",
    "loader",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
