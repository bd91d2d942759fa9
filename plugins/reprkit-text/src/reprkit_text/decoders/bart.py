"""BART's decoder, of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reprkit import Signature
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.registry.create import is_restoring
from reprkit_text.decoders.transformers_cross_attention import (
    TransformersCrossAttentionDecoder,
    start_rows,
    table_sizes,
)
from reprkit_text.encoders.bart import bart_settings
from reprkit_text.transformers_networks.settings import resolve_config
from reprkit_text.transformers_networks.weights import load_weights, replace_dropout


class BartDecoder(TransformersCrossAttentionDecoder):
    """transformers' ``BartDecoder`` (Lewis et al. 2020, arXiv 1910.13461) and its language head: a code to symbols, causal.

    It reads the code by cross-attention, so codes may have any length.  Newly initialized, or
    loaded from a local BART; nothing is downloaded.  Each process draws its own dropout.  ``start`` and ``step`` cache keys and
    values.

    Args:
        width: width of a token, a multiple of ``heads``; default 128.
        depth: number of blocks; default 2.
        heads: number of attention heads; default 4.
        positions: largest number of symbols of a text; default 512.
        dropout: dropout rate of embeddings and blocks, in [0, 1); attention has none.
        folder: a local checkpoint, which sets width, depth, heads and positions; the data set should use its tokenizer.
        config: further settings under transformers' names.
        data: signature of the data to decode, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BART.
        BuildError: the data is not tokens, or has more symbols than the checkpoint.
    """

    title = "decoder bart"
    bias: Tensor

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: Depth | None = None,
        heads: Count | None = None,
        positions: Width | None = None,
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
        resolved = resolve_config(self, BartConfig, folder, sizes, bart_settings, config, dropouts)
        self.vocab, count = table_sizes(data["x"], self.title, resolved.vocab_size if folder else None)
        self.blank, self.first = start_rows(data["x"], resolved, new=folder is None)
        resolved.vocab_size = count
        bias = torch.zeros(1, count)
        if folder and not is_restoring():
            pretrained = load_weights(
                BartForConditionalGeneration, folder, resolved, optional=("final_logits_bias",)
            )
            self.body, self.lm_head, bias = (
                pretrained.model.decoder,
                pretrained.lm_head,
                pretrained.final_logits_bias,
            )
        else:
            self.body = Theirs(resolved)
            self.lm_head = nn.Linear(resolved.d_model, count, bias=False)
            self.lm_head.weight = self.body.embed_tokens.weight
        self.register_buffer("bias", bias[:, : self.vocab].clone())
        replace_dropout(self.body)
        self.most = resolved.max_position_embeddings
        self._set_up(resolved.d_model, data["x"])

    def logits(self, states: Tensor) -> Tensor:
        """Return logits of the data's symbols."""
        return super().logits(states) + self.bias
