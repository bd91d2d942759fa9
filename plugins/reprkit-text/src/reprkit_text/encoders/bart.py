"""BART's encoder, of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.encoders.wrapped import Wrapped
from reprkit_text.wrapped.settings import settled
from reprkit_text.wrapped.symbols import numbering
from reprkit_text.wrapped.weights import filled, frozen, joined_dropout, widened


class BartEncoder(Wrapped):
    """transformers' ``BartEncoder`` (Lewis et al. 2020, arXiv 1910.13461): symbols (b t) to (b t width).

    Fresh, or that of a local BART; nothing is downloaded.  Learned positions, so texts are at most ``positions`` long.
    Its dropout draws on every process by itself.

    Args:
        width: of a token, a multiple of ``heads``; 128 if not given.
        depth: how many blocks; 4 if not given.
        heads: attention heads; 4 if not given.
        positions: symbols of a text at most; 512 if not given.
        dropout: of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which says width, depth, heads and positions; its tokenizer should be the data set's.
        freeze: "none", "all", or how many blocks stay as they are beside the embeddings.
        config: further settings by transformers' names.
        data: the signature of what it reads, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BART.
        BuildError: data that is no tokens, or has more symbols than the checkpoint.
    """

    title = "encoder bart"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        positions: Count | None = None,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        freeze: Literal["none", "all"] | CountOrZero = "none",
        config: dict[str, Any] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        from transformers import BartConfig, BartModel
        from transformers.models.bart.modeling_bart import BartEncoder as Theirs

        sizes = {
            "width": (width, 128),
            "depth": (depth, 4),
            "heads": (heads, 4),
            "positions": (positions, 512),
        }
        dropouts = {"dropout": dropout, "attention_dropout": 0.0, "activation_dropout": 0.0}
        made = settled(self, BartConfig, folder, sizes, bart_settings, config, dropouts)
        self.numbering = numbering(data["x"], self.title, made.vocab_size if folder else None)
        if folder and not is_restoring():
            alone = _alone(folder)
            whole = filled(
                Theirs if alone else BartModel, folder, made, optional=() if alone else ("decoder.",)
            )
            self.body = whole if alone else whole.encoder
        else:
            made.vocab_size = made.vocab_size if folder else self.numbering.rows
            self.body = Theirs(made)
        widened(self.body, self.numbering.rows)
        joined_dropout(self.body)
        first = [self.body.embed_tokens, self.body.embed_positions, self.body.layernorm_embedding]
        frozen(freeze, first, self.body.layers, self.body)
        self.out_dim, self.most = made.d_model, made.max_position_embeddings


def bart_settings(chosen: Mapping[str, int]) -> dict[str, Any]:
    """Settings by transformers' names of a BART whose encoder and decoder are of one size."""
    return {
        "d_model": chosen["width"],
        "max_position_embeddings": chosen["positions"],
        **{f"{half}_ffn_dim": 4 * chosen["width"] for half in ("encoder", "decoder")},
        **{f"{half}_layers": chosen["depth"] for half in ("encoder", "decoder")},
        **{f"{half}_attention_heads": chosen["heads"] for half in ("encoder", "decoder")},
    }


def _alone(folder: str) -> bool:
    """Whether the folder is what ``save_pretrained`` of this encoder wrote: an encoder without a decoder."""
    about = json.loads((Path(folder).expanduser() / "config.json").read_text("utf-8"))
    return about.get("architectures") == ["BartEncoder"]
