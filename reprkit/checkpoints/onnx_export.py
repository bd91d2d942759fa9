"""Export the encoder as an ONNX graph, which onnxruntime and other programs run without Python's torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reprkit.checkpoints.export import trace_encoder
from reprkit.errors import BuildError, CheckpointError
from reprkit.utils.atomic_files import explain_os_error, require_absent, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit.models.model import Model
    from reprkit.types import Batch

SUFFIX = ".onnx"
_TOLERANCE = 1e-4  # of the difference, relative to the largest output


@dataclass(frozen=True)
class OnnxFile:
    """What was written.

    Attributes:
        inputs: their names, the fields of a batch.
        outputs: their names: "representation" (b d), "z", "indices", "mask"; see ``rk.export``.
        largest_difference: from torch, over all real outputs for random examples, in onnxruntime; None if that is not installed.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    largest_difference: float | None


def export_onnx(
    model: Model,
    path: str | Path,
    *,
    batch: Batch | None = None,
    length: int = 64,
    overwrite: bool = False,
) -> OnnxFile:
    """Write encoder, adapters and latents as ONNX, and compare with torch in onnxruntime where it is installed.

    The inputs are the fields that the encoders read; the size of a batch is dynamic.  See ``rk.export`` for outputs and lengths.

    Args:
        model: the model to export; it is not changed.
        path: the file, ``.onnx``.
        batch: examples for tracing, at least two; required only for a model built without ``data=``.
        length: length of the traced examples, for variable-length data.
        overwrite: whether to replace the file if it exists.

    Raises:
        CheckpointError: another suffix, the file exists and is not to be replaced or cannot be written, onnxscript is not
            installed, or the graph's outputs differ.
        BuildError: as for ``rk.export``, or an operation that ONNX does not have.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise CheckpointError(f"an ONNX graph is written to {SUFFIX}, not to {str(path)!r}")
    require_absent(path, overwrite, CheckpointError)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CheckpointError("ONNX is written by onnxscript: pip install 'reprkit[onnx]'") from error
    program, outputs, example = trace_encoder(model, batch=batch, length=length)
    names = list(outputs)
    content = _convert(program, list(example), names)
    difference = _compare(content, example, outputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {explain_os_error(error)}") from error
    return OnnxFile(path, tuple(example), tuple(names), difference)


def _convert(program: Any, inputs: list[str], outputs: list[str]) -> bytes:
    """Return the ONNX graph; the exporter's own messages are not shown."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                program, (), dynamo=True, input_names=inputs, output_names=outputs, verbose=False
            )
            assert converted is not None
            content: bytes = converted.model_proto.SerializeToString()
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise BuildError(
            f"this model cannot be written as ONNX: {type(error).__name__}: {first}\n"
            "  most likely one of its operations has no counterpart there; a torch.export program: reprkit export MODEL FILE.pt2"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    return content


def _compare(content: bytes, example: dict[str, Tensor], outputs: dict[str, Tensor]) -> float | None:
    """Run the graph in onnxruntime; return the largest difference of a real output.

    Raises:
        CheckpointError: it cannot be run, or its outputs are others.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        given = dict(zip([each.name for each in session.get_inputs()], example.values(), strict=True))
        found = session.run(None, {name: value.cpu().numpy() for name, value in given.items()})
    except Exception as error:
        raise CheckpointError(f"onnxruntime cannot run the exported graph: {error}") from error
    largest = 0.0
    for value, (name, expected) in zip(found, outputs.items(), strict=True):
        wanted = expected.cpu().numpy()
        if wanted.dtype.kind != "f":
            same = value.shape == wanted.shape and np.array_equal(value, wanted)
            difference, allowed = (0.0 if same else np.inf), 0.0
        else:
            difference = (
                float(np.abs(value - wanted).max(initial=0.0)) if value.shape == wanted.shape else np.inf
            )
            allowed = _TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
            largest = max(largest, difference)
        if not difference <= allowed:
            raise CheckpointError(
                f"the exported graph computes another {name} than the model: they differ by {difference:.3g}; nothing was written"
            )
    return largest
