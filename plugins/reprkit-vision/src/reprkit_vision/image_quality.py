"""How near reconstructed images come to the originals, as eyes see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from reprkit import Corruption, Dataset, Evaluator, Model, create
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches, session
from reprkit.registry.constraints import CountOrZero, Positive
from reprkit.reporting.figures import Images

_WINDOW = 6  # pixels that SSIM's window of 11, mirrored at the border, needs


class ImageQuality(Evaluator):
    """PSNR and SSIM of each image's reconstruction, averaged over images; torchmetrics computes both.

    ``psnr``: 10 log10(range² / mse), dB, infinite errors aside: an image that is rebuilt exactly counts as
    ``limit``.  ``ssim``: structural similarity with a Gaussian window of 11 (Wang et al. 2004, IEEE TIP
    13(4)), at most 1.  Both take the range from the data's signature and outputs clipped to it, as a screen
    would.  The figure ``grid`` shows originals over reconstructions, from the best SSIM to the worst.

    With a ``corruption`` the encoders read damaged images, and the clean ones are what the outputs are
    compared with: denoising.  ``given_psnr`` and ``given_ssim`` then say how near the damaged images were.

    Args:
        examples: images in the figure, evenly spaced over the order; 0 for none.
        corruption: a reference; its draws are those of a fixed seed.
        limit: dB, the largest PSNR that an image counts with.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self, examples: CountOrZero = 12, *, corruption: str | None = None, limit: Positive = 100.0
    ) -> None:
        super().__init__()
        self.examples, self.corruption, self.limit = examples, corruption, float(limit)

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Means over the data, and ``n``, how many images.

        Raises:
            BuildError: the model has no decoder, its output is no image, promises no range, or has fewer than 6 pixels
                a side.
        """
        span, damage = self._span(model), self._damage(model)
        columns: dict[str, list[Tensor]] = {}
        for number, batch in enumerate(batches(data, "comparing")):
            seen = _trio(model, batch, damage, number)
            compared = {"": seen.rebuilt} | ({} if damage is None else {"given_": seen.given})
            for name, made in compared.items():
                pair: dict[str, Any] = {
                    "preds": made,
                    "target": seen.original,
                    "data_range": span,
                    "reduction": "none",
                }
                noise = peak_signal_noise_ratio(**pair, dim=(1, 2, 3))
                columns.setdefault(f"{name}psnr", []).append(noise.clamp(max=self.limit))
                alike = structural_similarity_index_measure(**pair)
                assert isinstance(alike, Tensor)  # a pair only where its whole map is asked for
                columns.setdefault(f"{name}ssim", []).append(alike)
        found = {name: torch.cat(values) for name, values in columns.items()}
        means: dict[str, Any] = {name: float(value.double().mean()) for name, value in found.items()}
        means["n"] = len(found["ssim"])
        if self.examples:
            means["figures"] = {"grid": self._grid(model, data, damage, found["ssim"], span)}
        return means

    def _damage(self, model: Model) -> Corruption | None:
        if self.corruption is None or model.signature is None:
            return None
        return create("corruption", self.corruption, data=model.signature.reading(model.output))

    def _span(self, model: Model) -> tuple[float, float]:
        if model.signature is None:
            raise BuildError(
                "image-quality needs a model that was built with data=: it asks for the range of values"
            )
        field = model.signature[model.output]
        if field.kind != "image":
            raise BuildError(
                f"image-quality compares images, and the model's output {model.output!r} is {field.kind} data"
            )
        if field.range is None:
            raise BuildError(
                "image-quality needs to know which values are black and white, and the data promises no range: say "
                "range=(0, 1) in its signature"
            )
        height, width = (int(size or 0) for size in field.shape[:2])
        if min(height, width) < _WINDOW:
            raise BuildError(
                f"image-quality compares images of 6 x 6 pixels at least, and these have {height} x {width}"
            )
        return field.range

    def _grid(
        self, model: Model, data: Dataset, damage: Corruption | None, ssim: Tensor, span: tuple[float, float]
    ) -> Images:
        order = ssim.argsort(descending=True, stable=True)
        places = order[
            torch.linspace(0, len(order) - 1, min(self.examples, len(order))).round().long()
        ].tolist()
        size = session().batch
        kept: dict[int, Trio] = {}
        for number in sorted({place // size for place in places}):
            batch = data.batch(range(number * size, min(len(data), (number + 1) * size)))
            seen = _trio(model, batch, damage, number)
            kept.update({number * size + row: each for row, each in enumerate(seen.rows())})
        names = {"original": "original", "given": "given", "reconstruction": "rebuilt"}
        if damage is None:
            del names["given"]
        rows = {
            label: torch.stack([getattr(kept[place], name) for place in places]).clamp(*span).movedim(1, -1)
            for label, name in names.items()
        }
        return Images(
            title="Reconstructions",
            rows={label: row.contiguous().numpy() for label, row in rows.items()},
            span=span,
            caption=f"From the best SSIM ({float(ssim.max()):.2f}) to the worst ({float(ssim.min()):.2f}).",
        )


@dataclass(frozen=True)
class Trio:
    """Originals, what the encoders read, and reconstructions, (b c h w) each, float32, on the CPU."""

    original: Tensor
    given: Tensor
    rebuilt: Tensor

    def rows(self) -> Iterator[Trio]:
        """Each image's own."""
        for each in zip(self.original, self.given, self.rebuilt, strict=True):
            yield Trio(*each)


def _trio(model: Model, batch: dict[str, Tensor], damage: Corruption | None, number: int) -> Trio:
    """One batch's; ``number`` seeds its damage, so that a batch is damaged alike whenever it is read."""
    field, given = model.output, batch
    if damage is not None:
        generator = torch.Generator().manual_seed(number)
        given = {**batch, field: damage({"x": batch[field]}, generator)[0]["x"]}
    rebuilt = model.to_batch(model.score(given).decoded)[field]
    return Trio(*(x.float().movedim(-1, 1).contiguous().cpu() for x in (batch[field], given[field], rebuilt)))
