"""A vocoder that was trained: any reprkit model from log-mel frames to a waveform."""

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
    """The model of a folder that ``recipes/vocoder.py`` wrote: frames in, waveform out, at once and of any length.

    Args:
        model: the folder of a checkpoint.
        device: where to run it; a GPU when there is one.

    Raises:
        CheckpointError: no such checkpoint.
        PartArgumentError: a model that reads no frames of a front end, or makes no waveform of whole hops.
    """

    def __init__(self, model: str | os.PathLike[str], device: str | None = None) -> None:
        made = load(os.fspath(model))
        signature = made.signature
        inputs = [] if signature is None else [signature[path.input] for path in made.factors.values()]
        if signature is None or len(inputs) != 1 or inputs[0].form is None:
            raise PartArgumentError(
                f"the model in {os.fspath(model)!r} is no vocoder: it reads no frames of a front end; see recipes/vocoder.py"
            )
        self.front = frontend(inputs[0].form)
        output = signature[made.output]
        samples, frames = output.shape[0] if output.kind == "sequence" else None, inputs[0].shape[0]
        if (
            made.decoder is None
            or output.channels != 1
            or not samples
            or samples != (frames or 0) * self.front.hop
        ):
            raise PartArgumentError(
                f"the model in {os.fspath(model)!r} is no vocoder: {made.output!r} is {output.kind} data ({output.axes}), "
                f"not a waveform of {self.front.hop} samples a frame"
            )
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = made.to(place).eval()

    @torch.no_grad()
    def generate(self, sound: Sound) -> Float[Tensor, " samples"]:
        """T * hop samples."""
        (path,) = self.model.factors.values()
        codes = self.model.encode({path.input: sound.frames[None].float()}, any_length=True)
        return self.model.decode(codes, length=len(sound.frames) * self.front.hop).x.flatten()
