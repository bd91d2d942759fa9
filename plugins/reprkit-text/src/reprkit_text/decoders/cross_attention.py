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
    Without a code it attends to one learned token.

    Attributes:
        blank: the input symbol where the previous one is unknown.
        most: largest number of symbols of a text; None: no limit.
        forget: probability that an earlier symbol is unknown while training.
    """

    title: ClassVar[str]
    provides = frozenset({"causal"})
    blank: int
    most: int | None = None
    forget: float = 0.0

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
        return self._decoded(self.write(previous, *self._memory(features, size)))

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> dict[str, Any]:
        """Return the state before the first of ``length`` symbols; no gradients here and in ``step``.

        Raises:
            DataError: ``length`` exceeds ``most``.
        """
        check_length(length, self.most, self.title)
        return {**self.begin(*self._memory(features, size), length), "position": 0, "length": length}

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: dict[str, Any]) -> tuple[Decoded, dict[str, Any]]:
        """Return the next symbol's likelihood (b 1 1), given the ``previous`` one (b 1 1; None at the first).

        Raises:
            BuildError: all steps of ``start`` have been made.
        """
        if state["position"] >= state["length"]:
            raise BuildError(f"all {state['length']} steps have been made: start(length=) sets their number")
        logits, after = self.advance(None if previous is None else previous[:, 0, 0].long(), state)
        return self._decoded(logits), {**state, **after, "position": state["position"] + 1}

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
        return x, None if mask is None else mask | ~mask.any(1, keepdim=True)

    def _length(self, features: Features | None) -> int:
        known = None if features is None else (features.length or features.x.shape[1])
        return int(known or 1)

    def _decoded(self, logits: Float[Tensor, "b n v"]) -> Decoded:
        params = {"logits": logits.unsqueeze(-2)}
        return Decoded(likelihood=self.likelihood, params=params, grid=(logits.shape[1],))
