"""What the decoders of transformers with cross-attention share."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit_text.decoders.cross_attention import Looking
from reprkit_text.wrapped.symbols import written_with


class Crossing(Looking):
    """A causal decoder of transformers that looks at the code by cross-attention; subclasses make ``body`` and ``lm_head``.

    Attributes:
        body: the stack of transformers.
        lm_head: hidden states to the rows of its table; those of the data's symbols count.
        factor: what hidden states are multiplied with before it.
        vocab: symbols of the data.
        first: the row before the first symbol.
    """

    body: Any
    lm_head: nn.Linear
    factor: float = 1.0
    vocab: int
    first: int

    def write(
        self, told: Int[Tensor, "b n"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n+1 v"]:
        """Logits of each symbol, given those before it."""
        first = told.new_full((len(memory), 1), self.first)
        return self._scored(torch.cat([first, told], 1), memory, mask, use_cache=False)

    def begin(
        self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None, length: int
    ) -> dict[str, Any]:
        """What is looked at, and transformers' cache, which grows in place."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        config = self.body.config
        cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        return {"memory": memory, "mask": mask, "cache": cache}

    def on(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any]
    ) -> tuple[Float[Tensor, "b 1 v"], dict[str, Any]]:
        """Logits of the next symbol."""
        memory = state["memory"]
        if previous is None:
            previous = torch.full((len(memory),), self.first, device=memory.device)
        how = {"past_key_values": state["cache"], "use_cache": True}
        return self._scored(previous.unsqueeze(1), memory, state["mask"], **how), {}

    def scores(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Logits of the data's symbols, given hidden states."""
        return self.lm_head(states * self.factor)[..., : self.vocab]

    def _scored(self, ids: Tensor, memory: Tensor, mask: Tensor | None, **how: Any) -> Tensor:
        seen = {"encoder_hidden_states": memory, "encoder_attention_mask": mask}
        return self.scores(self.body(input_ids=ids, **seen, **how).last_hidden_state)


def rows(field: Field, part: str, held: int | None) -> tuple[int, int]:
    """The number of the data's symbols and of the table's rows: fresh tables have two more, a blank and a first one.

    Raises:
        BuildError: the field holds no symbols, or more than the checkpoint knows.
    """
    if field.kind != "tokens" or field.vocab is None:
        raise BuildError(f"{part} makes symbols (tokens with a vocab), and x is {field.kind} data")
    if held is not None and field.vocab > held:
        raise BuildError(
            f"the data has {field.vocab} symbols, and the checkpoint knows {held}: make the symbols with the checkpoint's own "
            "tokenizer, tokenizer='FOLDER' of the data set"
        )
    return field.vocab, held if held is not None else field.vocab + 2


def beginnings(field: Field, config: Any, fresh: bool) -> tuple[int, int]:
    """The rows of the blank and of what stands before the first symbol: a checkpoint's mask, or padding, and its start."""
    if fresh:
        return int(field.vocab or 0), int(field.vocab or 0) + 1
    words = written_with(field)
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    first = next((each for each in (getattr(config, name, None) for name in names) if each is not None), 0)
    blank = None if words is None else words.mask
    return (config.pad_token_id or 0) if blank is None else blank, int(first)
