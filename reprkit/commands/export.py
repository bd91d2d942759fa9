"""``reprkit export MODEL FILE``: the encoder as a torch.export program (.pt2) or an ONNX graph (.onnx)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import CheckpointArgument, JsonOption, OverwriteOption, load_model
from reprkit.commands.output import emit_json, printable
from reprkit.errors import CheckpointError, ReprkitError, nearest
from reprkit.utils.atomic_files import require_absent

SUFFIXES = (".pt2", ".onnx")


def command(
    model: CheckpointArgument,
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="encoder.pt2 (torch.export) or encoder.onnx (ONNX).")
    ],
    length: Annotated[
        int, typer.Option(min=2, help="Length of the traced examples, where lengths vary.")
    ] = 64,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Export the encoder as a torch.export program or as ONNX.

    The graph holds encoder, adapters and latents, and runs without reprkit. An ONNX graph is compared
    with the model in onnxruntime, where that is installed.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReprkitError(
            f"{out} has an unknown suffix.{nearest(suffix, SUFFIXES)}\n"
            "  known: .pt2 (a torch.export program), .onnx (an ONNX graph)"
        )
    require_absent(out, overwrite, CheckpointError)  # before the model is loaded
    loaded = load_model(model, "cpu")
    if suffix == ".onnx":
        from reprkit.checkpoints.onnx_export import export_onnx

        written = export_onnx(loaded, out, length=length, overwrite=overwrite)
        difference = written.largest_difference
        inputs, outputs = written.inputs, written.outputs
        checked = (
            "onnxruntime is not installed, so it was not compared with the model"
            if difference is None
            else f"onnxruntime computes the same, with differences of at most {difference:.2g}"
        )
    else:
        import reprkit as rk

        program = rk.export(loaded, out, length=length, overwrite=overwrite)
        difference, checked = None, "it was traced in evaluation mode; load it by torch.export.load"
        inputs = tuple(name.removeprefix("batch_") for name in program.graph_signature.user_inputs)
        outputs = ()
    if json:
        emit_json(
            {
                "file": str(out),
                "format": suffix[1:],
                "inputs": list(inputs),
                "outputs": list(outputs) or None,
                "largest_difference": difference,
            }
        )
        return
    print(printable(f"{out}: reads {', '.join(map(str, inputs))}"))
    print(checked)
