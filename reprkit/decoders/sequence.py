"""Base class of the sequence decoders: resampling of the code to the steps, feedback of earlier tokens, and the head."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Likelihood
from reprkit.layers.positions import sinusoidal_positions
from reprkit.layers.resample_tokens import ResampleTokens, resampled_mask
from reprkit.layers.sequence_input import row_values
from reprkit.layers.value_embedding import ValueEmbedding
from reprkit.models.grid import step_grid
from reprkit.types import Decoded, Features


class SequenceDecoder(Decoder):
    """Decode a code to frames, symbols, an image's rows, or one vector; subclasses implement the network over the steps.

    The input of step t is the code's token at t and, if causal, the embedding of the target's token t - 1
    (a learned start token at the first step; learned blanks where no target is given).  A code of one token is repeated
    at all steps, with sinusoidal positions added, since the steps would be identical otherwise.

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
        likelihood: str | Likelihood | None,
        scale: str | float,
        data: Signature,
        tokens: int | None,
    ) -> None:
        super().__init__()
        self.field, self.causal, self.width = data["x"], causal, width
        self.positions = positions or tokens == 1
        self.provides = frozenset({"causal"}) if causal else frozenset()
        self.code = ResampleTokens(width, tokens=tokens, places=self.field.steps, absent=not causal)
        self.in_dim = self.code.in_dim
        values = row_values(self.field)
        if causal:
            self.values = ValueEmbedding(self.field, values, width, feedback=True)
        self.head = Head(out, values, field=self.field, likelihood=likelihood, scale=scale)

    def run(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n e"]:
        """Process all steps at once: (b n width) to (b n out); steps where ``mask`` is False must not affect others."""
        raise NotImplementedError

    def memory(self, size: int, length: int) -> Any:
        """Return the state of ``run_step`` before the first step, a pytree."""
        raise NotImplementedError

    def run_step(
        self, previous: Tensor | None, context: Tensor | None, memory: Any, position: int, mask: Tensor | None
    ) -> tuple[Tensor, Any]:
        """Compute the step at ``position`` (b 1 out), and the next state.

        Args:
            previous: the previous token (b 1 p); None at the first step.
            context: code and position embedding, which are added to the token's embedding (b or 1, 1, width); None: neither.
            memory: the state of ``memory``, or of the previous step.
            position: index of the step.
            mask: (b length), as in ``run``.
        """
        raise NotImplementedError

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the data; every step is a token (b n p).

        Args:
            features: the code (b m in_dim); None for a causal decoder without a code.
            teacher: the target (b n p), which a causal decoder reads shifted by one step; others use only its length.
            length: number of steps; needed where neither the data, the teacher nor the code determines it.

        Raises:
            BuildError: no code and the decoder is not causal, or neither code nor teacher and it is causal.
        """
        if features is not None:
            size = len(features.x)
        elif teacher is not None and self.causal:
            size = len(teacher)
        else:
            raise BuildError(
                "a causal decoder needs a code or a teacher (the target, shifted by one step)"
                if self.causal
                else "this decoder needs a code, and there is none: use an encoder, or causal=True"
            )
        steps = self._steps(features, teacher, length)
        x = self._inputs(features, steps)
        mask = None if features is None else resampled_mask(features, steps)
        if self.causal:
            earlier = self.values.blanks(size, steps - 1) if teacher is None else self.values(teacher[:, :-1])
            feedback = torch.cat([self.values.start(size), earlier], 1)
            x = feedback if x is None else x + feedback
        assert x is not None  # a decoder that is not causal has a code
        return self._decoded(self.run(x, mask), mask, steps)

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> dict[str, Any]:
        """Return the state before the first of ``length`` steps; no gradients here and in ``step``.

        Raises:
            PartArgumentError: the decoder is not causal.
        """
        if not self.causal:
            return super().start(features, size=size, length=length)
        mask = None if features is None else resampled_mask(features, length)
        return {
            "context": self._inputs(features, length),
            "mask": mask,
            "position": 0,
            "length": length,
            "memory": self.memory(size, length),
        }

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: dict[str, Any]) -> tuple[Decoded, dict[str, Any]]:
        """Return the next token's likelihood (b 1 p) given the ``previous`` token (b 1 p; None at the first), and the state.

        Raises:
            PartArgumentError: the decoder is not causal.
            BuildError: all steps of ``start`` are done.
        """
        if not self.causal:
            return super().step(previous, state)
        position, mask, context = state["position"], state["mask"], state["context"]
        if position >= state["length"]:
            raise BuildError(f"all {state['length']} steps are done: start(length=) sets their number")
        here = slice(position, position + 1)
        step_context = None if context is None else context[:, here]
        out, memory = self.run_step(previous, step_context, state["memory"], position, mask)
        step_mask = None if mask is None else mask[:, here]
        return self._decoded(out, step_mask, 1), {**state, "position": position + 1, "memory": memory}

    def _steps(self, features: Features | None, teacher: Tensor | None, length: int | None) -> int:
        if teacher is not None:
            return teacher.shape[1]
        known = length or self.field.steps
        if known is None and features is not None:
            known = features.x.shape[1] if features.positions is None else features.length
        return int(known or 1)

    def _inputs(self, features: Features | None, steps: int) -> Tensor | None:
        """Return the code plus position embeddings at every step (b or 1, steps, width); None where there is neither."""
        x = None if features is None else self.code(features, steps)
        single = (
            features is not None and features.x.shape[1] == 1 and features.positions is None and steps > 1
        )
        if not (self.positions or single):
            return x
        weight = self.head.linear.weight
        positions = sinusoidal_positions(torch.arange(steps, device=weight.device), self.width)
        positions = positions.to(weight.dtype)[None]
        return positions if x is None else x + positions

    def _decoded(self, out: Tensor, mask: Tensor | None, steps: int) -> Decoded:
        return self.head(out, mask=mask, grid=step_grid(self.field, steps))
