"""Copy synthesis: a vocoder's copies of recorded windows against the recordings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit import Dataset, Evaluator, Model
from reprkit.errors import BuildError
from reprkit.registry.constraints import Count, CountOrZero
from reprkit.reporting.figures import Images
from reprkit_audio.evaluators.spectrograms import mel_spectrograms
from reprkit_audio.frontends import Sound, frontend
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.similarity import mel_distance, pitch_difference
from reprkit_audio.vocoders import vocoder


class CopySynthesis(Evaluator):
    """Compares a vocoder's copies of recorded windows with the recordings, and Griffin-Lim's copies as baseline.

    ``mel_db``: mean absolute difference in mel bands, dB, over audible bands.  ``pitch_semitones``: median
    difference of the pitch where both are voiced, mean over windows.  ``voicing``: share of frames with equal
    voicing.  ``griffin-lim.NAME``: the same for Griffin-Lim, which needs no training.  The figure shows spectrograms.

    Args:
        windows: number of the data's examples to copy, evenly spaced.
        examples: number of those in the figure; 0 for none.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(self, windows: Count = 32, examples: CountOrZero = 4) -> None:
        super().__init__()
        self.windows, self.examples = windows, examples

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return means over the windows, and ``n``, their number.

        Raises:
            BuildError: the model does not decode waveforms from log-mel frames.
        """
        front, field = _front_end_of(model)
        count = min(self.windows, len(data))
        indices = torch.linspace(0, len(data) - 1, count).round().long()
        batch = data.batch(indices)
        copied = model.to_batch(model.score(batch).decoded)[model.output].squeeze(-1).float().cpu()
        true = batch[model.output].squeeze(-1)
        fallback = vocoder("griffin-lim", form=front)
        copies = {
            "": list(copied.clamp(-1, 1)),
            "griffin-lim.": [
                fallback.synthesize(Sound(frames=frames))[: true.shape[1]] for frames in batch[field]
            ],
        }
        results: dict[str, Any] = {}
        for name, each in copies.items():
            results.update({name + key: value for key, value in _mean_differences(list(true), each).items()})
        results["n"] = count
        if self.examples:
            shown = [
                ("recorded", list(true)),
                ("copied", copies[""]),
                ("Griffin-Lim", copies["griffin-lim."]),
            ]
            rows = {label: mel_spectrograms(front, waves[: self.examples]) for label, waves in shown}
            results["figures"] = {
                "spectrograms": Images(
                    title="Copies of recorded speech",
                    rows=rows,
                    span=(-80.0, 0.0),
                    cell=7.0,
                    caption="Mel bands over time, 80 dB range, low bands at the bottom.",
                )
            }
        return results


def _front_end_of(model: Model) -> tuple[LogMel, str]:
    """Front end of the model's input frames, and their field."""
    signature = model.signature
    fields = {path.input for path in model.factors.values()}
    form = signature[next(iter(fields))].form if signature is not None and len(fields) == 1 else None
    front = None if form is None else frontend(form)
    output_field = None if signature is None or model.decoder is None else signature[model.output]
    if (
        not isinstance(front, LogMel)
        or output_field is None
        or output_field.kind != "sequence"
        or output_field.channels != 1
    ):
        raise BuildError(
            "copy-synthesis evaluates vocoders: models from log-mel frames to a waveform (data set waves, "
            "build(output='wave')); for others use the evaluator voice"
        )
    return front, next(iter(fields))


def _mean_differences(true: list[Tensor], copies: list[Tensor]) -> dict[str, float]:
    pairs = list(zip(true, copies, strict=True))
    pitches = [pitch_difference(*pair) for pair in pairs]
    differences = [semitones for semitones, _ in pitches if not math.isnan(semitones)]
    return {
        "mel_db": float(np.mean([mel_distance(*pair) for pair in pairs])),
        "pitch_semitones": float(np.mean(differences)) if differences else math.nan,
        "voicing": float(np.mean([share for _, share in pitches])),
    }
