"""Checks of a loop's options that depend on the model or on the number of processes."""

from __future__ import annotations

import warnings

from reprkit.errors import TrainingError
from reprkit.models.model import Model
from reprkit.training.coupled_step import couples_examples
from reprkit.training.options import Options
from reprkit.training.sparse_gradients import sparse_weights
from reprkit.training.strategies import strategy_from


def check_objective(model: Model, options: Options) -> None:
    """Check the options against the model's objective.

    Raises:
        TrainingError: the objective has several turns or a second derivative, which an option does not support.
    """
    turns = model.objective.turns
    if options.accumulate > 1 and len(turns) > 1:
        raise TrainingError(
            f"accumulate={options.accumulate} cannot be used with an objective of several turns ({', '.join(turns)})"
        )
    if "second-order" in model.objective.needs and options.compile:
        raise TrainingError(
            f"objective {model.objective.title} needs a second derivative, which torch.compile does not "
            "support: use compile=False"
        )
    if "second-order" in model.objective.needs and options.recompute:
        raise TrainingError(
            f"objective {model.objective.title} needs a second derivative, which recomputed blocks do not support: use "
            "recompute=False"
        )
    if options.precision == "fp16":
        _check_half_precision(model)
    if options.compile and options.recompute:
        raise TrainingError(
            "torch.compile chooses itself what is computed again: use recompute=False or compile=False"
        )
    if options.recompute and options.accumulate > 1 and couples_examples(model):
        raise TrainingError(
            f"accumulate={options.accumulate} joins pieces whose examples are compared, and stores one piece's activations at a "
            "time: use recompute=False, or accumulate=1"
        )


def _check_half_precision(model: Model) -> None:
    """Refuse float16 for a model whose gradients loss scaling does not protect."""
    if "second-order" in model.objective.needs:
        raise TrainingError(
            f"objective {model.objective.title} computes a gradient within its loss, which precision='fp16' does not scale: use "
            "precision='bf16' or 'fp32'"
        )
    rows = sparse_weights(model)
    if rows:
        raise TrainingError(
            f"the gradients of {', '.join(rows.values())} are sparse, which precision='fp16' does not scale: use "
            "precision='bf16' or 'fp32', or sparse=False"
        )


def check_strategy(model: Model, options: Options, ranks: int) -> None:
    """Check the strategy against the weights that are trained and the objective.

    Raises:
        TrainingError: the model needs sparse gradients or a second derivative, which sharded weights do not support; or divided
            layers are to be compiled.
    """
    strategy = strategy_from(options.strategy)
    if not strategy.sharded:
        return
    if ranks == 1:
        warnings.warn(
            f"strategy={options.strategy!r} shards nothing with one process: start several with torchrun --nproc-per-node=N",
            stacklevel=2,
        )
    rows = sparse_weights(model)
    if rows:
        raise TrainingError(
            f"the gradients of {', '.join(rows.values())} are sparse, which sharded weights do not support: use "
            "strategy='ddp', or sparse=False"
        )
    if options.compile and strategy.name == "tp" and ranks > 1:
        raise TrainingError(
            "strategy='tp' divides layers in ways that torch.compile does not trace: use compile=False"
        )
    if "second-order" in model.objective.needs and ranks > 1:
        raise TrainingError(
            f"objective {model.objective.title} needs a second derivative, which sharded weights do not support: use "
            "strategy='ddp'"
        )


def piece_size(examples: int, *, ranks: int, accumulate: int, what: str) -> int:
    """Return how many of a step's examples are in one piece, on one process; ``what`` names them in the message.

    Raises:
        TrainingError: they do not divide into equal pieces.
    """
    share = examples // ranks
    if share % accumulate:
        raise TrainingError(
            f"{share} examples a process ({what}, {ranks} processes) cannot be split into accumulate={accumulate} equal pieces"
        )
    return share // accumulate
