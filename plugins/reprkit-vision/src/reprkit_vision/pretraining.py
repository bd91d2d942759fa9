"""Encoders trained without labels by one objective or another: the parts of each model, and the fields that it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import reprkit as rk
from reprkit import Dataset
from reprkit.data import Arrays
from reprkit.errors import DataError
from reprkit_vision.colorable import colorable
from reprkit_vision.halves import divide, group_names


def join_pictures(*parts: Dataset) -> Dataset:
    """Return the pictures of data sets, field ``x``, one after the other, without labels.

    Raises:
        DataError: their pictures have different sizes, kinds or ranges.
    """
    fields = [part.signature["x"] for part in parts]
    if len({(field.kind, field.shape, field.range) for field in fields}) > 1:
        found = " and ".join(f"{field.kind} {field.shape} in {field.range}" for field in fields)
        raise DataError(f"pictures that are joined must be alike, and these are {found}: give them one size=")
    x = torch.cat([part.batch(range(len(part)))["x"] for part in parts])
    return Arrays({"x": x}, kinds={"x": fields[0].kind}, ranges={"x": fields[0].range})


def plan_pretraining(
    objective: str,
    data: Dataset,
    *,
    encoder: str,
    latent: str,
    decoder: str,
    classes: str = "conv(width=32, depth=0)",
    side: int = 2,
) -> tuple[dict[str, Any], Callable[[Dataset], Dataset]]:
    """Return the arguments of ``rk.build`` for an objective, and a function from pictures to what its model reads.

    Args:
        objective: a reference; "split-brain" for two halves that predict each other's classes (Zhang et al. 2017, arXiv
            1611.09842); with "colorization" the encoder reads the lightness (Zhang et al. 2016, arXiv 1603.08511).
        data: pictures, field ``x``.
        encoder: of each factor.
        latent: of each factor.
        decoder: of pictures, for objectives that need one.
        classes: decoder of maps of classes.
        side: pixels of a side of the squares of a class.

    Raises:
        DataError: pictures that have no halves or no colors.
    """
    if objective == "split-brain":
        one, two = group_names(divide(data.subset([0]), side))
        return {
            "factors": {name: rk.factor(encoder, latent, input=name) for name in (one, two)},
            "decoder": {
                f"{one}_classes": rk.output(classes, reads=two),
                f"{two}_classes": rk.output(classes, reads=one),
            },
        }, lambda each: divide(each, side)
    if objective.partition("(")[0] == "colorization":
        size = int(data.signature["x"].shape[0] or 0)
        return {
            "factors": {"code": rk.factor(encoder, latent, input="lightness")},
            "decoder": {"color_classes": rk.output(classes)},
            "objective": objective,
        }, lambda each: colorable(each, size=size, side=side)
    part = rk.create("objective", objective)
    networks: dict[str, Any] = {"encoder": encoder, "latent": latent, "objective": part}
    if "decoder" in part.needs:
        networks["decoder"] = decoder
    return networks, lambda each: each
