"""Perceptual quality of reconstructed images: PSNR and SSIM."""

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

_MIN_SIDE = 6  # pixels that SSIM's window of 11, mirrored at the border, needs


class ImageQuality(Evaluator):
    """PSNR and SSIM of each image's reconstruction, averaged over images; torchmetrics computes both.

    ``psnr``: 10 log10(range² / mse) in dB, capped at ``limit``, so that an exactly reconstructed image counts as
    ``limit``.  ``ssim``: structural similarity with a Gaussian window of 11 (Wang et al. 2004, IEEE TIP
    13(4)), at most 1.  Both use the range of the data's signature and clip outputs to it, as a screen
    would.  The figure ``grid`` shows originals above reconstructions, from the best SSIM to the worst.

    With a ``corruption`` the encoders read corrupted images, and the outputs are compared with the clean ones:
    denoising.  ``given_psnr`` and ``given_ssim`` are then those of the corrupted images.

    Args:
        examples: number of images in the figure, evenly spaced over the ranking; 0 for none.
        corruption: a reference to a corruption, which is applied with a fixed seed.
        limit: the largest PSNR of an image, in dB.

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
        """Means over the data, and ``n``, the number of images.

        Raises:
            BuildError: the model has no decoder, or its output is no image, has no range, or has fewer than 6 pixels
                a side.
        """
        value_range, corruption = self._range(model), self._make_corruption(model)
        columns: dict[str, list[Tensor]] = {}
        for number, batch in enumerate(batches(data, "comparing")):
            images = _reconstruct(model, batch, corruption, number)
            compared = {"": images.reconstruction} | ({} if corruption is None else {"given_": images.given})
            for prefix, image in compared.items():
                options: dict[str, Any] = {
                    "preds": image,
                    "target": images.original,
                    "data_range": value_range,
                    "reduction": "none",
                }
                psnr = peak_signal_noise_ratio(**options, dim=(1, 2, 3))
                columns.setdefault(f"{prefix}psnr", []).append(psnr.clamp(max=self.limit))
                ssim = structural_similarity_index_measure(**options)
                assert isinstance(ssim, Tensor)  # a tuple only if the full map is asked for
                columns.setdefault(f"{prefix}ssim", []).append(ssim)
        values = {name: torch.cat(parts) for name, parts in columns.items()}
        means: dict[str, Any] = {name: float(value.double().mean()) for name, value in values.items()}
        means["n"] = len(values["ssim"])
        if self.examples:
            means["figures"] = {"grid": self._grid(model, data, corruption, values["ssim"], value_range)}
        return means

    def _make_corruption(self, model: Model) -> Corruption | None:
        if self.corruption is None or model.signature is None:
            return None
        return create("corruption", self.corruption, data=model.signature.reading(model.output))

    def _range(self, model: Model) -> tuple[float, float]:
        if model.signature is None:
            raise BuildError(
                "image-quality needs a model that was built with data=: it uses the range of values"
            )
        field = model.signature[model.output]
        if field.kind != "image":
            raise BuildError(
                f"image-quality compares images, and the model's output {model.output!r} is {field.kind} data"
            )
        if field.range is None:
            raise BuildError(
                "image-quality needs to know which values are black and white, and the data has no range: give "
                "range=(0, 1) in its signature"
            )
        height, width = (int(size or 0) for size in field.shape[:2])
        if min(height, width) < _MIN_SIDE:
            raise BuildError(
                f"image-quality compares images of at least 6 x 6 pixels, and these have {height} x {width}"
            )
        return field.range

    def _grid(
        self,
        model: Model,
        data: Dataset,
        corruption: Corruption | None,
        ssim: Tensor,
        value_range: tuple[float, float],
    ) -> Images:
        order = ssim.argsort(descending=True, stable=True)
        indices = order[
            torch.linspace(0, len(order) - 1, min(self.examples, len(order))).round().long()
        ].tolist()
        size = session().batch
        shown: dict[int, Reconstructions] = {}
        for number in sorted({index // size for index in indices}):
            batch = data.batch(range(number * size, min(len(data), (number + 1) * size)))
            images = _reconstruct(model, batch, corruption, number)
            shown.update({number * size + row: image for row, image in enumerate(images.rows())})
        names = (
            ["original", "reconstruction"] if corruption is None else ["original", "given", "reconstruction"]
        )
        rows = {
            name: torch.stack([getattr(shown[i], name) for i in indices]).clamp(*value_range).movedim(1, -1)
            for name in names
        }
        return Images(
            title="Reconstructions",
            rows={name: row.contiguous().numpy() for name, row in rows.items()},
            span=value_range,
            caption=f"From the best SSIM ({float(ssim.max()):.2f}) to the worst ({float(ssim.min()):.2f}).",
        )


@dataclass(frozen=True)
class Reconstructions:
    """Originals, the encoders' inputs (given), and reconstructions, (b c h w) each, float32, on the CPU."""

    original: Tensor
    given: Tensor
    reconstruction: Tensor

    def rows(self) -> Iterator[Reconstructions]:
        """Yield those of each image."""
        for images in zip(self.original, self.given, self.reconstruction, strict=True):
            yield Reconstructions(*images)


def _reconstruct(
    model: Model, batch: dict[str, Tensor], corruption: Corruption | None, number: int
) -> Reconstructions:
    """Reconstruct a batch; ``number`` seeds the corruption, so that a batch is corrupted alike each time."""
    field, given = model.output, batch
    if corruption is not None:
        generator = torch.Generator().manual_seed(number)
        given = {**batch, field: corruption({"x": batch[field]}, generator)[0]["x"]}
    output = model.to_batch(model.score(given, in_range=corruption is None).decoded)[field]
    images = (batch[field], given[field], output)
    return Reconstructions(*(x.float().movedim(-1, 1).contiguous().cpu() for x in images))
