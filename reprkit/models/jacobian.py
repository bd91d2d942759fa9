"""The Jacobian of a model's code or output with respect to the data, by one backward pass for each element of the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError, PartArgumentError
from reprkit.models.factor import order_by_condition, resolve_factor
from reprkit.types import Batch, Code, Codes
from reprkit.utils import collectives
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.models.model import Model


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Context in which attention uses torch's math kernel, the only one that can be differentiated twice."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def jacobian(
    model: Model,
    batch: Batch,
    of: Literal["code", "output"] = "code",
    *,
    factor: str | None = None,
    create_graph: bool = False,
    probes: int = 0,
    generator: torch.Generator | None = None,
    in_range: bool = True,
) -> Float[Tensor, "b o i"]:
    """See ``Model.jacobian``."""
    if of not in ("code", "output") or probes < 0:
        raise PartArgumentError(
            f"jacobian takes of='code' or of='output' and probes of at least 0, not of={of!r}, probes={probes}"
        )
    name = resolve_factor(model.factors, factor, "jacobian")
    source = model.factors[name].input
    names = (
        [each for each, other in model.factors.items() if other.input == source] if of == "output" else [name]
    )
    _check_differentiable(model, batch, names, source, of)
    moved = model.to_device(batch)
    latents = [factor.latent for factor in model.factors.values()]
    with torch.enable_grad(), twice_differentiable(), eval_mode(*latents):
        x = moved[source].detach().clone().requires_grad_()
        view = {**moved, source: x}
        codes = _encode(model, view, [name] if of == "code" else list(model.factors))
        value = (
            _code_elements(codes[name]) if of == "code" else _output_elements(model, moved, codes, in_range)
        )
        return _rows(value, x, create_graph=create_graph, probes=probes, generator=generator)


def _check_differentiable(model: Model, batch: Batch, names: list[str], source: str, of: str) -> None:
    if source not in batch:
        raise BuildError(f"factor {names[0]} reads field {source!r}, and the batch has {', '.join(batch)}")
    if not batch[source].is_floating_point():
        raise BuildError(
            f"field {source!r} holds symbols, and there is no derivative with respect to a symbol: jacobian needs real numbers"
        )
    for name in names:
        latent = model.factors[name].latent
        if latent.vocab is not None:
            raise BuildError(
                f"latent {latent.qualified or type(latent).__name__} of factor {name} is discrete: its code is constant between "
                "jumps, so it has no Jacobian; use a continuous latent"
            )
    if of == "output" and model.signature is not None and model.output_field.discrete:
        raise BuildError(
            f"output field {model.output!r} holds symbols, which have no derivative: use jacobian(of='code')"
        )


def _encode(model: Model, batch: Batch, names: list[str]) -> Codes:
    """Encode outside of the forward cache, so that no latent loss and no usage is counted."""
    known: dict[str, Code] = {}
    for name in order_by_condition(model.factors, names):
        if name not in known:
            factor = model.factors[name]
            condition = None if factor.condition is None else known[factor.condition]
            known[name] = factor(batch, condition=condition)
    return Codes({name: known[name] for name in names})


def _code_elements(code: Code) -> Tensor:
    z = code.point
    return (z if code.mask is None else z * code.mask.unsqueeze(-1)).flatten(1)


def _output_elements(model: Model, batch: Batch, codes: Codes, in_range: bool) -> Tensor:
    decoder = model.get_decoder()
    if "causal" in decoder.provides:
        scored = model.score(batch, codes, in_range=in_range)
        decoded = scored.decoded
    else:
        decoded = model.decode(codes, length=model.output_length(batch))
    return (decoded.x if decoded.mask is None else decoded.x * decoded.mask.unsqueeze(-1)).flatten(1)


def _rows(
    value: Tensor, x: Tensor, *, create_graph: bool, probes: int, generator: torch.Generator | None
) -> Tensor:
    """Return the gradients of each element of ``value`` (b o), or of random combinations of them, for x: (b o i)."""
    b, o = value.shape
    if probes:
        draw = collectives.global_draw(lambda shape: torch.randn(shape, generator=generator), (b, probes, o))
        weights = draw.to(value).unbind(1)
    else:
        weights = torch.eye(o, dtype=value.dtype, device=value.device).unsqueeze(1).expand(o, b, o).unbind()
    rows = []
    for number, weight in enumerate(weights):
        row = None
        if value.requires_grad:
            keep = create_graph or number + 1 < len(weights)
            options = {"retain_graph": keep, "create_graph": create_graph, "allow_unused": True}
            (row,) = torch.autograd.grad(value, x, weight, **options)
        rows.append(torch.zeros_like(x) if row is None else row)
    return torch.stack([row.flatten(1) for row in rows], 1)
