"""Weights of a local checkpoint of transformers, and what of a network stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from reprkit.errors import DataError, PartArgumentError
from reprkit.layers.dropout import Dropout
from reprkit.layers.positions import sines

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_weights(
    cls: Any, folder: str, config: PreTrainedConfig, optional: Sequence[str] = (), **options: Any
) -> Any:
    """A network of transformers with the weights of a local folder, float32; ``optional`` ones may be missing.

    Raises:
        DataError: the weights are missing, cannot be read, or are of another network.
    """
    try:
        with silence_transformers():
            made, about = cls.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
                **options,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"the weights in {folder!r} cannot be read: {error}") from error
    except Exception as error:  # safetensors raises its own
        raise DataError(
            f"the weights in {folder!r} cannot be read: {type(error).__name__}: {error}"
        ) from error
    missing = sorted(name for name in about["missing_keys"] if not name.startswith(tuple(optional)))
    if missing:
        few = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise DataError(f"{folder!r} does not hold the weights of {cls.__name__}: it lacks {few}")
    return made


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Without transformers' bars and advice on weights that are not of this network."""
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
    """Give the table of embeddings further rows, the mean of the others, if it has fewer."""
    table = body.get_input_embeddings()
    count, width = table.weight.shape
    if rows <= count:
        return
    with torch.no_grad():
        further = table.weight.mean(0, keepdim=True).expand(rows - count, width)
        table.weight = nn.Parameter(torch.cat([table.weight, further]))
    table.num_embeddings = rows
    body.set_input_embeddings(table)  # T5 has two tables that share their weights
    body.config.vocab_size = rows


def init_sine_positions(body: Any) -> None:
    """Fresh positions of a BERT start as sines a tenth as large as usual (words start at 0.02), and learn from there."""
    places = body.embeddings.position_embeddings.weight
    places.data.copy_(0.1 * sines(torch.arange(len(places)), places.shape[1]))


def replace_dropout(body: nn.Module) -> None:
    """Replace dropout layers by ones whose noise is that of the joined batch, so that two processes train as one would."""
    for module in body.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(child.p))


def freeze_layers(
    freeze: str | int, first: Sequence[nn.Module], blocks: Sequence[nn.Module], body: nn.Module
) -> None:
    """Let all of ``body`` stay as it is, or its embeddings (``first``) and so many of its blocks.

    Raises:
        PartArgumentError: ``freeze`` is neither "none", "all" nor a number of blocks.
    """
    number = isinstance(freeze, int) and not isinstance(freeze, bool) and 0 <= freeze <= len(blocks)
    if freeze not in ("none", "all") and not number:
        raise PartArgumentError(
            f"freeze is 'none', 'all' or a number of blocks from 0 (the embeddings alone) to {len(blocks)}, not {freeze!r}"
        )
    if freeze == "all":
        body.requires_grad_(False)
    elif freeze != "none":
        for module in (*first, *blocks[: int(freeze)]):
            module.requires_grad_(False)
