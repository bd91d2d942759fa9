"""``rk.export``: the encoder as a graph that runs where reprkit is not installed."""

from __future__ import annotations

import json
import secrets
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

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from reprkit.models.model import Model
    from reprkit.types import Batch, Code

ABOUT = "about.json"  # the extra file in what ``torch.export.save`` writes
_SIZE = 3  # examples in the batch that is traced: 1 would become a constant
_FIELDS = ("z", "indices", "mask")  # of a code, where it has them


class ExportedEncoder(nn.Module):
    """A model's way from a batch to plain tensors: ``representation`` (b d), ``z`` (b n d), ``indices`` (b n q), ``mask`` (b n).

    With several factors the last three are called ``FACTOR.z``, ...; the representation is that of ``model.represent``.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.factors = model.factors

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The codes of a batch, in evaluation."""
        codes = {name: _code(path, batch) for name, path in self.factors.items()}
        vectors = [masked_mean(code.z, code.mask) for code in codes.values()]
        found = {"representation": torch.cat(vectors, -1)}
        for name, code in codes.items():
            prefix = f"{name}." if len(codes) > 1 else ""
            given = {prefix + field: getattr(code, field) for field in _FIELDS}
            found.update({field: value for field, value in given.items() if value is not None})
        return found


def _code(path: Any, batch: Mapping[str, Tensor]) -> Code:
    """What ``path(batch)`` gives, without its autocast block, which a saved program cannot hold."""
    features = path.features(batch)
    with path.latent.error_context(f", factor {path.name}"):
        return path.latent(replace(features, x=features.x.float()))


def export(
    model: Model, path: str | Path | None = None, *, batch: Batch | None = None, length: int = 64
) -> ExportedProgram:
    """The encoder, adapters and latents of a model as a ``torch.export`` program, in evaluation mode.

    ::

        rk.export(model, "encoder.pt2")

        import torch                                            # elsewhere; no reprkit there
        encode = torch.export.load("encoder.pt2").module()
        found = encode({"x": images})                           # {"representation": (b d), "z": (b n d), "indices": (b n q)}

    It takes the fields that the encoders read, as a dict, and gives plain tensors: see ``ExportedEncoder``.  The number of examples is
    free.  So is the length of data whose lengths vary, unless the encoder's graph holds one step after another (gru): then it is
    ``length``, and shorter examples are padded and masked to it.  The batch is not checked, and it must lie on the device that
    the model was on.

    Args:
        model: what ``rk.build``, ``rk.load`` or a run gave; it is left as it was.
        path: where to write the program too, by ``torch.export.save``; such files are called ``.pt2``.  ``about.json`` inside
            names inputs, outputs and versions.  None writes nothing.
        batch: examples to trace with, at least two; needed only for a model that was built without ``data=``.
        length: steps of the traced examples, at least 2, where the data's lengths vary.

    Raises:
        CheckpointError: the file cannot be written.
        BuildError: the model has no encoder, a batch is needed, or a part does something that depends on the values of the data.
        PartArgumentError: a length below 2, or a batch of one.
    """
    if not model.factors:
        raise BuildError("this model has no encoder, so there is nothing to export")
    require(length >= 2, f"length must be at least 2, not {length}")
    example = _example(model, batch, length)
    free: dict[str, dict[int, Any]] = {
        name: {
            0: torch.export.Dim.DYNAMIC,
            **{axis: torch.export.Dim.AUTO for axis in _varying(model, name, value)},
        }
        for name, value in example.items()
    }
    training = model.training
    model.eval()
    try:
        encoding = ExportedEncoder(model)
        with torch.no_grad(), warnings.catch_warnings():
            # nn.GRU sets up a list of its weights while it is traced, and leaves it as it was.
            warnings.filterwarnings("ignore", message="The tensor attributes? .* assigned during export")
            outputs = encoding(example)
            program = torch.export.export(encoding, (example,), dynamic_shapes=(free,))
    except Exception as error:
        raise BuildError(_blame(error)) from error
    finally:
        model.train(training)
    if path is not None:
        _write(program, Path(path), _about(program, outputs))
    return program


def _example(model: Model, batch: Batch | None, length: int) -> dict[str, Tensor]:
    """The fields that the encoders read, with their masks, on the model's device."""
    if batch is None:
        if model.signature is None:
            raise BuildError("this model was built without data=: give rk.export a batch= to trace with")
        batch = model.signature.example(_SIZE, length)
    fields = [each for path in model.factors.values() for each in (path.input, f"{path.input}_mask")]
    for name in fields[::2]:
        if name not in batch:
            raise BuildError(f"a factor reads field {name!r}; the batch has {', '.join(batch)}")
        require(
            len(batch[name]) >= 2,
            "batch= needs at least two examples: the size of a batch of one becomes a constant",
        )
    return {name: batch[name].to(model.device) for name in dict.fromkeys(fields) if name in batch}


def _varying(model: Model, name: str, value: Tensor) -> list[int]:
    """The axes of a field, besides the first, whose size is not the same for all data."""
    masked = name.endswith("_mask")
    if model.signature is None:  # then a mask is the only sign
        return [1] if masked else []
    shape = model.signature[name.removesuffix("_mask") if name not in model.signature else name].shape
    if name not in model.signature:
        return [1]
    return [axis + 1 for axis, size in enumerate(shape) if size is None]


def _blame(error: Exception) -> str:
    where = "; ".join(getattr(error, "__notes__", ()))
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (
        f"this model cannot be exported: {type(error).__name__}: {first}{where and f' ({where})'}\n"
        "  most likely a part looks at values on its way (if, .item(), a loop over them), or at the size of the batch;\n"
        "  torch.compiler.is_exporting() tells it to take a plain way"
    )


def _about(program: ExportedProgram, outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Inputs with their shapes (null: free), and the names of the outputs."""
    given = program.graph_signature.user_inputs
    sizes = {
        node.name: [size if isinstance(size, int) else None for size in node.meta["val"].shape]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in given
    }
    return {
        "reprkit": own_version(),
        "torch": torch.__version__,
        "inputs": {name.removeprefix("batch_"): shape for name, shape in sizes.items()},
        "outputs": list(outputs),
    }


def _write(program: ExportedProgram, path: Path, about: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            torch.export.save(program, file, extra_files={ABOUT: json.dumps(about, indent=1) + "\n"})
        fresh.replace(path)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error
    finally:
        if fresh.exists():
            fresh.unlink()
