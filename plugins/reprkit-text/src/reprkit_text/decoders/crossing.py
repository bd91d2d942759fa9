"""What the decoders of transformers with cross-attention share: they read a code of any length, and write word after word."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features
from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.placing import valid_only
from reprkit.likelihoods import mode
from reprkit_text.wrapped.symbols import fits, written_with


class Crossing(Decoder):
    """A causal decoder of transformers that looks at the code by cross-attention; subclasses make ``body`` and ``lm_head``.

    The code's tokens need not lie over the symbols: any number of them is read, and one that stands for the whole text as well.
    Without a code it looks at one learned token.

    Attributes:
        body: the stack of transformers.
        lm_head: hidden states to the rows of its table; those of the data's symbols count.
        factor: what hidden states are multiplied with before it.
        vocab: symbols of the data.
        blank: the row that stands where no symbol is told.
        first: the row before the first symbol.
        most: symbols of a text at most; None: any number.
    """

    title: ClassVar[str]
    provides = frozenset({"causal"})
    body: Any
    lm_head: nn.Linear
    factor: float = 1.0
    vocab: int
    blank: int
    first: int
    most: int | None = None

    def ready(self, width: int, field: Field) -> None:
        """Make what all of them have, once ``body`` is there."""
        self.in_dim, self.steps = width, field.space[0]
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """The likelihood of every symbol (b n 1), given those of ``teacher`` (b n 1) before it.

        Raises:
            BuildError: neither a code nor a teacher, or no length.
            DataError: a text longer than it can write.
        """
        if teacher is None and features is None:
            raise BuildError(f"{self.title} needs a code or a teacher (the target, shifted by one step)")
        steps = teacher.shape[1] if teacher is not None else length or self.steps or self._length(features)
        fits(steps, self.most, self.title)
        size = len(teacher) if features is None and teacher is not None else len(features.x)  # type: ignore[union-attr]
        device = self.nothing.device
        if teacher is None:
            told = torch.full((size, steps - 1), self.blank, device=device)
        else:
            told = teacher[:, :-1, 0]
        ids = torch.cat([torch.full((size, 1), self.first, device=device), told], 1)
        memory, mask = self._memory(features, size)
        out = self.body(
            input_ids=ids, encoder_hidden_states=memory, encoder_attention_mask=mask, use_cache=False
        )
        return self._decoded(out.last_hidden_state)

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> dict[str, Any]:
        """The state before the first of ``length`` symbols; no gradients here and in ``step``.

        Raises:
            DataError: it cannot write so many.
        """
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        fits(length, self.most, self.title)
        memory, mask = self._memory(features, size)
        config = self.body.config
        cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        return {"memory": memory, "mask": mask, "cache": cache, "place": 0, "length": length}

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: dict[str, Any]) -> tuple[Decoded, dict[str, Any]]:
        """The next symbol's likelihood (b 1 1), given the ``previous`` one (b 1 1; None at the first); the cache grows in place.

        Raises:
            BuildError: all steps of ``start`` have been made.
        """
        if state["place"] >= state["length"]:
            raise BuildError(
                f"all {state['length']} steps have been made: start(length=) says how many there are"
            )
        memory = state["memory"]
        ids = (
            torch.full((len(memory), 1), self.first, device=memory.device)
            if previous is None
            else previous[..., 0].long()
        )
        out = self.body(
            input_ids=ids,
            encoder_hidden_states=memory,
            encoder_attention_mask=state["mask"],
            past_key_values=state["cache"],
            use_cache=True,
        )
        return self._decoded(out.last_hidden_state), {**state, "place": state["place"] + 1}

    def scores(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n v"]:
        """Logits of the data's symbols, given hidden states."""
        return self.lm_head(states * self.factor)[..., : self.vocab]

    def _memory(
        self, features: Features | None, size: int
    ) -> tuple[Float[Tensor, "b m d"], Bool[Tensor, "b m"] | None]:
        """What is looked at.  A text without a valid token looks at zeros: a row without keys would be NaN."""
        if features is None:
            return self.nothing.expand(size, 1, -1), None
        # Nothing of the learned token, so that it has a gradient (0): DDP raises on weights without.
        x = valid_only(features).x + 0 * self.nothing
        mask = features.mask
        return x, None if mask is None else mask | ~mask.any(1, keepdim=True)

    def _length(self, features: Features | None) -> int:
        known = None if features is None else (features.length or features.x.shape[1])
        return int(known or 1)

    def _decoded(self, states: Float[Tensor, "b n d"]) -> Decoded:
        params = {"logits": self.scores(states).unsqueeze(-2)}
        return Decoded(
            x=mode("categorical", params), likelihood="categorical", params=params, grid=(states.shape[1],)
        )


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
