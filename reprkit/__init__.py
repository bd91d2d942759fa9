"""Representation learning from four swappable parts: encoder, latent, decoder, objective.

Public names are imported on first use, so ``import reprkit`` is fast and does not import torch::

    import reprkit as rk

    model = rk.build(
        data=train, encoder="conv", latent="vq(codes=512)", decoder="conv", objective="reconstruction"
    )
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader

if TYPE_CHECKING:
    from reprkit.checkpoints.export import export
    from reprkit.checkpoints.hub import push
    from reprkit.checkpoints.save_load import load
    from reprkit.data import Column, Dataset, Field, Signature, dataset
    from reprkit.errors import ReprkitError
    from reprkit.evaluation import evaluate
    from reprkit.interfaces import Corruption, Decoder, Encoder, Evaluator, Latent, Likelihood, Objective
    from reprkit.models.build import build
    from reprkit.models.embedding import embed
    from reprkit.models.factor import factor
    from reprkit.models.model import Model
    from reprkit.models.output import output
    from reprkit.registry.create import create
    from reprkit.registry.hookspecs import Spec, hookimpl
    from reprkit.reporting import report
    from reprkit.training import fit, loop
    from reprkit.training.launch import Launch, recipe
    from reprkit.types import Code, Codes, Decoded, Features, Losses

    __version__: str

# Sub-packages and modules available as attributes without an explicit import, as in rk.training.Run.
_SUBMODULES = {
    "corruptions",
    "data",
    "decoders",
    "encoders",
    "errors",
    "evaluation",
    "interfaces",
    "latents",
    "layers",
    "likelihoods",
    "objectives",
    "reporting",
    "sklearn",
    "testing",
    "training",
    "types",
}

# Module -> its public names.  A public name must not be the name of a module of this package: importing that
# module would replace the public object.
_PUBLIC_NAMES = {
    "registry.hookspecs": ["Spec", "hookimpl"],
    "errors": ["ReprkitError"],
    "types": ["Features", "Code", "Codes", "Decoded", "Losses"],
    "interfaces": ["Encoder", "Latent", "Decoder", "Likelihood", "Objective", "Corruption", "Evaluator"],
    "data": ["Dataset", "Signature", "Field", "Column", "dataset"],
    "registry.create": ["create"],
    "models.factor": ["factor"],
    "models.build": ["build"],
    "models.embedding": ["embed"],
    "models.model": ["Model"],
    "models.output": ["output"],
    "checkpoints.save_load": ["load"],
    "training": ["loop", "fit"],
    "checkpoints.export": ["export"],
    "checkpoints.hub": ["push"],
    "evaluation": ["evaluate"],
    "reporting": ["report"],
    "training.launch": ["Launch", "recipe"],
}

__all__ = [  # noqa: RUF022 (in the order of use)
    "create", "dataset", "factor", "output", "build", "Model", "loop", "fit", "load", "embed", "evaluate", "report",
    "export", "push", "recipe", "Launch",
    "Encoder", "Latent", "Decoder", "Likelihood", "Objective", "Corruption", "Evaluator",
    "Features", "Code", "Codes", "Decoded", "Losses", "Dataset", "Signature", "Field", "Column",
    "Spec", "hookimpl", "ReprkitError",
]  # fmt: skip

_resolve, _, _known = lazy_loader.attach(__name__, _SUBMODULES, _PUBLIC_NAMES)


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use."""
    if name == "__version__":
        from reprkit.registry.discovery import own_version

        return own_version()
    if name not in _known:
        from reprkit.errors import nearest

        hint = nearest(name, _known).replace(" Did", ". Did", 1)
        raise AttributeError(f"module 'reprkit' has no attribute {name!r}{hint}")
    return _resolve(name)


def __dir__() -> list[str]:
    """Return all public names, including those not imported yet."""
    return sorted({*globals(), *_known, "__version__"})
