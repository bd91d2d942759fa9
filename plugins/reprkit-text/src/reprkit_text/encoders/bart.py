"""BART's encoder, of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, Width
from reprkit_text.encoders.transformers_encoder import TransformersEncoder
from reprkit_text.transformers_networks.settings import resolve_config
from reprkit_text.transformers_networks.weights import freeze_layers, load_weights


class BartEncoder(TransformersEncoder):
    """transformers' ``BartEncoder`` (Lewis et al. 2020, arXiv 1910.13461): symbols (b t) to (b t width).

    Newly initialized, or loaded from a local BART; nothing is downloaded.  Learned positions, so texts are at most ``positions``
    long.  Each process draws its own dropout.

    Args:
        width: width of a token, a multiple of ``heads``; default 128.
        depth: number of blocks; default 4.
        heads: number of attention heads; default 4.
        positions: largest number of symbols of a text; default 512.
        dropout: dropout rate of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which sets width, depth, heads and positions; the data set should use its tokenizer.
        freeze: "none", "all", or the number of blocks that are frozen, together with the embeddings.
        config: further settings under transformers' names.
        data: signature of the data to encode, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BART.
        BuildError: the data is not tokens, or has more symbols than the checkpoint.
    """

    title = "encoder bart"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        positions: Width | None = None,
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
        resolved = resolve_config(self, BartConfig, folder, sizes, bart_settings, config, dropouts)

        def load(folder: str) -> Any:
            if _is_bare_encoder(folder):
                return load_weights(Theirs, folder, resolved)
            return load_weights(BartModel, folder, resolved, optional=("decoder.",)).encoder

        self._create(resolved, folder, data, load=load, create=lambda: Theirs(resolved))
        first = [self.body.embed_tokens, self.body.embed_positions, self.body.layernorm_embedding]
        freeze_layers(freeze, first, self.body.layers, self.body)
        self.out_dim, self.most = resolved.d_model, resolved.max_position_embeddings


def bart_settings(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the settings, under transformers' names, of a BART whose encoder and decoder have the same size."""
    return {
        "d_model": sizes["width"],
        "max_position_embeddings": sizes["positions"],
        **{f"{half}_ffn_dim": 4 * sizes["width"] for half in ("encoder", "decoder")},
        **{f"{half}_layers": sizes["depth"] for half in ("encoder", "decoder")},
        **{f"{half}_attention_heads": sizes["heads"] for half in ("encoder", "decoder")},
    }


def _is_bare_encoder(folder: str) -> bool:
    """Whether the folder was written by ``save_pretrained`` of this encoder: an encoder without a decoder."""
    config = json.loads((Path(folder).expanduser() / "config.json").read_text("utf-8"))
    return config.get("architectures") == ["BartEncoder"]
