"""T5's encoder, of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.encoders.wrapped import Wrapped
from reprkit_text.wrapped.settings import settled
from reprkit_text.wrapped.symbols import numbering
from reprkit_text.wrapped.weights import filled, frozen, joined_dropout, widened


class T5Encoder(Wrapped):
    """transformers' ``T5EncoderModel`` (Raffel et al. 2020, arXiv 1910.10683): symbols (b t) to (b t width).

    Fresh, or that of a local T5; nothing is downloaded.  Positions are relative, so texts of any length are read.

    Args:
        width: of a token, a multiple of ``heads``; 128 if not given.
        depth: how many blocks; 4 if not given.
        heads: attention heads; 4 if not given.
        dropout: of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which says width, depth and heads; its tokenizer should be the data set's.
        freeze: "none", "all", or how many blocks stay as they are beside the embeddings.
        config: further settings by transformers' names.
        data: the signature of what it reads, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a T5.
        BuildError: data that is no tokens, or has more symbols than the checkpoint.
    """

    title = "encoder t5"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        freeze: Literal["none", "all"] | CountOrZero = "none",
        config: dict[str, Any] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        from transformers import T5Config, T5EncoderModel

        sizes = {"width": (width, 128), "depth": (depth, 4), "heads": (heads, 4)}
        made = settled(self, T5Config, folder, sizes, t5_settings, config, {"dropout_rate": dropout})
        self.numbering = numbering(data["x"], self.title, made.vocab_size if folder else None)
        if folder and not is_restoring():
            self.body = filled(T5EncoderModel, folder, made)
        else:
            made.vocab_size = made.vocab_size if folder else self.numbering.rows
            self.body = T5EncoderModel(made)
        widened(self.body, self.numbering.rows)
        calm_attention(self.body)
        joined_dropout(self.body)
        frozen(freeze, [self.body.get_input_embeddings()], self.body.encoder.block, self.body)
        self.out_dim = made.d_model


def t5_settings(chosen: Mapping[str, int]) -> dict[str, Any]:
    """Settings by transformers' names of a T5 whose encoder and decoder are of one size."""
    return {
        "d_model": chosen["width"],
        "d_kv": chosen["width"] // chosen["heads"],
        "d_ff": 4 * chosen["width"],
        "num_layers": chosen["depth"],
        "num_decoder_layers": chosen["depth"],
        "num_heads": chosen["heads"],
    }


def calm_attention(body: Any) -> None:
    """No dropout on attention's weights, whose draws processes cannot share; T5 has one rate for everything."""
    from transformers.models.t5.modeling_t5 import T5Attention

    for module in body.modules():
        if isinstance(module, T5Attention):
            module.dropout = 0.0
