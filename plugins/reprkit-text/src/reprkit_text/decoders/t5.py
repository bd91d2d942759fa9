"""T5's decoder, of transformers."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.decoders.transformers_cross_attention import (
    TransformersCrossAttentionDecoder,
    start_rows,
    table_sizes,
)
from reprkit_text.encoders.t5 import disable_attention_dropout, t5_settings
from reprkit_text.transformers_networks.settings import resolve_config
from reprkit_text.transformers_networks.weights import load_weights, replace_dropout


class T5Decoder(TransformersCrossAttentionDecoder):
    """T5's decoder (Raffel et al. 2020, arXiv 1910.10683) of transformers and its language head: a code to symbols, causal.

    It reads the code by cross-attention, so codes may have any length.  Positions are relative, so texts may have any
    length.  Newly initialized, or loaded from a local T5; nothing is downloaded.  ``start`` and ``step`` cache keys and values.

    Args:
        width: width of a token, a multiple of ``heads``; default 128.
        depth: number of blocks; default 2.
        heads: number of attention heads; default 4.
        dropout: dropout rate of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which sets width, depth and heads; the data set should use its tokenizer.
        config: further settings under transformers' names.
        data: signature of the data to decode, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a T5.
        BuildError: the data is not tokens, or has more symbols than the checkpoint.
    """

    title = "decoder t5"

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        config: dict[str, Any] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        from transformers import T5Config, T5ForConditionalGeneration
        from transformers.models.t5.modeling_t5 import T5Stack

        sizes = {"width": (width, 128), "depth": (depth, 2), "heads": (heads, 4)}
        resolved = resolve_config(
            self, T5Config, folder, sizes, t5_settings, config, {"dropout_rate": dropout}
        )
        self.vocab, count = table_sizes(data["x"], self.title, resolved.vocab_size if folder else None)
        self.blank, self.first = start_rows(data["x"], resolved, new=folder is None)
        resolved.vocab_size = count
        if folder and not is_restoring():
            pretrained = load_weights(T5ForConditionalGeneration, folder, resolved)
            self.body, self.lm_head = pretrained.decoder, pretrained.lm_head
        else:
            own = copy.deepcopy(resolved)
            own.is_decoder, own.num_layers = True, resolved.num_decoder_layers
            self.body = T5Stack(own)
            self.lm_head = nn.Linear(resolved.d_model, count, bias=False)
            self.lm_head.weight = self.body.embed_tokens.weight
        # For embeddings of unit variance, as in T5 but not T5 1.1; see transformers' ``T5ForConditionalGeneration.forward``.
        self.factor = resolved.d_model**-0.5 if resolved.scale_decoder_outputs else 1.0
        disable_attention_dropout(self.body)
        replace_dropout(self.body)
        self._set_up(resolved.d_model, data["x"])
