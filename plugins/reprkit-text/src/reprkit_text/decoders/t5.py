"""T5's decoder, of transformers."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.decoders.transformers_cross_attention import Crossing, beginnings, rows
from reprkit_text.encoders.t5 import calm_attention, t5_settings
from reprkit_text.wrapped.settings import settled
from reprkit_text.wrapped.weights import filled, joined_dropout


class T5Decoder(Crossing):
    """T5's decoder (Raffel et al. 2020, arXiv 1910.10683) of transformers and its language head: a code to symbols, causal.

    It looks at the code by cross-attention, so codes of any length are read.  Positions are relative, so texts may be of any
    length.  Fresh, or that of a local T5; nothing is downloaded.  ``start`` and ``step`` keep keys and values.

    Args:
        width: of a token, a multiple of ``heads``; 128 if not given.
        depth: how many blocks; 2 if not given.
        heads: attention heads; 4 if not given.
        dropout: of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which says width, depth and heads; its tokenizer should be the data set's.
        config: further settings by transformers' names.
        data: the signature of what it makes, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a T5.
        BuildError: data that is no tokens, or has more symbols than the checkpoint.
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
        made = settled(self, T5Config, folder, sizes, t5_settings, config, {"dropout_rate": dropout})
        self.vocab, count = rows(data["x"], self.title, made.vocab_size if folder else None)
        self.blank, self.first = beginnings(data["x"], made, fresh=folder is None)
        made.vocab_size = count
        if folder and not is_restoring():
            held = filled(T5ForConditionalGeneration, folder, made)
            self.body, self.lm_head = held.decoder, held.lm_head
        else:
            own = copy.deepcopy(made)
            own.is_decoder, own.num_layers = True, made.num_decoder_layers
            self.body = T5Stack(own)
            self.lm_head = nn.Linear(made.d_model, count, bias=False)
            self.lm_head.weight = self.body.embed_tokens.weight
        # Where embeddings are of unit variance, as T5's and not T5 1.1's: transformers' ``T5ForConditionalGeneration.forward``.
        self.factor = made.d_model**-0.5 if made.scale_decoder_outputs else 1.0
        calm_attention(self.body)
        joined_dropout(self.body)
        self.ready(made.d_model, data["x"])
