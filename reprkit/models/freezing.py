"""Frozen parts of a model: neither gradients nor statistics change them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from reprkit.errors import BuildError, nearest

if TYPE_CHECKING:
    from reprkit.models.model import Model


def freezable_modules(model: Model) -> dict[str, list[nn.Module]]:
    """Return the modules that each name freezes.

    ``decoder`` is that of all outputs; where they have names, ``NAME.decoder`` is that of one.
    ``encoder`` and ``latent`` are those of all factors, ``adapters`` all linear maps of the core, ``NAME`` a whole factor, and
    ``NAME.encoder``, ``NAME.latent`` and ``NAME.adapters`` its own.
    """
    parts: dict[str, list[nn.Module]] = {"encoder": [], "latent": [], "adapters": []}
    own: dict[str, list[nn.Module]] = {}
    for name, factor in model.factors.items():
        adapters: list[nn.Module] = [factor.adapter]
        if factor.condition is not None:
            adapters.append(factor.conditioner)
        if not model.has_named_outputs and name in model.adapters:
            adapters.append(model.adapters[name])
        pieces: dict[str, list[nn.Module]] = {
            "encoder": [factor.encoder], "latent": [factor.latent], "adapters": adapters,
        }  # fmt: skip
        own[name] = [module for modules in pieces.values() for module in modules]
        for piece, modules in pieces.items():
            own[f"{name}.{piece}"] = modules
            parts[piece] += modules
    decoders: list[nn.Module] = []
    for name, output in model.outputs.items():
        if model.has_named_outputs:
            own[f"{name}.decoder"] = [output.decoder]
            parts["adapters"] += list(output.adapters.values())
        decoders.append(output.decoder)
    parts["decoder"] = decoders
    parts["objective"] = [model.objective]
    return {name: modules for name, modules in (own | parts).items() if modules}


def find_frozen_modules(model: Model, names: Iterable[str]) -> list[nn.Module]:
    """Return the modules of these names.

    Raises:
        BuildError: the model has no part of a name; the message has the nearest one.
    """
    known, found = freezable_modules(model), []
    for name in names:
        if name not in known:
            raise BuildError(
                f"freeze: the model has no part {name!r}.{nearest(name, known)}\n  its parts: {', '.join(known)}"
            )
        found += known[name]
    return found


def freeze_weights(model: Model, names: Iterable[str], before: frozenset[str]) -> frozenset[str]:
    """Let the weights of these parts need no gradient, and those frozen before need one again; return the names of the former.

    Weights that need no gradient for another reason are not among them, and stay as they are.

    Raises:
        BuildError: see ``find_frozen_modules``.
    """
    modules = find_frozen_modules(model, names)
    weights = dict(model.named_parameters())
    for name in weights.keys() & before:
        weights[name].requires_grad_(True)
    frozen = {id(parameter) for module in modules for parameter in module.parameters()}
    chosen = frozenset(name for name, each in weights.items() if id(each) in frozen and each.requires_grad)
    for name in chosen:
        weights[name].requires_grad_(False)
    return chosen
