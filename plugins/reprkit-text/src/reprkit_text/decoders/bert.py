"""BERT's masked-language head, of transformers, on any code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Decoded, Features, Signature
from reprkit.decoders.sequence import SequenceDecoder
from reprkit.errors import BuildError
from reprkit.interfaces import require
from reprkit.layers.gather_rows import gather_tokens
from reprkit.layers.resample_tokens import resampled_mask
from reprkit.registry.constraints import BelowOne, Count, DepthOrZero, Width
from reprkit.registry.create import is_restoring
from reprkit_text.wrapped.settings import settled
from reprkit_text.wrapped.symbols import fits
from reprkit_text.wrapped.weights import filled, joined_dropout, sine_positions


class BertDecoder(SequenceDecoder):
    """A code (b n width) to symbols: dense, GELU, LayerNorm, and a linear map to the vocabulary (Devlin et al. 2019, 3.1).

    It is the head of transformers' ``BertForMaskedLM``, whose last map is not tied to the encoder's embeddings; with ``depth``
    BERT's blocks come before it, for codes that say less than a token a symbol.  All symbols at once, so it is not causal.
    Asked for some symbols only (``queries``), it makes the others' likelihood not at all: masked-language modelling asks for a
    seventh of them, and the map to the vocabulary is half of a small network's work.

    Args:
        width: of a token, a multiple of ``heads`` where there are blocks; 128 if not given.
        depth: BERT's blocks before the head.
        heads: attention heads of these.
        positions: symbols of a text at most, where there are blocks, whose positions start as sines, as the encoder's.
        dropout: of the blocks, in [0, 1).
        folder: a local checkpoint with a masked-language head, which says the width; no blocks are taken from it.
        config: further settings by transformers' names.
        data: the signature of what it makes, field ``x``, tokens.
        tokens: tokens of the code; None where that varies.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BERT with such a head.
        BuildError: data that is no tokens, or has more symbols than the checkpoint.
    """

    cells = ()  # lengths vary: ``only`` counts the steps

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: DepthOrZero = 0,
        heads: Count = 4,
        positions: Count = 512,
        dropout: BelowOne = 0.0,
        folder: str | None = None,
        config: dict[str, Any] | None = None,
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        from transformers import BertConfig, BertForMaskedLM, BertModel
        from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

        field = data["x"]
        if field.kind != "tokens" or field.vocab is None:
            raise BuildError(f"decoder bert makes symbols (tokens with a vocab), and x is {field.kind} data")
        require(
            depth == 0 or folder is None,
            "decoder bert takes its head from a folder, and no blocks: leave depth away",
        )

        def spelled(chosen: Mapping[str, int]) -> dict[str, Any]:
            return {
                "hidden_size": chosen["width"],
                "intermediate_size": 4 * chosen["width"],
                "num_hidden_layers": depth,
                "num_attention_heads": chosen["heads"],
                "max_position_embeddings": positions,
            }

        sizes = {"width": (width, 128), "heads": (None, heads if depth else 1)}
        dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
        made = settled(self, BertConfig, folder, sizes, spelled, config, dropouts)
        if folder and field.vocab > made.vocab_size:
            raise BuildError(
                f"the data has {field.vocab} symbols, and the checkpoint knows {made.vocab_size}: make the symbols with the "
                "checkpoint's own tokenizer, tokenizer='FOLDER' of the data set"
            )
        super().__init__(
            made.hidden_size,
            made.hidden_size,
            causal=False,
            positions=False,
            likelihood=None,
            scale="shared",
            data=data,
            tokens=tokens,
        )
        self.provides = frozenset({"queries"})
        self.transform: nn.Module = BertPredictionHeadTransform(made)
        if folder and not is_restoring():
            head = filled(BertForMaskedLM, folder, made).cls.predictions
            self.transform = head.transform
            with torch.no_grad():
                self.head.linear.weight.copy_(head.decoder.weight[: field.vocab])
                self.head.linear.bias.copy_(head.decoder.bias[: field.vocab])
        self.body: Any = None
        if depth:
            self.most = positions
            self.body = BertModel(made, add_pooling_layer=False)
            sine_positions(self.body)
            self.body.embeddings.word_embeddings = nn.Identity()  # it reads codes, never symbols
            joined_dropout(self.body)

    def forward(
        self,
        features: Features | None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        queries: Int[Tensor, "b m"] | None = None,
    ) -> Decoded:
        """The likelihood of every symbol (b n 1), or of those that ``only`` names (b m 1).

        Raises:
            BuildError: there is no code.
            DataError: with blocks, a text longer than ``positions``.
        """
        if features is None:
            raise BuildError("decoder bert makes symbols of a code, and there is none")
        steps = self._steps(features, teacher, length)
        x, mask = self._inputs(features, steps), resampled_mask(features, steps)
        assert x is not None
        if self.body is not None:
            fits(steps, self.most, "decoder bert")
            x = self.body(inputs_embeds=x, attention_mask=mask).last_hidden_state
        if queries is not None:
            x, mask = gather_tokens(x, queries), None if mask is None else mask.gather(1, queries)
        out = self.transform(x)
        return self.head(out, mask=mask, grid=(steps,) if queries is None else None)
