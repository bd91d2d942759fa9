"""Load weights of a local checkpoint of transformers, adapt the network, and freeze layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reprkit.errors import DataError, PartArgumentError
from reprkit.layers.dropout import Dropout
from reprkit.layers.positions import sinusoidal_positions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_weights(
    cls: Any, folder: str, config: PreTrainedConfig, optional: Sequence[str] = (), **options: Any
) -> Any:
    """Load a network of transformers from a local folder, float32; weights in ``optional`` may be missing.

    Raises:
        DataError: the weights are missing, cannot be read, or belong to another network.
    """
    try:
        with silence_transformers():
            network, info = cls.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
                **options,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"the weights in {folder!r} cannot be read: {error}") from error
    except Exception as error:  # safetensors raises its own exceptions
        raise DataError(
            f"the weights in {folder!r} cannot be read: {type(error).__name__}: {error}"
        ) from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(tuple(optional)))
    if missing:
        names = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise DataError(f"{folder!r} does not hold the weights of {cls.__name__}: it lacks {names}")
    return network


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Turn off transformers' progress bars and warnings about unused weights."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def widen_embeddings(body: Any, rows: int) -> None:
    """Append rows to the embedding table until it has ``rows``, each the mean of the others."""
    table = body.get_input_embeddings()
    count, width = table.weight.shape
    if rows <= count:
        return
    with torch.no_grad():
        new_rows = table.weight.mean(0, keepdim=True).expand(rows - count, width)
        table.weight = nn.Parameter(torch.cat([table.weight, new_rows]))
    table.num_embeddings = rows
    body.set_input_embeddings(table)  # T5 has two tables that share their weights
    body.config.vocab_size = rows


def init_sine_positions(body: Any) -> None:
    """Initialize the learned positions of a BERT with sines of a tenth of the usual size (word embeddings have std 0.02)."""
    positions = body.embeddings.position_embeddings.weight
    positions.data.copy_(0.1 * sinusoidal_positions(torch.arange(len(positions)), positions.shape[1]))


def replace_dropout(body: nn.Module) -> None:
    """Replace dropout layers by ones that draw noise for the global batch, so that two processes train as one would."""
    for module in body.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(child.p))


def freeze_layers(
    freeze: str | int, first: Sequence[nn.Module], blocks: Sequence[nn.Module], body: nn.Module
) -> None:
    """Freeze all of ``body``, or its embeddings (``first``) and the given number of its blocks.

    Raises:
        PartArgumentError: ``freeze`` is neither "none", "all" nor a number of blocks.
    """
    is_number = isinstance(freeze, int) and not isinstance(freeze, bool) and 0 <= freeze <= len(blocks)
    if freeze not in ("none", "all") and not is_number:
        raise PartArgumentError(
            f"freeze must be 'none', 'all' or a number of blocks from 0 (the embeddings alone) to {len(blocks)}, not {freeze!r}"
        )
    if freeze == "all":
        body.requires_grad_(False)
    elif freeze != "none":
        for module in (*first, *blocks[: int(freeze)]):
            module.requires_grad_(False)
