"""What the decoders of sequences share: the code laid over the steps, earlier tokens read back, the head."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder
from reprkit.layers.positions import sinusoidal_positions
from reprkit.layers.resample_tokens import ResampleTokens, resampled_mask
from reprkit.layers.sequence_input import row_values
from reprkit.layers.value_embedding import ValueEmbedding
from reprkit.types import Decoded, Features


class SequenceDecoder(Decoder):
    """Steps are frames, symbols, an image's rows, or a whole vector; subclasses say how they see each other.

    The input of step t is the code's token there and, when causal, the embedding of the target's token t - 1
    (a learned start at the first; learned blanks where no target is told).  A code of one token is laid over
    all steps, with sine-cosine positions added, without which the steps would look alike.

    Attributes:
        in_dim: width that the code must have.
        causal: whether a step depends on earlier tokens of the target, and on no later one.
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        causal: bool,
        positions: bool,
        likelihood: str | None,
        scale: str | float,
        data: Signature,
        tokens: int | None,
    ) -> None:
        super().__init__()
        self.field, self.causal, self.width, self.positions = (
            data["x"],
            causal,
            width,
            positions or tokens == 1,
        )
        self.provides = frozenset({"causal"}) if causal else frozenset()
        space = self.field.space[0]
        self.code = ResampleTokens(width, tokens=tokens, places=space, absent=not causal)
        self.in_dim = self.code.in_dim
        values = row_values(self.field)
        if causal:
            self.values = ValueEmbedding(self.field, values, width, feedback=True)
        self.head = Head(out, values, field=self.field, likelihood=likelihood, scale=scale)

    def run(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n e"]:
        """All steps at once: (b n width) to (b n out); steps where ``mask`` is False are seen by no other."""
        raise NotImplementedError

    def memory(self, size: int, length: int) -> Any:
        """What ``run_step`` remembers, before the first step: a pytree."""
        raise NotImplementedError

    def run_step(
        self, previous: Tensor | None, beside: Tensor | None, memory: Any, place: int, mask: Tensor | None
    ) -> tuple[Tensor, Any]:
        """The step at ``place`` (b 1 out), and what is remembered then.

        Args:
            previous: the token before (b 1 p); None at the first.
            beside: what is added to its embedding, the code and the position (b or 1, 1, width); None: nothing.
            memory: of ``memory``, or of the step before.
            place: which step it is.
            mask: (b length), as in ``run``.
        """
        raise NotImplementedError

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Every step is a token (b n p).

        Args:
            features: the code (b m in_dim); None for a causal decoder of data without a code.
            teacher: the target (b n p), read by a causal decoder one step late; others take only its length
                from it.
            length: how many steps; needed where neither the data, the teacher nor the code says it.

        Raises:
            BuildError: a decoder that is not causal without a code, or a causal one without either.
        """
        if features is not None:
            size = len(features.x)
        elif teacher is not None and self.causal:
            size = len(teacher)
        else:
            raise BuildError(
                "a causal decoder needs a code or a teacher (the target, shifted by one step)"
                if self.causal
                else "this decoder makes a sequence from its code, and there is none; or say causal=True"
            )
        steps = self._steps(features, teacher, length)
        x = self._inputs(features, steps)
        mask = None if features is None else resampled_mask(features, steps)
        if self.causal:
            told = self.values.blanks(size, steps - 1) if teacher is None else self.values(teacher[:, :-1])
            fed = torch.cat([self.values.start(size), told], 1)
            x = fed if x is None else x + fed
        assert x is not None  # those that are not causal have a code
        return self._decoded(self.run(x, mask), mask, steps)

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> dict[str, Any]:
        """The state before the first of ``length`` steps; no gradients here and in ``step``.

        Raises:
            PartArgumentError: the decoder is not causal.
        """
        if not self.causal:
            return super().start(features, size=size, length=length)
        mask = None if features is None else resampled_mask(features, length)
        return {
            "beside": self._inputs(features, length),
            "mask": mask,
            "place": 0,
            "length": length,
            "memory": self.memory(size, length),
        }

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: dict[str, Any]) -> tuple[Decoded, dict[str, Any]]:
        """The next token's likelihood (b 1 p), given the ``previous`` token (b 1 p; None at the first).

        Raises:
            PartArgumentError: the decoder is not causal.
            BuildError: all steps of ``start`` have been made.
        """
        if not self.causal:
            return super().step(previous, state)
        place, mask, beside = state["place"], state["mask"], state["beside"]
        if place >= state["length"]:
            raise BuildError(
                f"all {state['length']} steps have been made: start(length=) says how many there are"
            )
        here = slice(place, place + 1)
        given = None if beside is None else beside[:, here]
        out, memory = self.run_step(previous, given, state["memory"], place, mask)
        shown = None if mask is None else mask[:, here]
        return self._decoded(out, shown, 1), {**state, "place": place + 1, "memory": memory}

    def _steps(self, features: Features | None, teacher: Tensor | None, length: int | None) -> int:
        if teacher is not None:
            return teacher.shape[1]
        known = length or self.field.space[0]
        if known is None and features is not None:
            known = features.x.shape[1] if features.positions is None else features.length
        return int(known or 1)

    def _inputs(self, features: Features | None, steps: int) -> Tensor | None:
        """The code at every step and where it is (b or 1, steps, width); None where there is neither."""
        x = None if features is None else self.code(features, steps)
        single = (
            features is not None and features.x.shape[1] == 1 and features.positions is None and steps > 1
        )
        if not (self.positions or single):
            return x
        at = self.head.linear.weight
        places = sinusoidal_positions(torch.arange(steps, device=at.device), self.width).to(at.dtype)[None]
        return places if x is None else x + places

    def _decoded(self, out: Tensor, mask: Tensor | None, steps: int) -> Decoded:
        grid = (steps, 1) if self.field.kind == "image" else (steps,)
        return self.head(out, mask=mask, grid=grid)
