"""Base of the causal decoders with cross-attention to a code of any number of tokens."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, create
from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.utils.collectives import global_draw
from reprkit_text.transformers_networks.symbols import check_length


class CrossAttentionDecoder(Decoder):
    """A causal decoder of symbols with cross-attention to the code; subclasses have ``write``, ``begin`` and ``advance``.

    The code's tokens need not align with the symbols: any number of them works, also a single one for the whole text.
    Without a code it attends to one learned token, and is a language model.

    Attributes:
        blank: the input symbol where the previous one is unknown.
        most: largest number of symbols of a text; None: no limit.
        forget: probability that an earlier symbol is unknown while training.
        drop: probability that an example's code is unknown while training: the learned token is read instead.
        guidance: g of the distribution in evaluation, proportional to p(symbol | code) ** g * p(symbol) ** (1 - g), where
            p(symbol) is that without a code (classifier-free guidance; Kornblith et al. 2023, arXiv 2307.16686, eq. 2).
    """

    title: ClassVar[str]
    provides = frozenset({"causal"})
    blank: int
    most: int | None = None
    forget: float = 0.0
    drop: float = 0.0
    guidance: float = 1.0

    def _set_up(self, width: int, field: Field) -> None:
        """Create what all subclasses have."""
        self.in_dim, self.steps = width, field.space[0]
        self.likelihood: Likelihood = create("likelihood", "categorical")
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def write(
        self, previous: Int[Tensor, "b n"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n+1 v"]:
        """Return logits of each symbol, given those before it."""
        raise NotImplementedError

    def begin(
        self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None, length: int
    ) -> dict[str, Any]:
        """Return the state of ``advance`` before the first symbol."""
        raise NotImplementedError

    def advance(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any]
    ) -> tuple[Float[Tensor, "b 1 v"], dict[str, Any]]:
        """Return logits of the next symbol, given the one before (None at the first), and updates of the state."""
        raise NotImplementedError

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of every symbol (b n 1), given those of ``teacher`` (b n 1) before it.

        Raises:
            BuildError: neither a code nor a teacher, or no length.
            DataError: a text longer than ``most``.
        """
        if teacher is None and features is None:
            raise BuildError(f"{self.title} needs a code or a teacher (the target, shifted by one step)")
        steps = teacher.shape[1] if teacher is not None else length or self.steps or self._length(features)
        check_length(steps, self.most, self.title)
        size = len(teacher) if features is None and teacher is not None else len(features.x)  # type: ignore[union-attr]
        if teacher is None:
            previous = torch.full((size, steps - 1), self.blank, device=self.nothing.device)
        else:
            previous = teacher[:, :-1, 0]
            if self.training and self.forget > 0:
                # Drawn for the global batch, so that training on several ranks equals training on one.
                draw = partial(torch.rand, device=previous.device)
                known = global_draw(draw, tuple(previous.shape)) >= self.forget
                previous = previous.where(known, self.blank)
        logits = self.write(previous, *self._memory(features, size))
        if self._guides(features):
            logits = self._guide(logits, self.write(previous, *self._memory(None, size)))
        return self._decoded(logits)

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> dict[str, Any]:
        """Return the state before the first of ``length`` symbols; no gradients here and in ``step``.

        Raises:
            DataError: ``length`` exceeds ``most``.
        """
        check_length(length, self.most, self.title)
        state = {**self.begin(*self._memory(features, size), length), "position": 0, "length": length}
        if self._guides(features):
            state["free"] = self.begin(*self._memory(None, size), length)
        return state

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: dict[str, Any]) -> tuple[Decoded, dict[str, Any]]:
        """Return the next symbol's likelihood (b 1 1), given the ``previous`` one (b 1 1; None at the first).

        Raises:
            BuildError: all steps of ``start`` have been made.
        """
        if state["position"] >= state["length"]:
            raise BuildError(f"all {state['length']} steps have been made: start(length=) sets their number")
        symbols = None if previous is None else previous[:, 0, 0].long()
        logits, after = self.advance(symbols, state)
        if "free" in state:  # the state of the same network without a code
            free, changed = self.advance(symbols, {**state["free"], "position": state["position"]})
            logits, after = self._guide(logits, free), {**after, "free": {**state["free"], **changed}}
        return self._decoded(logits), {**state, **after, "position": state["position"] + 1}

    def _guides(self, features: Features | None) -> bool:
        """Whether the distribution is a guided one."""
        return self.guidance != 1 and not self.training and features is not None

    def _guide(self, logits: Float[Tensor, "b n v"], free: Float[Tensor, "b n v"]) -> Float[Tensor, "b n v"]:
        """Return the logits of the guided distribution."""
        return free + self.guidance * (logits - free)

    def _memory(
        self, features: Features | None, size: int
    ) -> tuple[Float[Tensor, "b m d"], Bool[Tensor, "b m"] | None]:
        """Return the keys and values of cross-attention, and their mask.

        A text without a valid token attends to zeros: a row without keys would be NaN.
        """
        if features is None:
            return self.nothing.expand(size, 1, -1), None
        # Zero times the learned token gives it a gradient (0): DDP raises on weights without one.
        x = zero_invalid_tokens(features).x + 0 * self.nothing
        mask = features.mask
        mask = None if mask is None else mask | ~mask.any(1, keepdim=True)
        if self.training and self.drop > 0:
            # Drawn for the global batch, as above.  The learned token takes the place of the first one, alone.
            unknown = global_draw(partial(torch.rand, device=x.device), (size, 1)) < self.drop
            first = torch.arange(x.shape[1], device=x.device) == 0
            x = x.where(~unknown.unsqueeze(-1), self.nothing * first[:, None])
            known = torch.ones_like(first).expand(size, -1) if mask is None else mask
            mask = known.where(~unknown, first)
        return x, mask

    def _length(self, features: Features | None) -> int:
        known = None if features is None else (features.length or features.x.shape[1])
        return int(known or 1)

    def _decoded(self, logits: Float[Tensor, "b n v"]) -> Decoded:
        params = {"logits": logits.unsqueeze(-2)}
        return Decoded(likelihood=self.likelihood, params=params, grid=(logits.shape[1],))
