"""Neural vocoder: any trained reprkit model from log-mel frames to a waveform."""

from __future__ import annotations

import os

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import load
from reprkit.errors import PartArgumentError
from reprkit_audio.frontends.base import Sound, frontend
from reprkit_audio.vocoders.base import Vocoder


class Neural(Vocoder):
    """A model folder written by ``recipes/vocoder.py``: frames in, waveform out, of any length.

    Args:
        model: the folder of a checkpoint.
        device: where to run it; by default a GPU if there is one.

    Raises:
        CheckpointError: no such checkpoint.
        PartArgumentError: a model whose input is not frames of a front end, or whose output is not a waveform of whole hops.
    """

    def __init__(self, model: str | os.PathLike[str], device: str | None = None) -> None:
        loaded = load(os.fspath(model))
        signature = loaded.signature
        inputs = [] if signature is None else [signature[path.input] for path in loaded.factors.values()]
        if signature is None or len(inputs) != 1 or inputs[0].form is None:
            raise PartArgumentError(
                f"the model in {os.fspath(model)!r} is not a vocoder: its input is not frames; see recipes/vocoder.py"
            )
        self.front = frontend(inputs[0].form)
        output = signature[loaded.output]
        samples, frames = output.shape[0] if output.kind == "sequence" else None, inputs[0].shape[0]
        if (
            loaded.decoder is None
            or output.channels != 1
            or not samples
            or samples != (frames or 0) * self.front.hop
        ):
            raise PartArgumentError(
                f"the model in {os.fspath(model)!r} is not a vocoder: {loaded.output!r} is {output.kind} data ({output.axes}), "
                f"not a waveform of {self.front.hop} samples per frame"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = loaded.to(device).eval()

    @torch.no_grad()
    def generate(self, sound: Sound) -> Float[Tensor, " samples"]:
        """T * hop samples."""
        (path,) = self.model.factors.values()
        frames = {path.input: sound.frames[None].float()}
        codes = self.model.encode(frames, any_length=True, in_range=False)  # a converter decoded them
        return self.model.decode(codes, length=len(sound.frames) * self.front.hop).x.flatten()
