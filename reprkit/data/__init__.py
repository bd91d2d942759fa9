"""Data sets: map-style, with examples that are plain dicts of tensors, each with a signature.  Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.utils.lazy import attach

if TYPE_CHECKING:
    from reprkit.data.base import Dataset, Subset
    from reprkit.data.checks import check_batch
    from reprkit.data.collation import collate
    from reprkit.data.folds import fold
    from reprkit.data.formats.arrays import Arrays
    from reprkit.data.formats.audio import Audio
    from reprkit.data.formats.digits import Digits
    from reprkit.data.formats.hub import Hub
    from reprkit.data.formats.hub_stream import HubStream
    from reprkit.data.formats.images import Images
    from reprkit.data.formats.json_lines import JsonLines
    from reprkit.data.formats.lines import Lines
    from reprkit.data.formats.shard_writer import write_shards
    from reprkit.data.formats.table import Table
    from reprkit.data.formats.tar_stream import TarStream
    from reprkit.data.formats.tensors import Tensors
    from reprkit.data.loading.order import Order, loader
    from reprkit.data.resolve import dataset
    from reprkit.data.signature import Column, Field, Signature
    from reprkit.data.streams import Stream
    from reprkit.models.codes_dataset import CodesOf

__all__ = [
    "Arrays",
    "Audio",
    "CodesOf",
    "Column",
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
    "Table",
    "TarStream",
    "Tensors",
    "check_batch",
    "collate",
    "dataset",
    "fold",
    "loader",
    "write_shards",
]

# Lazy, because parts import the signature (torch-free) long before any data is read.
__getattr__, __dir__ = attach(
    __name__,
    submod_attrs={
        "formats.arrays": ["Arrays"],
        "formats.audio": ["Audio"],
        "base": ["Dataset", "Subset"],
        "folds": ["fold"],
        "formats.digits": ["Digits"],
        "signature": ["Column", "Field", "Signature"],
        "formats.hub": ["Hub"],
        "formats.hub_stream": ["HubStream"],
        "formats.images": ["Images"],
        "formats.json_lines": ["JsonLines"],
        "formats.shard_writer": ["write_shards"],
        "formats.table": ["Table"],
        "formats.tar_stream": ["TarStream"],
        "formats.lines": ["Lines"],
        "loading.order": ["Order", "loader"],
        "streams": ["Stream"],
        "formats.tensors": ["Tensors"],
        "checks": ["check_batch"],
        "collation": ["collate"],
        "resolve": ["dataset"],
    },
    elsewhere={"CodesOf": "reprkit.models.codes_dataset"},
)
