"""Rate and distortion of pictures by real bytes, beside standard codecs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le

from reprkit import Dataset, Evaluator, Field, Model
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import batches
from reprkit.interfaces import require
from reprkit.models.pictures import PictureCoder
from reprkit.registry.constraints import CountOrZero, Positive, strictly_ascending
from reprkit.reporting.figures import Curves, Images
from reprkit.utils.progress import track_progress
from reprkit_compress.evaluators.curves import Point, codec_points, psnr_at
from reprkit_compress.evaluators.quality import ms_ssim, psnr
from reprkit_compress.evaluators.standard_codecs import CODECS, available
from reprkit_compress.rates import at_rate, rates_of

Qualities = Annotated[tuple[Annotated[int, Ge(0), Le(100)], ...], strictly_ascending]


class RateDistortion(Evaluator):
    """Bytes of ``compress_picture`` and the errors of what they decode to, beside JPEG, WebP and AVIF (Pillow).

    Values are rounded to 8 bits before they are compared.  At each rate of the model (see ``reprkit_compress.rates``; one, where
    it has no others), mean over pictures:

    - ``bpp``: bits per pixel of the whole string; ``payload_bpp``: without reprkit's header.
    - ``psnr``: dB, over all channels; ``ms_ssim``, of pictures from 176 pixels a side.
    - ``jpeg_gain_db``: PSNR above that of JPEG in as many bytes, all headers counted; so ``webp_gain_db`` and ``avif_gain_db``.
      The codec's PSNR is interpolated between its qualities in the logarithm of the bytes, picture by picture; ``jpeg_compared`` is
      the share of pictures whose bytes lie within its curve, and only these count.  JPEG is optimized, and the best at each size
      of 4:2:0 and 4:4:4, baseline and progressive.

    With several rates the names end in the rate, ``psnr@0.5``, and ``jpeg_gain_db`` without one is the least of all.  The figure
    ``curve`` shows all curves, and ``pictures`` the middle of the first pictures.

    Args:
        qualities: of the standard codecs.
        codecs: those beside the model.
        rates: of the model; () for all that it has.
        examples: number of pictures in the figure; 0 for none.

    Raises:
        PartArgumentError: an argument out of its range, an unknown codec, or one that Pillow was built without.
    """

    def __init__(
        self,
        qualities: Qualities = (2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 86, 91, 95),
        *,
        codecs: tuple[str, ...] = CODECS,
        rates: tuple[Positive, ...] = (),
        examples: CountOrZero = 3,
    ) -> None:
        super().__init__()
        require(len(qualities) > 1, "rate-distortion compares curves: give at least two qualities")
        for codec in codecs:
            require(codec in CODECS, f"no codec {codec!r}; there are: {', '.join(CODECS)}")
            require(available(codec), f"Pillow was built without {codec}: leave it out, codecs=('jpeg',)")
        self.qualities, self.codecs, self.rates, self.examples = qualities, codecs, rates, examples

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above, and ``n``, the number of pictures.

        Raises:
            BuildError: the model reads or returns no images with a range, or a latent writes no bytes.
        """
        field = _picture_field(model)
        pictures = [
            to_8_bit(each, field) for batch in batches(data, "reading") for each in batch[model.output]
        ]
        return self.measure(model, pictures)

    @torch.no_grad()
    def measure(
        self, models: Model | Mapping[float, Model], pictures: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        """Return the metrics of pictures (h w c) of uint8, which may have any sizes.

        Args:
            models: a model, or one for each rate (``reprkit_compress.rates.with_step``), by a number that names it.
            pictures: at least one.

        Raises:
            BuildError: as ``forward``.
        """
        curves = {
            codec: [codec_points(each, codec, self.qualities) for each in pictures] for codec in self.codecs
        }
        found: dict[str, Any] = {}
        line: list[dict[str, float]] = []
        shown = None
        for rate, model in self._at_rates(models):
            field, coder = _picture_field(model), PictureCoder(model)  # this rate's
            points, decoded = list[Point](), list[np.ndarray]()
            for each in track_progress(pictures, "compressing"):
                point, back = _code(coder, field, each)
                points.append(point)
                decoded += [back] if shown is None and len(decoded) < self.examples else []
            means = _means(points, [each.shape[0] * each.shape[1] for each in pictures])
            for codec, its in curves.items():
                means |= _gain(codec, points, its)
            line.append(means)
            found |= means if rate is None else {f"{name}@{rate:g}": value for name, value in means.items()}
            if self.examples and shown is None:
                shown = _pictures(pictures[: self.examples], decoded)
        if len(line) > 1:
            for codec in self.codecs:
                gains = [means[f"{codec}_gain_db"] for means in line if f"{codec}_gain_db" in means]
                found |= {f"{codec}_gain_db": min(gains)} if gains else {}
        found["n"] = len(pictures)
        found["figures"] = {"curve": _curve(line, curves, pictures)} | ({"pictures": shown} if shown else {})
        return found

    def _at_rates(self, models: Model | Mapping[float, Model]) -> Iterator[tuple[float | None, Model]]:
        if isinstance(models, Mapping) and len(models) > 1:
            yield from models.items()
            return
        if isinstance(models, Mapping):
            (models,) = models.values()
        rates: tuple[float | None, ...] = self.rates or rates_of(models) or (None,)
        for rate in rates:
            with at_rate(models, rate):
                yield rate, models


def to_8_bit(values: torch.Tensor | np.ndarray, field: Field) -> np.ndarray:
    """Round values (h w c) in the field's range to uint8."""
    low, high = field.range or (0.0, 1.0)
    array = np.asarray(torch.as_tensor(values).float().cpu())
    return ((array - low) / (high - low) * 255).clip(0, 255).round().astype(np.uint8)


def measured_rates(found: Mapping[str, Any]) -> str:
    """Return what ``measure`` found as a table, one line for each rate; shares that were compared where some are below 1."""
    part = [name for name, value in found.items() if "_compared" in name and value < 1]
    compared = [f"{codec}_compared" for codec in CODECS if any(name.startswith(codec) for name in part)]
    columns = ("bpp", "payload_bpp", "psnr", "ms_ssim", *(f"{codec}_gain_db" for codec in CODECS), *compared)
    names = [name for name in columns if any(key == name or key.startswith(f"{name}@") for key in found)]
    rates = [key.partition("@")[2] for key in found if key.startswith("bpp@")] or [""]
    rows = [["rate", *names]]
    for rate in rates:
        values = [found.get(f"{name}@{rate}" if rate else name) for name in names]
        rows.append([rate or "-", *("-" if value is None else f"{value:.3f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


def _code(coder: PictureCoder, field: Field, picture: np.ndarray) -> tuple[Point, np.ndarray]:
    string = coder.compress(picture)
    decoded = to_8_bit(coder.decompress(string), field)
    point = Point(len(string), coder.payload_size(string), psnr(decoded, picture), ms_ssim(decoded, picture))
    return point, decoded


def _picture_field(model: Model) -> Field:
    for name, factor in model.factors.items():
        if not factor.latent.writes:
            raise BuildError(
                f"rate-distortion needs codes that are written as bytes, and latent {factor.latent.qualified} of factor {name} is "
                "continuous: use a discrete latent or a codec"
            )
    field = model.output_field
    if field.kind != "image" or field.range is None:
        raise BuildError(
            "rate-distortion needs a model that returns images of a known range, and its output is "
            f"{field.kind} data" + (" without range=" if field.range is None else "")
        )
    return field


def _means(points: Sequence[Point], pixels: Sequence[int]) -> dict[str, float]:
    means = {
        "bpp": float(np.mean([8 * point.bytes / n for point, n in zip(points, pixels, strict=True)])),
        "payload_bpp": float(
            np.mean([8 * point.payload / n for point, n in zip(points, pixels, strict=True)])
        ),
        "psnr": float(np.mean([point.psnr for point in points])),
    }
    similar = [point.ms_ssim for point in points if point.ms_ssim is not None]
    return means | ({"ms_ssim": float(np.mean(similar))} if similar else {})


def _gain(codec: str, points: Sequence[Point], curves: Sequence[Sequence[Point]]) -> dict[str, float]:
    beside = [psnr_at(curve, point.bytes) for curve, point in zip(curves, points, strict=True)]
    gains = [point.psnr - value for point, value in zip(points, beside, strict=True) if value is not None]
    shares = {f"{codec}_compared": len(gains) / len(points)}
    return shares | ({f"{codec}_gain_db": float(np.mean(gains))} if gains else {})


def _curve(
    line: Sequence[dict[str, float]],
    curves: dict[str, list[list[Point]]],
    pictures: Sequence[np.ndarray],
) -> Curves:
    """Mean PSNR over mean bits per pixel: the model at its rates, each codec at the sizes that it reaches in all pictures."""
    lines: dict[str, tuple[list[float], list[float]]] = {}
    order = sorted(line, key=lambda means: means["bpp"])
    lines["model"] = [means["bpp"] for means in order], [means["psnr"] for means in order]
    pixels = np.array([each.shape[0] * each.shape[1] for each in pictures])
    for codec, its in curves.items():
        least = max(8 * curve[0].bytes / n for curve, n in zip(its, pixels, strict=True))
        most = min(8 * curve[-1].bytes / n for curve, n in zip(its, pixels, strict=True))
        if most <= least:
            continue
        rates = np.geomspace(least * 1.001, most * 0.999, 24)
        values = [
            [psnr_at(curve, round(rate * n / 8)) for curve, n in zip(its, pixels, strict=True)]
            for rate in rates
        ]
        rows = [[value for value in row if value is not None] for row in values]
        kept = [(rate, row) for rate, row in zip(rates, rows, strict=True) if len(row) == len(pictures)]
        lines[codec] = [float(rate) for rate, _ in kept], [float(np.mean(row)) for _, row in kept]
    return Curves(
        title="Rate and distortion",
        lines=lines,
        xlabel="bits per pixel, header counted",
        ylabel="PSNR, dB",
        caption=f"Mean over {len(pictures)} pictures; each codec at its best options.",
        wide=True,
        size=(5.2, 3.2),
    )


def _pictures(pictures: Sequence[np.ndarray], decoded: Sequence[np.ndarray]) -> Images:
    side = min(min(each.shape[:2]) for each in pictures)
    rows = {"original": pictures, "model": decoded}
    return Images(
        title="Decoded pictures",
        rows={
            name: np.stack([_middle(each, side) for each in row]).astype(np.float32) / 255
            for name, row in rows.items()
        },
        span=(0.0, 1.0),
        caption="The middle of each picture, at the first rate.",
    )


def _middle(picture: np.ndarray, side: int) -> np.ndarray:
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]
