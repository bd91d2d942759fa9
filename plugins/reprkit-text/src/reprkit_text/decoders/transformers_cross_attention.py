"""Base of the decoders of transformers with cross-attention."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit_text.decoders.cross_attention import CrossAttentionDecoder
from reprkit_text.transformers_networks.symbols import check_checkpoint_rows, field_vocabulary


class TransformersCrossAttentionDecoder(CrossAttentionDecoder):
    """A causal decoder of transformers with cross-attention to the code; subclasses create ``body`` and ``lm_head``.

    Attributes:
        body: the decoder stack of transformers.
        lm_head: maps hidden states to logits of the table's rows, of which only those of the data's symbols are used.
        factor: scale of the hidden states before ``lm_head``.
        vocab: number of symbols of the data.
        first: the row that is the input at the first symbol.
    """

    body: Any
    lm_head: nn.Linear
    factor: float = 1.0
    vocab: int
    first: int

    def write(
        self, previous: Int[Tensor, "b n"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n+1 v"]:
        """Return logits of each symbol, given those before it."""
        first = previous.new_full((len(memory), 1), self.first)
        return self._logits_of(torch.cat([first, previous], 1), memory, mask, use_cache=False)

    def begin(
        self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None, length: int
    ) -> dict[str, Any]:
        """Return keys and values, and transformers' cache, which grows in place."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        config = self.body.config
        cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        return {"memory": memory, "mask": mask, "cache": cache}

    def advance(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any]
    ) -> tuple[Float[Tensor, "b 1 v"], dict[str, Any]]:
        """Return logits of the next symbol."""
        memory = state["memory"]
        if previous is None:
            previous = torch.full((len(memory),), self.first, device=memory.device)
        options = {"past_key_values": state["cache"], "use_cache": True}
        return self._logits_of(previous.unsqueeze(1), memory, state["mask"], **options), {}

    def logits(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Return logits of the data's symbols, given hidden states."""
        return self.lm_head(states * self.factor)[..., : self.vocab]

    def _logits_of(self, ids: Tensor, memory: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
        inputs = {"encoder_hidden_states": memory, "encoder_attention_mask": mask}
        return self.logits(self.body(input_ids=ids, **inputs, **options).last_hidden_state)


def table_sizes(field: Field, part: str, checkpoint_rows: int | None) -> tuple[int, int]:
    """Return the number of the data's symbols and of the table's rows; a new table has two more, blank and first.

    Raises:
        BuildError: the field holds no symbols, or more than the checkpoint knows.
    """
    if field.kind != "tokens" or field.vocab is None:
        raise BuildError(f"{part} makes symbols (tokens with a vocab), and x is {field.kind} data")
    check_checkpoint_rows(field.vocab, checkpoint_rows)
    return field.vocab, checkpoint_rows if checkpoint_rows is not None else field.vocab + 2


def start_rows(field: Field, config: Any, new: bool) -> tuple[int, int]:
    """Return the rows of the blank symbol (a checkpoint's mask, or padding) and of the first input (its start symbol)."""
    if new:
        return int(field.vocab or 0), int(field.vocab or 0) + 1
    vocabulary = field_vocabulary(field)
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    numbers = (getattr(config, name, None) for name in names)
    first = next((number for number in numbers if number is not None), 0)
    blank = None if vocabulary is None else vocabulary.mask
    return (config.pad_token_id or 0) if blank is None else blank, int(first)
