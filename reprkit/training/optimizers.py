"""torch's optimizers by name, one per turn, and the parameters that each one trains."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from reprkit.errors import BuildError, PartArgumentError, TrainingError, nearest
from reprkit.models.model import Model
from reprkit.registry.references import parse
from reprkit.training.muon import Muon
from reprkit.training.sparse_gradients import Adagrad, RowAdagrad, SparseAdam, sparse_weights
from reprkit.utils.sharded_tensors import is_sharded

_SPARSE = {"sgd", "sparseadam", "adagrad", "rowadagrad"}  # can use sparse gradients
_FUSED_IN_SHARDS = (torch.optim.Adam, torch.optim.AdamW)  # torch's other fused kernels do not support shards


def optimizers_from(
    model: Model,
    main: str | Optimizer,
    others: Mapping[str, str | Optimizer] | None,
    *,
    lr: float,
    weight_decay: float | None,
) -> dict[str, Optimizer]:
    """Create one optimizer for each of the objective's turns.

    A turn other than "main" trains the objective's submodule of that name (``objective.critic`` for turn "critic"), or the
    parameters of the given instance; "main" trains all the rest.

    Raises:
        BuildError: the objective has no such turn, or the turn's parameters are unknown.
        PartArgumentError: an unknown optimizer, or an unknown option of it.
    """
    turns = tuple(model.objective.turns)
    others = dict(others or {})
    for turn in others:
        if turn not in turns:
            raise BuildError(
                f"optimizers: the objective has no turn {turn!r}.{nearest(turn, turns)}\n  its turns: {', '.join(turns)}"
            )
    chosen: dict[str, str | Optimizer] = {
        turn: others.get(turn, main if turn == "main" else "adamw") for turn in turns
    }
    owned: dict[str, list[nn.Parameter]] = {}
    for turn, choice in chosen.items():
        if turn != "main":
            owned[turn] = (
                _parameters_of(choice)
                if isinstance(choice, Optimizer)
                else list(_turn_parameters(model, turn))
            )
    taken = {id(parameter) for parameters in owned.values() for parameter in parameters}
    owned["main"] = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    optimizers = {}
    for turn, choice in chosen.items():
        optimizers[turn] = (
            choice
            if isinstance(choice, Optimizer)
            else create_optimizer(
                choice, owned[turn], lr=lr, weight_decay=weight_decay, sparse=sparse_weights(model)
            )
        )
    return optimizers


def check_trained_weights(
    model: Model, optimizers: Mapping[str, Optimizer], others: Iterable[nn.Parameter] = ()
) -> None:
    """Check that the optimizers hold the model's trainable weights; a part that no optimizer holds is warned of.

    Args:
        model: the model.
        optimizers: turn -> optimizer.
        others: further weights that an optimizer may hold, such as those of extras.

    Raises:
        BuildError: an optimizer holds none of these weights, so it would train another model.
    """
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    known = trainable.keys() | {id(parameter) for parameter in others}
    held: set[int] = set()
    for turn, optimizer in optimizers.items():
        own = {id(parameter) for parameter in _parameters_of(optimizer)}
        if not own & known:
            raise BuildError(
                f"the optimizer of turn {turn!r} ({type(optimizer).__name__}, {len(own)} weights) holds none of the model's "
                "trainable weights, so it would train nothing\n"
                "  create it from this model, torch.optim.Adam(model.parameters()), or name it: optimizer='adam'"
            )
        held |= own
    missing = [name for weight, name in trainable.items() if weight not in held]
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        warnings.warn(
            f"no optimizer holds {len(missing)} of the model's {len(trainable)} trainable weights, so they stay as they are: "
            f"{', '.join(missing[:4])}{more}; if that is meant, say so by freeze=",
            stacklevel=5,
        )


def create_optimizer(
    text: str,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    weight_decay: float | None = None,
    sparse: Mapping[nn.Parameter, str] = MappingProxyType({}),
) -> Optimizer:
    """Create one of torch's optimizers: ``"adamw"``, ``"sgd(momentum=0.9)"``, ``"adam(lr=1e-4, betas=(0.5, 0.9))"``.

    Vectors and scalars (biases, norms, scales) have no weight decay, nor have weights with sparse gradients.  Fused kernels are
    used where torch has them.  ``"sparse-adam"`` is Adam, for weights with dense gradients too; ``"row-adagrad"`` is Adagrad with
    one step size a row; ``"muon"`` trains 2-d weights by Muon and all others by AdamW.

    Args:
        text: the name and its options.
        parameters: the weights to train.
        lr: the learning rate.
        weight_decay: None takes the optimizer's own.
        sparse: the weights with sparse gradients, and their names.

    Raises:
        PartArgumentError: an unknown name, an unknown option, or one that cannot be used with sparse gradients.
    """
    reference = parse(text)
    known = _known_optimizers()
    cls = known.get(reference.name.replace("-", ""))
    if cls is None or reference.distribution:
        raise PartArgumentError(
            f"torch.optim has no optimizer {reference.qualified!r} that can be used here.{nearest(reference.name, known)}\n"
            f"  known: {', '.join(sorted(known))}; or pass your own torch.optim.Optimizer"
        )
    accepted = inspect.signature(cls).parameters
    options = {
        "lr": lr,
        **({} if weight_decay is None else {"weight_decay": weight_decay}),
        **reference.arguments,
    }
    for name in options:
        if name not in accepted or name == "params":
            allowed = [option for option in accepted if option != "params"]
            raise PartArgumentError(
                f"optimizer {reference.name} has no option {name!r}.{nearest(name, allowed)}\n  its options: {', '.join(allowed)}"
            )
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise BuildError(f"optimizer {reference.name} has nothing to train: no parameter requires a gradient")
    rows = [parameter for parameter in trained if parameter in sparse]
    if rows:
        _check_sparse(reference.name, options, [sparse[parameter] for parameter in rows])
        cls = Adagrad if cls is torch.optim.Adagrad else cls
    sharded = any(is_sharded(parameter) for parameter in trained)
    if sharded and cls is Muon:
        raise PartArgumentError(
            "optimizer muon orthogonalizes whole weight matrices, and the strategy shards them: use strategy='ddp', or 'adamw'"
        )
    if sharded and cls is RowAdagrad:
        raise PartArgumentError(
            "optimizer row-adagrad needs whole rows of weights, and the strategy shards them: use strategy='ddp', or 'adagrad'"
        )
    if (
        "fused" in accepted
        and not rows
        and _supports_fused(trained)
        and (not sharded or cls in _FUSED_IN_SHARDS)
    ):
        options.setdefault("fused", True)
    elif sharded and "foreach" in accepted:
        options.setdefault("foreach", True)  # torch would update shards one by one
    decay = options.get("weight_decay", accepted["weight_decay"].default if "weight_decay" in accepted else 0)
    vectors = [parameter for parameter in trained if parameter.ndim < 2 or parameter in sparse]
    groups: list[dict[str, Any]] = [{"params": trained}]
    if decay and len(vectors) == len(trained) and rows:
        groups = [{"params": trained, "weight_decay": 0.0}]
    elif decay and vectors and len(vectors) < len(trained):
        matrices = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in sparse]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    groups = [split for group in groups for split in _split_by_sharding(group)]
    try:
        return cls(groups, **options)
    except (TypeError, ValueError) as error:
        raise PartArgumentError(f"optimizer {text}: {error}") from error


def _check_sparse(name: str, options: Mapping[str, Any], weights: list[str]) -> None:
    """Check that an optimizer can use sparse gradients.

    Raises:
        PartArgumentError: it cannot, or not with momentum.
    """
    what = f"the gradients of {', '.join(weights)} are sparse, and optimizer {name}"
    if name.replace("-", "") not in _SPARSE:
        raise PartArgumentError(
            f"{what} needs dense ones: use 'sparse-adam', 'sgd', 'adagrad' or 'row-adagrad', or sparse=False"
        )
    if options.get("momentum"):
        raise PartArgumentError(
            f"{what} would keep a momentum of all rows: use momentum=0, or 'sparse-adam', whose moments are of the rows in use"
        )


def needs_closure(optimizer: Optimizer) -> bool:
    """Return whether the optimizer evaluates the loss itself, several times a step, as L-BFGS does."""
    kind: Any = type(optimizer)  # whose metaclass mypy does not take for hashable
    return _step_needs_closure(kind)


@functools.cache
def _step_needs_closure(optimizer: Any) -> bool:
    """Inspect the signature once: every update asks."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def check_closure_options(
    optimizer: Optimizer, turn: str, *, accumulate: int, clip: float | None, sharded: bool, scaled: bool
) -> None:
    """Check the options of a loop whose optimizer evaluates the loss itself.

    Raises:
        TrainingError: gradients would be in pieces, clipped, sharded or scaled.
    """
    if not needs_closure(optimizer):
        return
    name = type(optimizer).__name__
    faults = {
        f"accumulate={accumulate}": accumulate > 1 and "it evaluates the loss of a whole step at once",
        f"clip={clip}": clip is not None and "clipped gradients are not those of the loss that it minimizes",
        "sharded weights (strategy='ddp' has whole ones)": sharded and "it joins all weights into one vector",
        "precision='fp16'": scaled
        and "it evaluates the loss again, and cannot skip an evaluation that overflows",
    }
    for option, reason in faults.items():
        if reason:
            raise TrainingError(f"optimizer {name} of turn {turn!r} cannot be used with {option}: {reason}")


