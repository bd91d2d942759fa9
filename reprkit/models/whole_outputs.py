"""Outputs of a model for a whole data set, its strings of bytes, or drawn codes, as arrays in the data's own layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reprkit.errors import BuildError
from reprkit.models.code_header import is_picture
from reprkit.models.exchange import decoded_to
from reprkit.models.isolation import isolate
from reprkit.models.model_input import PictureFiles
from reprkit.models.pictures import PictureCoder
from reprkit.models.symbol_coding import codes_data
from reprkit.utils.progress import track_progress

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.types import Codes, Decoded


@torch.no_grad()
def reconstruct_dataset(
    model: Model,
    data: Dataset,
    *,
    output: str | None = None,
    batch: int = 256,
    seed: int = 0,
    progress: bool | None = None,
) -> list[np.ndarray]:
    """Encode and decode each example; return the outputs in the field's layout, without padding.

    A causal decoder takes the most likely value step by step, without looking at the data.  Real values are cut to the field's
    range.

    Args:
        model: a model with a decoder that returns the data.
        data: examples that fit the model.
        output: the output, where there are several.
        batch: examples at a time.
        seed: of random draws, where a latent draws in evaluation.
        progress: as in ``rk.evaluate``.

    Raises:
        BuildError: no decoder, several outputs and none named, or an objective whose decoder returns something else.
        DataError: data that does not fit the model.
    """
    model.require_decoded_data()
    to = model.get_output(output)
    found: list[np.ndarray] = []
    starts = range(0, len(data), batch)
    with isolate(model, seed) as reseed:
        for start in track_progress(starts, "reconstructing", show=progress):
            reseed()  # so that the draws do not depend on the batches before
            rows = data.batch(range(start, min(start + batch, len(data))))
            codes = model.encode(rows, factors=to.reads)
            mask = rows.get(f"{to.field_name}_mask")
            steps = None if mask is None or to.field.kind == "vector" else mask.sum(-1).tolist()
            length = to.length(rows) if to.field_name in rows else None
            found += examples_of(model, decode_codes(model, codes, length, output), output, steps)
    return found


def compress_examples(
    model: Model, data: Dataset, *, slots: int | None = None, batch: int = 256, progress: bool | None = None
) -> list[bytes]:
    """Compress each example; picture files keep their own sizes.  ``decompress_examples`` reads the strings.

    Args:
        model: as in ``model.compress``, or for picture files in ``compress_picture``.
        data: of ``model_input``, at least one example.
        slots: as in ``model.compress``.
        batch: examples at a time.
        progress: as in ``rk.evaluate``.

    Raises:
        PartArgumentError, BuildError, DataError: as ``model.compress`` and ``compress_picture``.
    """
    if isinstance(data, PictureFiles):
        coder = PictureCoder(model)
        files = track_progress(data.files, "compressing", show=progress)
        return [coder.compress(file, slots=slots) for file in files]
    strings: list[bytes] = []
    for start in track_progress(range(0, len(data), batch), "compressing", show=progress):
        strings += model.compress(data.batch(range(start, min(start + batch, len(data)))), slots=slots)
    return strings


@torch.no_grad()
def decompress_examples(
    model: Model,
    strings: Sequence[bytes],
    *,
    output: str | None = None,
    batch: int = 256,
    progress: bool | None = None,
) -> list[np.ndarray]:
    """Decode the strings of ``model.compress`` or ``compress_picture``; return the outputs in the field's layout, one an example.

    Args:
        model: the model that wrote them.
        strings: one for each example.
        output: the output, where there are several.
        batch: examples at a time.
        progress: as in ``rk.evaluate``.

    Raises:
        CompressionError: a string is damaged, or of another model.
        BuildError: as ``reconstruct_dataset``.
    """
    model.require_decoded_data()
    found: list[np.ndarray] = []
    if any(map(is_picture, strings)):
        coder = PictureCoder(model)
        for number, string in enumerate(track_progress(strings, "decompressing", show=progress)):
            found.append(coder.decompress(string, output=output, number=number))
        return found
    with isolate(model, 0):
        for start in track_progress(range(0, len(strings), batch), "decompressing", show=progress):
            codes = model.decompress(strings[start : start + batch])
            if codes_data(model):
                found += _data_of(codes)
                continue
            code = next(iter(codes.values()))
            steps = None if code.mask is None or code.length is None else _steps(code.mask, code.length)
            found += examples_of(model, decode_codes(model, codes, code.length, output), output, steps)
    return found


def _data_of(batch: dict[str, Tensor]) -> list[np.ndarray]:
    """Return the symbols of each example, without padding."""
    rows, mask = batch["x"].cpu().numpy(), batch.get("x_mask")
    return (
        list(rows)
        if mask is None
        else [row[: int(valid.sum())] for row, valid in zip(rows, mask, strict=True)]
    )


def _steps(mask: Tensor, length: int) -> list[int]:
    """Return the number of steps of each example whose valid tokens are marked (b n); a token stands for ``length / n`` steps."""
    per_token = -(-length // mask.shape[1])
    return [min(length, int(count) * per_token) for count in mask.sum(1).tolist()]


def decode_codes(model: Model, codes: Codes, length: int | None = None, output: str | None = None) -> Decoded:
    """Decode codes; a causal decoder generates the most likely values step by step."""
    if "causal" in model.get_decoder(output).provides:
        return model.generate(codes, length=length, temperature=0.0, output=output)
    return model.decode(codes, length=length, output=output)


def examples_of(
    model: Model, decoded: Decoded, output: str | None = None, lengths: list[int] | None = None
) -> list[np.ndarray]:
    """Return one array for each example, in the field's layout and range (see ``values_to``), cut to ``lengths`` steps.

    Raises:
        BuildError: the decoder has no point estimate.
    """
    if not decoded.has_point:
        raise BuildError(
            "this decoder gives a likelihood without a point estimate, so there are no values to write"
        )
    rows = decoded_to(model, decoded, "numpy", output)
    return [row[: None if lengths is None else lengths[index]] for index, row in enumerate(rows)]


@torch.no_grad()
def sample_arrays(
    model: Model,
    size: int,
    *,
    seed: int = 0,
    output: str | None = None,
    batch: int = 256,
    progress: bool | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """Sample new examples; return them in the field's layout.

    Args:
        model: a model that can sample: see ``model.sample``.
        size: number of examples.
        seed: of the draws.
        output: the output, where there are several.
        batch: examples at a time, which changes the draws.
        progress: as in ``rk.evaluate``.
        options: of ``model.sample``, such as ``prior=`` and ``temperature=``.
    """
    named = {} if output is None else {"output": output}
    generator = torch.Generator(model.device).manual_seed(seed)
    found: list[np.ndarray] = []
    with isolate(model, seed):
        for count in track_progress(list(_sizes(size, batch)), "sampling", show=progress):
            found += examples_of(model, model.sample(count, generator, **options, **named), output)
    return found


def _sizes(size: int, batch: int) -> Iterator[int]:
    for start in range(0, size, batch):
        yield min(batch, size - start)
