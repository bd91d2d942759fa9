"""Data sets: map-style, plain dicts of tensors, each with a signature.  Names are resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.utils.lazy import attach

if TYPE_CHECKING:
    from reprkit.data.arrays import Arrays
    from reprkit.data.audio import Audio
    from reprkit.data.base import Dataset, Subset
    from reprkit.data.batching import collate
    from reprkit.data.checks import check_batch
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
    from reprkit.models.codes_dataset import CodesOf

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

# Lazily, because parts read the signature (torch-free) long before anybody reads data.
__getattr__, __dir__ = attach(
    __name__,
    submod_attrs={
        "arrays": ["Arrays"],
        "audio": ["Audio"],
        "base": ["Dataset", "Subset"],
        "digits": ["Digits"],
        "signature": ["Field", "Signature"],
        "hub": ["Hub"],
        "hub_stream": ["HubStream"],
        "images": ["Images"],
        "json_lines": ["JsonLines"],
        "lines": ["Lines"],
        "order": ["Order", "loader"],
        "streaming": ["Stream"],
        "tensors": ["Tensors"],
        "checks": ["check_batch"],
        "batching": ["collate"],
        "resolve": ["dataset"],
    },
    elsewhere={"CodesOf": "reprkit.models.codes_dataset"},
)
