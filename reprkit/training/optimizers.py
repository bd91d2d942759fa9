"""Optimisers by name (torch's own), one a turn, and which parameters are whose."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from reprkit.errors import BuildError, PartArgumentError, nearest
from reprkit.models.model import Model
from reprkit.registry.references import parse
from reprkit.training.fsdp import is_sharded

# They need a closure, or tensors of another layout: the four lines of the loop cannot drive them.
_UNFIT = {"lbfgs", "sparseadam"}
_FUSED_IN_SHARDS = (torch.optim.Adam, torch.optim.AdamW)  # torch's other fused kernels do not know shards


def optimizers_from(
    model: Model,
    main: str | Optimizer,
    others: Mapping[str, str | Optimizer] | None,
    *,
    lr: float,
    weight_decay: float | None,
) -> dict[str, Optimizer]:
    """One optimiser for each of the objective's turns.

    A turn other than "main" trains the objective's submodule of that name (``objective.critic`` for turn "critic"), or whatever
    the given instance holds; "main" trains all the rest.

    Raises:
        BuildError: a turn that the objective does not have, or whose parameters cannot be told.
        PartArgumentError: an unknown optimiser, or an option that it does not have.
    """
    turns = tuple(model.objective.turns)
    given = dict(others or {})
    for turn in given:
        if turn not in turns:
            raise BuildError(
                f"optimizers: the objective has no turn {turn!r}.{nearest(turn, turns)}\n  its turns: {', '.join(turns)}"
            )
    chosen: dict[str, str | Optimizer] = {
        turn: given.get(turn, main if turn == "main" else "adamw") for turn in turns
    }
    owned: dict[str, list[nn.Parameter]] = {}
    for turn, each in chosen.items():
        if turn != "main":
            owned[turn] = (
                _parameters_of(each) if isinstance(each, Optimizer) else list(_turn_parameters(model, turn))
            )
    taken = {id(parameter) for held in owned.values() for parameter in held}
    owned["main"] = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    made = {}
    for turn, each in chosen.items():
        made[turn] = (
            each
            if isinstance(each, Optimizer)
            else create_optimizer(each, owned[turn], lr=lr, weight_decay=weight_decay)
        )
    return made


def create_optimizer(
    text: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float | None = None
) -> Optimizer:
    """One of torch's optimisers: ``"adamw"``, ``"sgd(momentum=0.9)"``, ``"adam(lr=1e-4, betas=(0.5, 0.9))"``.

    Weight decay is left off vectors and scalars (biases, norms, scales).  The fused kernels are used where torch has them.

    Raises:
        PartArgumentError: an unknown name, or an option that it does not have.
    """
    reference = parse(text)
    known = _known_optimizers()
    cls = known.get(reference.name.replace("-", ""))
    if cls is None or reference.distribution:
        raise PartArgumentError(
            f"torch.optim has no optimiser {reference.qualified!r} that fits here.{nearest(reference.name, known)}\n"
            f"  known: {', '.join(sorted(known))}; or give a torch.optim.Optimizer of your own"
        )
    accepted = inspect.signature(cls).parameters
    options = {
        "lr": lr,
        **({} if weight_decay is None else {"weight_decay": weight_decay}),
        **reference.arguments,
    }
    for name in options:
        if name not in accepted or name == "params":
            allowed = [each for each in accepted if each != "params"]
            raise PartArgumentError(
                f"optimiser {reference.name} has no option {name!r}.{nearest(name, allowed)}\n  its options: {', '.join(allowed)}"
            )
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise BuildError(
            f"there is nothing for optimiser {reference.name} to train: no parameter asks for a gradient"
        )
    cut = any(is_sharded(parameter) for parameter in trained)
    if "fused" in accepted and _supports_fused(trained) and (not cut or cls in _FUSED_IN_SHARDS):
        options.setdefault("fused", True)
    elif cut and "foreach" in accepted:
        options.setdefault("foreach", True)  # torch would take shards one by one
    decay = options.get("weight_decay", accepted["weight_decay"].default if "weight_decay" in accepted else 0)
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if decay and vectors and len(vectors) < len(trained):
        matrices = [parameter for parameter in trained if parameter.ndim >= 2]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    groups = [split for group in groups for split in _split_by_sharding(group)]
    try:
        return cls(groups, **options)
    except (TypeError, ValueError) as error:
        raise PartArgumentError(f"optimiser {text}: {error}") from error


def _split_by_sharding(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group, or two where some of its weights are cut into shards: torch's kernels for many weights take one kind."""
    cut = [weight for weight in group["params"] if is_sharded(weight)]
    whole = [weight for weight in group["params"] if not is_sharded(weight)]
    return [{**group, "params": weights} for weights in (cut, whole) if weights]


def _known_optimizers() -> dict[str, type[Optimizer]]:
    found = {}
    for name in dir(torch.optim):
        cls = getattr(torch.optim, name)
        if (
            inspect.isclass(cls)
            and issubclass(cls, Optimizer)
            and cls is not Optimizer
            and name.lower() not in _UNFIT
        ):
            found[name.lower()] = cls
    return found


def _supports_fused(parameters: list[nn.Parameter]) -> bool:
    """Whether the fused kernels take these: real parameters, all on the CPU or all on CUDA devices."""
    return {p.device.type for p in parameters} in ({"cpu"}, {"cuda"}) and all(
        p.dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16) for p in parameters
    )


def _parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _turn_parameters(model: Model, turn: str) -> Iterator[nn.Parameter]:
    for each in model.objective.members:
        if turn in each.turns:
            held = getattr(each, turn, None)
            if not isinstance(held, nn.Module):
                raise BuildError(
                    f"objective {each.qualified or type(each).__name__} has a turn {turn!r} and no submodule of that name, so it "
                    f"cannot be told what the turn trains\n"
                    f"  give an optimiser that holds it: rk.loop(..., optimizers={{{turn!r}: torch.optim.Adam(...)}})"
                )
            yield from (parameter for parameter in held.parameters() if parameter.requires_grad)
