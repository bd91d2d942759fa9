"""BART's decoder, of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.decoders.transformers_cross_attention import Crossing, beginnings, rows
from reprkit_text.encoders.bart import bart_settings
from reprkit_text.wrapped.settings import settled
from reprkit_text.wrapped.weights import filled, joined_dropout


class BartDecoder(Crossing):
    """transformers' ``BartDecoder`` (Lewis et al. 2020, arXiv 1910.13461) and its language head: a code to symbols, causal.

    It looks at the code by cross-attention, so codes of any length are read.  Fresh, or that of a local BART; nothing is
    downloaded.  Its dropout draws on every process by itself.  ``start`` and ``step`` keep keys and values.

    Args:
        width: of a token, a multiple of ``heads``; 128 if not given.
        depth: how many blocks; 2 if not given.
        heads: attention heads; 4 if not given.
        positions: symbols of a text at most; 512 if not given.
        dropout: of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which says width, depth, heads and positions; its tokenizer should be the data set's.
        config: further settings by transformers' names.
        data: the signature of what it makes, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BART.
        BuildError: data that is no tokens, or has more symbols than the checkpoint.
    """

    title = "decoder bart"
    bias: Tensor

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        positions: Count | None = None,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        config: dict[str, Any] | None = None,
        data: Signature,
    ) -> None:
        super().__init__()
        from transformers import BartConfig, BartForConditionalGeneration
        from transformers.models.bart.modeling_bart import BartDecoder as Theirs

        sizes = {
            "width": (width, 128),
            "depth": (depth, 2),
            "heads": (heads, 4),
            "positions": (positions, 512),
        }
        dropouts = {"dropout": dropout, "attention_dropout": 0.0, "activation_dropout": 0.0}
        made = settled(self, BartConfig, folder, sizes, bart_settings, config, dropouts)
        self.vocab, count = rows(data["x"], self.title, made.vocab_size if folder else None)
        self.blank, self.first = beginnings(data["x"], made, fresh=folder is None)
        made.vocab_size = count
        bias = torch.zeros(1, count)
        if folder and not is_restoring():
            held = filled(BartForConditionalGeneration, folder, made, optional=("final_logits_bias",))
            self.body, self.lm_head, bias = held.model.decoder, held.lm_head, held.final_logits_bias
        else:
            self.body = Theirs(made)
            self.lm_head = nn.Linear(made.d_model, count, bias=False)
            self.lm_head.weight = self.body.embed_tokens.weight
        self.register_buffer("bias", bias[:, : self.vocab].clone())
        joined_dropout(self.body)
        self.most = made.max_position_embeddings
        self.ready(made.d_model, data["x"])

    def scores(self, states: Tensor) -> Tensor:
        """Logits of the data's symbols."""
        return super().scores(states) + self.bias
