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
from reprkit_text.transformers_networks.settings import resolve_config
from reprkit_text.transformers_networks.symbols import check_checkpoint_rows, check_length
from reprkit_text.transformers_networks.weights import init_sine_positions, load_weights, replace_dropout


class BertDecoder(SequenceDecoder):
    """A code (b n width) to symbols: dense, GELU, LayerNorm, and a linear map to the vocabulary (Devlin et al. 2019, 3.1).

    It is the head of transformers' ``BertForMaskedLM``, whose last map is not tied to the encoder's embeddings; with ``depth``
    BERT's blocks come before it, for codes with less than one token per symbol.  All symbols at once, so it is not causal.
    With ``queries`` it computes the likelihood of these symbols only: masked-language modeling needs a seventh of them, and
    the map to the vocabulary is half of a small network's work.

    Args:
        width: width of a token, a multiple of ``heads`` where there are blocks; default 128.
        depth: number of BERT's blocks before the head.
        heads: attention heads of the blocks.
        positions: largest number of symbols of a text, with blocks; position embeddings start as sines, as the encoder's.
        dropout: dropout rate of the blocks, in [0, 1).
        folder: a local checkpoint with a masked-language head, which sets the width; no blocks are taken from it.
        config: further settings under transformers' names.
        data: signature of the data to decode, field ``x``, tokens.
        tokens: number of tokens of the code; None where it varies.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: a folder without a BERT with such a head.
        BuildError: the data is not tokens, or has more symbols than the checkpoint.
    """

    cells = ()  # lengths vary: ``only`` counts the steps

    def __init__(
        self,
        width: Width | None = None,
        *,
        depth: DepthOrZero = 0,
        heads: Count = 4,
        positions: Width = 512,
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
            "decoder bert loads its head from a folder, but no blocks: remove depth",
        )

        def to_config(sizes: Mapping[str, int]) -> dict[str, Any]:
            return {
                "hidden_size": sizes["width"],
                "intermediate_size": 4 * sizes["width"],
                "num_hidden_layers": depth,
                "num_attention_heads": sizes["heads"],
                "max_position_embeddings": positions,
            }

        sizes = {"width": (width, 128), "heads": (None, heads if depth else 1)}
        dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
        resolved = resolve_config(self, BertConfig, folder, sizes, to_config, config, dropouts)
        check_checkpoint_rows(field.vocab, resolved.vocab_size if folder else None)
        super().__init__(
            resolved.hidden_size,
            resolved.hidden_size,
            causal=False,
            positions=False,
            likelihood=None,
            scale="shared",
            data=data,
            tokens=tokens,
        )
        self.provides = frozenset({"queries"})
        self.transform: nn.Module = BertPredictionHeadTransform(resolved)
        if folder and not is_restoring():
            head = load_weights(BertForMaskedLM, folder, resolved).cls.predictions
            self.transform = head.transform
            with torch.no_grad():
                self.head.linear.weight.copy_(head.decoder.weight[: field.vocab])
                self.head.linear.bias.copy_(head.decoder.bias[: field.vocab])
        self.body: Any = None
        if depth:
            self.most = positions
            self.body = BertModel(resolved, add_pooling_layer=False)
            init_sine_positions(self.body)
            self.body.embeddings.word_embeddings = nn.Identity()  # it reads codes, not symbols
            replace_dropout(self.body)

    def forward(
        self,
        features: Features | None,
        *,
        teacher: Tensor | None = None,
        length: int | None = None,
        queries: Int[Tensor, "b m"] | None = None,
    ) -> Decoded:
        """Return the likelihood of every symbol (b n 1), or only of those at ``queries`` (b m 1).

        Raises:
            BuildError: ``features`` is None.
            DataError: with blocks, a text longer than ``positions``.
        """
        if features is None:
            raise BuildError("decoder bert needs a code, and there is none")
        steps = self._steps(features, teacher, length)
        x, mask = self._inputs(features, steps), resampled_mask(features, steps)
        assert x is not None
        if self.body is not None:
            check_length(steps, self.most, "decoder bert")
            x = self.body(inputs_embeds=x, attention_mask=mask).last_hidden_state
        if queries is not None:
            x, mask = gather_tokens(x, queries), None if mask is None else mask.gather(1, queries)
        out = self.transform(x)
        return self.head(out, mask=mask, grid=(steps,) if queries is None else None)
