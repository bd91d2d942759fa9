"""What decoders that look at a code by attention share: any number of its tokens is read, and words are written one by one."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features
from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.likelihoods import mode
from reprkit_text.wrapped.symbols import fits


class Looking(Decoder):
    """A causal decoder of symbols that looks at the code; subclasses say how they ``write``, ``begin`` and go ``on``.

    The code's tokens need not lie over the symbols: any number of them is read, and one that stands for the whole text as well.
    Without a code it looks at one learned token.

    Attributes:
        blank: the symbol that stands where none is told.
        most: symbols of a text at most; None: any number.
    """

    title: ClassVar[str]
    provides = frozenset({"causal"})
    blank: int
    most: int | None = None

    def ready(self, width: int, field: Field) -> None:
        """Make what all of them have."""
        self.in_dim, self.steps = width, field.space[0]
        self.nothing = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def write(
        self, told: Int[Tensor, "b n"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n+1 v"]:
        """Logits of each symbol, given those before it."""
        raise NotImplementedError

    def begin(
        self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None, length: int
    ) -> dict[str, Any]:
        """What ``on`` needs before the first symbol."""
        raise NotImplementedError

    def on(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any]
    ) -> tuple[Float[Tensor, "b 1 v"], dict[str, Any]]:
        """Logits of the next symbol, given the one before it (None at the first), and what ``on`` needs then."""
        raise NotImplementedError

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
        if teacher is None:
            told = torch.full((size, steps - 1), self.blank, device=self.nothing.device)
        else:
            told = teacher[:, :-1, 0]
        return self._decoded(self.write(told, *self._memory(features, size)))

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> dict[str, Any]:
        """The state before the first of ``length`` symbols; no gradients here and in ``step``.

        Raises:
            DataError: it cannot write so many.
        """
        fits(length, self.most, self.title)
        return {**self.begin(*self._memory(features, size), length), "place": 0, "length": length}

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: dict[str, Any]) -> tuple[Decoded, dict[str, Any]]:
        """The next symbol's likelihood (b 1 1), given the ``previous`` one (b 1 1; None at the first).

        Raises:
            BuildError: all steps of ``start`` have been made.
        """
        if state["place"] >= state["length"]:
            raise BuildError(
                f"all {state['length']} steps have been made: start(length=) says how many there are"
            )
        logits, after = self.on(None if previous is None else previous[:, 0, 0].long(), state)
        return self._decoded(logits), {**state, **after, "place": state["place"] + 1}

    def _memory(
        self, features: Features | None, size: int
    ) -> tuple[Float[Tensor, "b m d"], Bool[Tensor, "b m"] | None]:
        """What is looked at.  A text without a valid token looks at zeros: a row without keys would be NaN."""
        if features is None:
            return self.nothing.expand(size, 1, -1), None
        # Nothing of the learned token, so that it has a gradient (0): DDP raises on weights without.
        x = zero_invalid_tokens(features).x + 0 * self.nothing
        mask = features.mask
        return x, None if mask is None else mask | ~mask.any(1, keepdim=True)

    def _length(self, features: Features | None) -> int:
        known = None if features is None else (features.length or features.x.shape[1])
        return int(known or 1)

    def _decoded(self, logits: Float[Tensor, "b n v"]) -> Decoded:
        params = {"logits": logits.unsqueeze(-2)}
        return Decoded(
            x=mode("categorical", params), likelihood="categorical", params=params, grid=(logits.shape[1],)
        )
