"""Unrolling: a stack of restricted Boltzmann machines as the initial weights of a deep autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprkit.errors import BuildError
from reprkit.layers.dropout import Dropout
from reprkit.layers.value_embedding import element_scales
from reprkit.likelihoods.bernoulli import Bernoulli
from reprkit.models.factor import resolve_factor
from reprkit.objectives.rbm import RBM

if TYPE_CHECKING:
    from reprkit.models.factor import Factor
    from reprkit.models.model import Model


@torch.no_grad()
def unroll(machines: Sequence[Model], model: Model, *, factor: str | None = None) -> None:
    """Copy restricted Boltzmann machines into the layers of an autoencoder (Hinton and Salakhutdinov 2006, Science 313, fig. 1).

    The map of a machine to its hidden units becomes a layer of the encoder, or the core's map before the latent; its map to the
    visible units becomes the layer of the decoder at the same distance from the code.  Both are copies: weights are not tied.
    Machines fewer than layers initialize those nearest to the data; the others are left as they are.  The latent is not changed:
    after a top machine with Gaussian hidden units it is ``continuous``, after a binary one ``continuous(activation='sigmoid')``.

    Args:
        machines: models with objective ``rbm``, from the data upwards: each was trained on the probabilities of the units of the
            one before.
        model: encoder and decoder ``mlp`` with ``activation='sigmoid'`` and without normalization.
        factor: the factor of ``model`` that reads the data; None means the only one.

    Raises:
        BuildError: a model that is no machine, or whose layers, units or sizes do not fit; nothing was copied then.
    """
    name = resolve_factor(model.factors, factor, "unroll")
    maps = _layers(model, model.factors[name])
    if not 1 <= len(machines) <= len(maps):
        sizes = ", ".join(f"{inward.in_features} to {inward.out_features}" for inward, _ in maps)
        raise BuildError(
            f"unroll: {len(machines)} machines for an encoder of {len(maps)} layers ({sizes}): "
            "give one for each, from the data upwards"
        )
    copies: list[tuple[Tensor, Tensor]] = []
    for number, (machine, (inward, outward)) in enumerate(zip(machines, maps, strict=False), 1):
        rbm, own = _machine(machine, number)
        weight, bias = rbm.hidden_map(own)
        if number == 1:
            _check_data(model, name, machine, own, rbm)
            assert model.signature is not None  # checked with the data
            center, radius = element_scales(
                model.signature[model.factors[name].input]
            )  # of what the encoder reads
            bias = bias + weight @ center.to(weight).expand(weight.shape[1])
            weight = weight * radius.to(weight)
        elif not rbm.bernoulli:
            raise BuildError(
                f"unroll: machine {number} has Gaussian visible units, and reads the probabilities of machine {number - 1}: "
                "train it on data with range=(0, 1)"
            )
        if number < len(maps) and rbm.hidden != "bernoulli":
            raise BuildError(
                f"unroll: machine {number} has Gaussian hidden units, which only the code may have (layer {len(maps)})"
            )
        back, visible = rbm.visible_map(own)
        for title, given, kept in (("encoder", weight, inward), ("decoder", back, outward)):
            if given.shape != kept.weight.shape:
                raise BuildError(
                    f"unroll: machine {number} has {weight.shape[1]} visible and {weight.shape[0]} hidden units, and layer "
                    f"{number} of the {title} is {kept.in_features} to {kept.out_features}"
                )
        copies += [
            (inward.weight, weight),
            (inward.bias, bias),
            (outward.weight, back),
            (outward.bias, visible),
        ]
    for target, value in copies:
        target.copy_(value)


def _machine(machine: Model, number: int) -> tuple[RBM, Factor]:
    rbm = machine.objective
    if not isinstance(rbm, RBM):
        raise BuildError(f"unroll: machine {number} has objective {rbm.title}, and must have rbm")
    return rbm, machine.factors[rbm.name]


def _layers(model: Model, factor: Factor) -> list[tuple[nn.Linear, nn.Linear]]:
    """Return the linear maps of encoder and decoder at equal distance from the code, from the data inwards."""
    decoder: Any = model.decoder
    if decoder is None:
        raise BuildError("unroll: the model has no decoder to copy the machines into: use decoder mlp")
    inward = [*_linear_maps(factor.encoder, "encoder"), factor.adapter]
    adapter, head = model.adapters[factor.name], getattr(getattr(decoder, "head", None), "linear", None)
    outward: list[Any] = [adapter, *_linear_maps(decoder, "decoder"), head]
    if not all(isinstance(each, nn.Linear) for each in outward) or len(inward) != len(outward):
        raise BuildError(
            f"unroll: the encoder has {len(inward)} linear maps and the decoder {len(outward)}: use encoder mlp and decoder mlp "
            "with the same widths in reversed order"
        )
    return list(zip(inward, outward[::-1], strict=True))


def _linear_maps(part: nn.Module, title: str) -> list[nn.Linear]:
    layers = getattr(part, "layers", None)
    if not isinstance(layers, nn.Sequential):
        raise BuildError(f"unroll: {title} {type(part).__name__} has no stack of linear maps: use mlp")
    for layer in layers:
        if not isinstance(layer, nn.Linear | nn.Sigmoid | nn.Identity | Dropout):
            raise BuildError(
                f"unroll: the {title} has {type(layer).__name__}, and the units of the machines are sigmoid: use "
                "mlp(activation='sigmoid', norm='none')"
            )
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def _check_data(model: Model, name: str, machine: Model, own: Factor, rbm: RBM) -> None:
    """Check that both models rescale the data alike, and that the decoder's output is the machine's."""
    assert model.signature is not None  # the decoder was made for it
    assert machine.signature is not None  # checked by the objective
    theirs, mine = machine.signature[own.input], model.signature[model.factors[name].input]
    pairs = zip(element_scales(theirs), element_scales(mine), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs):
        raise BuildError(
            f"unroll: machine 1 learned field {own.input!r} with range {theirs.range}, and the autoencoder reads "
            f"{model.factors[name].input!r} with range {mine.range}: build both with the same data"
        )
    decoder: Any = model.decoder
    head = decoder.head
    if isinstance(head.likelihood, Bernoulli) != rbm.bernoulli:
        wanted = "likelihood='bernoulli'" if rbm.bernoulli else "a density, such as likelihood='gaussian'"
        raise BuildError(
            f"unroll: the visible units of machine 1 are {'binary' if rbm.bernoulli else 'Gaussian'}, so the decoder needs {wanted}"
        )
