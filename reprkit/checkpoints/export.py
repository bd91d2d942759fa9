"""``rk.export``: export the encoder as a graph that runs without reprkit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprkit.errors import BuildError, CheckpointError
from reprkit.interfaces import require
from reprkit.models.factor import masked_mean
from reprkit.registry.discovery import own_version
from reprkit.utils.atomic_files import explain_os_error, replace_file, require_absent
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from reprkit.models.model import Model
    from reprkit.types import Batch, Code

SUFFIX = ".pt2"
ABOUT = "about.json"  # the extra file inside the exported program
_SIZE = 3  # batch size for tracing; a size of 1 would become a constant
_FIELDS = ("z", "indices", "mask")  # of a Code, if not None


class ExportedEncoder(nn.Module):
    """The mapping from a batch to plain tensors: ``representation`` (b d), ``z`` (b n d), ``indices`` (b n q), ``mask`` (b n).

    With several factors the last three are called ``FACTOR.z`` and so on.  The representation equals ``model.represent``.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.factors = model.factors

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode a batch in evaluation mode."""
        codes = {name: _encode(factor, batch) for name, factor in self.factors.items()}
        vectors = [masked_mean(code.z, code.mask) for code in codes.values()]
        outputs = {"representation": torch.cat(vectors, -1)}
        for name, code in codes.items():
            prefix = f"{name}." if len(codes) > 1 else ""
            fields = {prefix + field: getattr(code, field) for field in _FIELDS}
            outputs.update({field: value for field, value in fields.items() if value is not None})
        return outputs


def _encode(factor: Any, batch: Mapping[str, Tensor]) -> Code:
    """Return ``factor(batch)`` without its autocast context, which an exported program cannot contain."""
    features = factor.features(batch)
    with factor.latent.error_context(f", factor {factor.name}"):
        return factor.latent(replace(features, x=features.x.float()))


def export(
    model: Model,
    path: str | Path | None = None,
    *,
    batch: Batch | None = None,
    length: int = 64,
    overwrite: bool = False,
) -> ExportedProgram:
    """Export the encoder, adapters and latents of a model as a ``torch.export`` program, in evaluation mode.

    ::

        rk.export(model, "encoder.pt2")

        import torch                                            # elsewhere, without reprkit
        encode = torch.export.load("encoder.pt2").module()
        found = encode({"x": images})                           # {"representation": (b d), "z": (b n d), "indices": (b n q)}

    The program takes a dict of the fields that the encoders read and returns plain tensors, see ``ExportedEncoder``.  The batch
    size is dynamic.  So is the length of variable-length data, unless the encoder's graph is unrolled over steps (gru): then it is
    ``length``, and shorter examples must be padded and masked to it.  The batch is not checked, and it must be on the device that
    the model was on.

    Args:
        model: the model to export; it is not changed.
        path: file to write the program to with ``torch.export.save``, ``.pt2``; ``about.json`` inside it lists inputs, outputs
            and versions.  None writes no file.
        batch: examples for tracing, at least two; required only for a model built without ``data=``.
        length: length of the traced examples, at least 2, for variable-length data.
        overwrite: whether to replace the file if it exists.

    Raises:
        CheckpointError: the file exists and is not to be replaced, or cannot be written, or has another suffix; ONNX is written by
            ``reprkit.checkpoints.onnx_export.export_onnx``.
        BuildError: the model has no encoder, a batch is needed, or a part's computation depends on the values of the data.
        PartArgumentError: ``length`` is below 2, or the batch has only one example.
    """
    if path is not None and Path(path).suffix.lower() != SUFFIX:
        raise CheckpointError(
            f"a torch.export program is written to {SUFFIX}, not to {str(path)!r}\n"
            "  ONNX: reprkit export MODEL FILE.onnx, or reprkit.checkpoints.onnx_export.export_onnx"
        )
    if path is not None:
        require_absent(path, overwrite, CheckpointError)
    program, outputs, _ = trace_encoder(model, batch=batch, length=length)
    if path is not None:
        _write(program, Path(path), _about(program, outputs))
    return program


def trace_encoder(
    model: Model, *, batch: Batch | None = None, length: int = 64
) -> tuple[ExportedProgram, dict[str, Tensor], dict[str, Tensor]]:
    """Return the program of ``export``, its outputs for the traced examples, and these examples; errors as there."""
    if not model.factors:
        raise BuildError("this model has no encoder, so there is nothing to export")
    require(length >= 2, f"length must be at least 2, not {length}")
    example = _example(model, batch, length)
    free: dict[str, dict[int, Any]] = {
        name: {
            0: torch.export.Dim.DYNAMIC,
            **{axis: torch.export.Dim.AUTO for axis in _varying(model, name)},
        }
        for name in example
    }
    try:
        encoding = ExportedEncoder(model)
        with eval_mode(encoding), torch.no_grad(), warnings.catch_warnings():
            # nn.GRU assigns its list of weights while it is traced, and restores it.
            warnings.filterwarnings("ignore", message="The tensor attributes? .* assigned during export")
            outputs = encoding(example)
            program = torch.export.export(encoding, (example,), dynamic_shapes=(free,))
    except Exception as error:
        raise BuildError(_explain_failure(error)) from error
    return program, outputs, example


def _example(model: Model, batch: Batch | None, length: int) -> dict[str, Tensor]:
    """Return the fields that the encoders read, with their masks, on the model's device."""
    if batch is None:
        if model.signature is None:
            raise BuildError("this model was built without data=: pass rk.export a batch= to trace with")
        batch = model.signature.example(_SIZE, length)
    fields = [name for factor in model.factors.values() for name in (factor.input, f"{factor.input}_mask")]
    for name in fields[::2]:
        if name not in batch:
            raise BuildError(f"a factor reads field {name!r}; the batch has {', '.join(batch)}")
        require(
            len(batch[name]) >= 2,
            "batch= needs at least two examples: the size of a batch of one becomes a constant",
        )
    return {name: batch[name].to(model.device) for name in dict.fromkeys(fields) if name in batch}


def _varying(model: Model, name: str) -> list[int]:
    """Return the axes of a field, except the first, whose size varies."""
    masked = name.endswith("_mask")
    if model.signature is None:  # then only a mask shows that lengths vary
        return [1] if masked else []
    shape = model.signature[name.removesuffix("_mask") if name not in model.signature else name].shape
    if name not in model.signature:
        return [1]
    return [axis + 1 for axis, size in enumerate(shape) if size is None]


def _explain_failure(error: Exception) -> str:
    where = "; ".join(getattr(error, "__notes__", ()))
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (
        f"this model cannot be exported: {type(error).__name__}: {first}{where and f' ({where})'}\n"
        "  most likely a part depends on values (if, .item(), a loop over them) or on the batch size;\n"
        "  it can use torch.compiler.is_exporting() to choose a traceable computation"
    )


def _about(program: ExportedProgram, outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the inputs with their shapes (null: dynamic), and the names of the outputs."""
    inputs = program.graph_signature.user_inputs
    sizes = {
        node.name: [size if isinstance(size, int) else None for size in node.meta["val"].shape]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs
    }
    return {
        "reprkit": own_version(),
        "torch": torch.__version__,
        "inputs": {name.removeprefix("batch_"): shape for name, shape in sizes.items()},
        "outputs": list(outputs),
    }


def _write(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    """Write the program atomically."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            torch.export.save(program, file, extra_files={ABOUT: json.dumps(about, indent=1) + "\n"})
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {explain_os_error(error)}") from error