def _split_by_sharding(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Split a group with sharded and whole weights into two: torch's multi-tensor kernels take one kind."""
    sharded = [weight for weight in group["params"] if is_sharded(weight)]
    whole = [weight for weight in group["params"] if not is_sharded(weight)]
    return [{**group, "params": weights} for weights in (sharded, whole) if weights]


def _known_optimizers() -> dict[str, type[Optimizer]]:
    optimizers = {}
    for name in dir(torch.optim):
        cls = getattr(torch.optim, name)
        if inspect.isclass(cls) and issubclass(cls, Optimizer) and cls is not Optimizer:
            optimizers[name.lower()] = cls
    return {**optimizers, "sparseadam": SparseAdam, "rowadagrad": RowAdagrad, "muon": Muon}


def _supports_fused(parameters: list[nn.Parameter]) -> bool:
    """Return whether fused kernels support the parameters: real ones, all on the CPU or all on CUDA devices."""
    return {p.device.type for p in parameters} in ({"cpu"}, {"cuda"}) and all(
        p.dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16) for p in parameters
    )


def _parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _turn_parameters(model: Model, turn: str) -> Iterator[nn.Parameter]:
    for member in model.objective.members:
        if turn in member.turns:
            module = getattr(member, turn, None)
            if not isinstance(module, nn.Module):
                raise BuildError(
                    f"objective {member.qualified or type(member).__name__} has a turn {turn!r} but no submodule of that name, "
                    f"so it is unknown what the turn trains\n"
                    f"  pass an optimizer with its parameters: rk.loop(..., optimizers={{{turn!r}: torch.optim.Adam(...)}})"
                )
            yield from (parameter for parameter in module.parameters() if parameter.requires_grad)
