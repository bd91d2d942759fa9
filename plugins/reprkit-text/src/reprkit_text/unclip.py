"""unCLIP's two stages together: pictures from sentences with and without the prior, judged, and the figures of its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data import CodesOf
from reprkit.evaluation.encoding import draw_examples
from reprkit.reporting import Images
from reprkit_text.attribute_judges import AttributeJudges, mcnemar
from reprkit_text.picture_codes import Stage, draw_nearest, slerp, text_difference

if TYPE_CHECKING:
    from reprkit import Dataset, Model

_SHOWN = 8  # pictures of a row
_DRAWS = 4  # variations of a picture


def joint_codes(space: Model, data: Dataset, like: CodesOf | None = None) -> CodesOf:
    """Return the joint vectors ``image`` and ``text`` of the examples, with the pictures ``x``.

    Args:
        space: a trained model with factors "image" and "text", such as recipe ``clip``'s.
        data: pictures with texts.
        like: the vectors of the training data, whose mean and standard deviation are taken; None: of these examples.
    """
    return CodesOf(
        space,
        data,
        factor=("image", "text"),
        joint=True,
        keep=("x",),
        standardize=True if like is None else like,
    )


@dataclass(frozen=True)
class UnCLIP:
    """A prior from a sentence's vector to a picture's, and a decoder from a picture's vector to the picture.

    Ramesh et al. 2022, arXiv 2204.06125, section 2.

    Attributes:
        space: the model of the joint space, with factors "image" and "text".
        known: the joint vectors of the training data.
        prior: generates field ``image``, given ``text``.
        decoder: generates field ``x``, given ``image``.
        seed: of all draws.
    """

    space: Model
    known: CodesOf
    prior: Stage
    decoder: Stage
    seed: int = 0

    def pictures(self, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return pictures (n h w c) of joint vectors ``image`` and ``text``, by the way they are made.

        "own vector": from that of the real picture ``x``; "with prior"; "without prior": with the sentence's vector in place of the
        picture's; and "with prior" under each of the decoder's other samplers, from the same vectors.
        """
        drawn = draw_nearest(self.prior, codes["text"], seed=self.seed)
        vectors = {"own vector": codes["image"], "without prior": codes["text"], "with prior": drawn}
        made = {name: self.decoder.draw(each, seed=self.seed) for name, each in vectors.items()}
        for name, options in self.decoder.samplers.items():
            made[f"with prior, {name}"] = self.decoder.draw(drawn, seed=self.seed, **options)
        return {"real pictures": codes["x"], **made}

    def judge(
        self, judges: AttributeJudges, data: Dataset, limit: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the share of the examples with each attribute right, and with all of them, by the way pictures are made.

        ``limit``: largest number of examples, drawn by ``seed``.  "with prior" also has the paired test against "without prior":
        ``won``, ``lost`` and ``p`` of ``mcnemar``.
        """
        some = draw_examples(data, limit, self.seed)
        codes = joint_codes(self.space, some, self.known).batch(range(len(some)))
        right = {name: judges.right(made, some) for name, made in self.pictures(codes).items()}
        found: dict[str, dict[str, Any]] = {name: judges.shares(each) for name, each in right.items()}
        found["with prior"] |= mcnemar(right["with prior"].all(1), right["without prior"].all(1))
        return found

    def figures(self, data: Dataset) -> list[Images]:
        """Draw sentences as pictures, variations, the way between pictures, and pictures changed by two sentences' difference."""
        some = data.subset(range(min(_SHOWN, len(data))))
        codes = joint_codes(self.space, some, self.known).batch(range(len(some)))
        own, words, seed = codes["image"], codes["text"], self.seed
        ways = torch.linspace(0, 1, _SHOWN).tolist()
        made = {name: each for name, each in self.pictures(codes).items() if "steps" not in name}
        varied = {f"draw {number}": self.decoder.draw(own, seed=seed + number) for number in range(_DRAWS)}
        # A column is one batch, so that a row has the same noise throughout.
        between = [self.decoder.draw(slerp(own, own.roll(1, 0), way), seed=seed) for way in ways]
        turned = [
            self.decoder.draw(text_difference(own, words, words.roll(1, 0), way / 2), seed=seed)
            for way in ways
        ]
        return [
            _images("Pictures of sentences", made),
            _images("Variations of pictures", {"real pictures": codes["x"], **varied}),
            _images("From one picture to another", _rows(between)),
            _images("Pictures changed by the difference of their sentence and another", _rows(turned)),
        ]


def _rows(columns: list[Tensor]) -> dict[str, Tensor]:
    return {f"{number}": row for number, row in enumerate(torch.stack(columns, 1), 1)}


def _images(title: str, rows: Mapping[str, Tensor]) -> Images:
    return Images(title=title, rows={name: row.numpy() for name, row in rows.items()}, span=(0.0, 1.0))
