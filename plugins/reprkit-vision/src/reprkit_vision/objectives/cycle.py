"""CycleGAN: two domains without pairs, each translated into the other and back."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

import reprkit as rk
from reprkit import Field, Objective, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.registry.constraints import NonNegative, Width
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit import Model


class Cycle(Objective):
    """CycleGAN (Zhu et al. 2017, arXiv 1703.10593): two coupled autoencoders, each the other's way back.

    The model has two image fields of one shape, two factors and two outputs: each output reads the factor of the other's field, so
    one is a translation there, and one back.  An example holds a picture of each domain; the two are no pair.

    ::

        a ─► factor of a ─► output b = a in b's style ─► factor of b ─► output a, compared with a

    Losses of turn "main", summed over both directions: ``cycle``, the nats of a picture under its round trip (section 3.2);
    ``identity``, weight times the nats of a picture that is already of the target's domain (section 5.2); ``adversarial``, weight
    times the least-squares loss of a translation under the target's critic (section 3.1), its mean over a critic's scores, times
    the elements of a picture.  A Laplace likelihood of fixed scale .05 for pictures in [0, 1], with the default weights, gives the
    paper's 10 and 0.5.  Loss of turn "critic": ``critic``, the least-squares loss of both critics on pictures and translations.
    Metrics: ``error``, squared error of a round trip; ``told``, share of the critics' scores on the right side of one half.  The
    paper's buffer of 50 older translations is left out.

    Args:
        identity: weight of the identity loss.
        adversarial: weight of the critics in the loss of the translations.
        width: channels of the critics' first convolution.
        depth: halvings of a critic of patches (70 pixels in the paper: width 64, depth 3).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the model has other factors and outputs than described, the fields are no images of one shape and range, or the
            images are too small for the critics.
    """

    needs = frozenset({"encoder", "decoder"})
    turns = ("main", "critic")
    several_outputs = True

    def __init__(
        self,
        *,
        identity: NonNegative = 0.5,
        adversarial: NonNegative = 1.0,
        width: Width = 32,
        depth: Annotated[int, Ge(1), Le(6)] = 2,
    ) -> None:
        super().__init__()
        self.identity, self.adversarial, self.width, self.depth = identity, adversarial, width, depth
        self.critic = nn.ModuleDict()

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return two image fields with a translation each way."""
        image = Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0))
        net, back = "conv(width=8, depth=1)", "conv(width=8, depth=1, likelihood='laplace', scale=0.05)"
        return {
            "data": Signature({"x": image, "y": image}),
            "factors": {
                "there": rk.factor(net, "continuous(dim=4)"),
                "back": rk.factor(net, "continuous(dim=4)", input="y"),
            },
            "decoder": {"x": rk.output(back, reads="back"), "y": rk.output(back, reads="there")},
        }

    def bind(self, model: Model) -> None:
        """Check that there are two opposite translations, and create a critic for each output."""
        outputs = list(model.outputs.values())
        factors = [model.factors[output.reads[0]] for output in outputs if len(output.reads) == 1]
        fields = [output.field_name for output in outputs]
        if len(set(fields)) != 2 or [factor.input for factor in factors] != fields[::-1]:
            raise BuildError(
                "objective cycle needs two outputs, each of which reads the one factor of the other's field: "
                'factors={"there": rk.factor(..., input="a"), "back": rk.factor(..., input="b")}, '
                'decoder={"b": rk.output(..., reads="there"), "a": rk.output(..., reads="back")}'
            )
        one, two = (output.field for output in outputs)
        if one.kind != "image" or (one.kind, one.shape, one.range) != (two.kind, two.shape, two.range):
            raise BuildError(
                f"objective cycle translates images of one shape and range, and these are {one.kind} {one.shape} {one.range} and "
                f"{two.kind} {two.shape} {two.range}"
            )
        smallest = 2 ** (self.depth + 1)
        if min(int(side or 0) for side in one.shape[:2]) < smallest:
            raise BuildError(
                f"critics of depth={self.depth} need images of at least {smallest} pixels a side"
            )
        self.critic = nn.ModuleDict(
            {name: PatchCritic(one.channels, self.width, self.depth) for name in model.outputs}
        )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the losses of one batch."""
        totals = [
            self._train_critic(model, batch, name)
            if turn == "critic"
            else self._train_way(model, batch, name)
            for name in model.outputs
        ]
        count = len(batch[next(iter(model.outputs.values())).field_name])
        metric = "told" if turn == "critic" else "error"
        model.record(**{metric: torch.stack([each.pop(metric) for each in totals]).mean()})
        return {name: (totals[0][name] + totals[1][name], count) for name in totals[0]}

    def _train_way(self, model: Model, batch: Batch, name: str) -> dict[str, Tensor]:
        """Return the losses of the translation to an output, and the error of its round trip."""
        output = model.outputs[name]
        back, returned = next((key, each) for key, each in model.outputs.items() if key != name)
        made = self._translate(model, batch, name)
        codes = model.encode({output.field_name: made}, factors=returned.reads, in_range=False)
        cycle = model.score(batch, codes, output=back, in_range=False)
        own = {
            returned.field_name: batch[output.field_name]
        }  # of the target's domain, where the other is read
        codes = model.encode(own, factors=output.reads, in_range=False)
        identity = model.score(batch, codes, output=name, in_range=False)
        critic = self.critic[name]
        # The critic's weights get no gradient in this turn.
        weights = {key: value.detach() for key, value in critic.named_parameters()}
        scores = functional_call(critic, weights, (made,))
        return {
            "cycle": cycle.total,
            "identity": self.identity * identity.total,
            "adversarial": self.adversarial * (scores - 1).square().mean(1).sum() * made[0].numel(),
            "error": cycle.metrics["error"],
        }

    def _train_critic(self, model: Model, batch: Batch, name: str) -> dict[str, Tensor]:
        """Return the loss of an output's critic, and the share of its scores that are right."""
        with torch.no_grad():
            made = self._translate(model, batch, name)
        critic = self.critic[name]
        real, fake = critic(batch[model.outputs[name].field_name]), critic(made)
        losses = 0.5 * ((real - 1).square().mean(1) + fake.square().mean(1))
        told = (real > 0.5).float().mean() / 2 + (fake < 0.5).float().mean() / 2
        return {"critic": losses.sum() * made[0].numel(), "told": told.detach()}

    def _translate(self, model: Model, batch: Batch, name: str) -> Float[Tensor, "b h w c"]:
        """Return the pictures of the other field in the style of an output."""
        output = model.outputs[name]
        decoded = model.decode(model.encode(batch, factors=output.reads), output=name)
        return model.to_batch(decoded, output=name)[output.field_name]


class PatchCritic(nn.Module):
    """Scores of overlapping patches of a picture (b k), higher for real (Isola et al. 2017, arXiv 1611.07004, section 3.2.2)."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(depth)]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1)]
        for one, two in pairwise(widths):
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(one, two, 4, 2, 1), nn.InstanceNorm2d(two)]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Float[Tensor, "b h w c"]) -> Float[Tensor, "b k"]:
        """Score pictures."""
        return self.layers(pictures.movedim(-1, 1).contiguous()).flatten(1).float()
