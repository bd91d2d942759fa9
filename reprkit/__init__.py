"""Representation learning from four swappable parts: encoder, latent, decoder, objective.

The public names are resolved when first used: ``import reprkit`` costs nothing and imports no torch::

    import reprkit as rk

    model = rk.build(
        data=train, encoder="conv", latent="vq(codes=512)", decoder="conv", objective="reconstruction"
    )
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.assembly import build
    from reprkit.checkpoint import load
    from reprkit.data import Dataset, Field, Signature, dataset
    from reprkit.errors import ReprkitError
    from reprkit.evaluation import evaluate
    from reprkit.exporting import export
    from reprkit.flags import Launch, recipe
    from reprkit.hookspecs import Spec, hookimpl
    from reprkit.hub import push
    from reprkit.interfaces import Corruption, Decoder, Encoder, Evaluator, Latent, Objective
    from reprkit.model import Model
    from reprkit.parts import create
    from reprkit.paths import factor
    from reprkit.reporting import report
    from reprkit.training import fit, loop
    from reprkit.types import Code, Codes, Decoded, Features, Losses

    __version__: str

# Public name -> its module.  No public name is also the name of a module of this package: importing that
# module would put itself in the name's place.
_HOME = {
    "Spec": "hookspecs",
    "hookimpl": "hookspecs",
    "ReprkitError": "errors",
    "Features": "types",
    "Code": "types",
    "Codes": "types",
    "Decoded": "types",
    "Losses": "types",
    "Encoder": "interfaces",
    "Latent": "interfaces",
    "Decoder": "interfaces",
    "Objective": "interfaces",
    "Corruption": "interfaces",
    "Evaluator": "interfaces",
    "Dataset": "data",
    "Signature": "data",
    "Field": "data",
    "dataset": "data",
    "create": "parts",
    "factor": "paths",
    "build": "assembly",
    "Model": "model",
    "load": "checkpoint",
    "loop": "training",
    "fit": "training",
    "export": "exporting",
    "push": "hub",
    "evaluate": "evaluation",
    "report": "reporting",
    "Launch": "flags",
    "recipe": "flags",
}

__all__ = [  # noqa: RUF022 (in the order in which one meets them)
    "create", "dataset", "factor", "build", "Model", "loop", "fit", "load", "evaluate", "report", "export", "push",
    "recipe", "Launch",
    "Encoder", "Latent", "Decoder", "Objective", "Corruption", "Evaluator",
    "Features", "Code", "Codes", "Decoded", "Losses", "Dataset", "Signature", "Field",
    "Spec", "hookimpl", "ReprkitError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used."""
    if name == "__version__":
        from reprkit.discovery import own_version

        return own_version()
    if name == "data":  # rk.data.Tensors, before anything else has imported it
        return importlib.import_module("reprkit.data")
    if name not in _HOME:
        raise AttributeError(f"module 'reprkit' has no attribute {name!r}{_hint(name)}")
    value = getattr(importlib.import_module(f"reprkit.{_HOME[name]}"), name)
    globals()[name] = value  # so that the next use is a plain look-up
    return value


def _hint(name: str) -> str:
    from reprkit.errors import nearest

    return nearest(name, _HOME).replace(" Did", ". Did", 1)


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *_HOME, "__version__"})
