"""Voice conversion by a regression from the source's frames to the target's, for each pair of speakers, by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import Dataset
from reprkit.errors import DataError
from reprkit_audio.frontends import Sound, frontend
from reprkit_audio.global_variance import envelope_deviation, restore_deviation
from reprkit_audio.prosody import convert_pitch, pitch_statistics


class FrameRegression:
    """Predicts a target speaker's frame from the source's frame and its neighbors, one regression for each ordered pair.

    Learned from utterances of the same words, aligned in time (data set ``aligned-speech``), after Stylianou et al. 1998 (IEEE
    Transactions on Speech and Audio Processing 6(2)) and, with a network, Desai et al. 2010 (IEEE TASLP 18(5)).  An instance is a
    conversion of evaluator ``voice``: ``judge.conversion = FrameRegression(train)``.

    Args:
        train: the training part of ``aligned-speech``.
        regressor: a scikit-learn regressor of several outputs, which is cloned for each pair; ridge regression if None.
        context: frames on both sides of a frame that the regression reads, too.
        spread: whether the envelope gets the deviation of the target's prompts, as in ``reprkit_audio.converter.Converter``.

    Raises:
        DataError: data without the fields of ``aligned-speech``.
    """

    def __init__(
        self, train: Dataset, regressor: Any = None, *, context: int = 2, spread: bool = True
    ) -> None:
        from sklearn.base import clone
        from sklearn.linear_model import Ridge

        if missing := {"x", "y", "speaker", "target"} - set(train.signature):
            raise DataError(
                f"a frame regression learns from aligned-speech, and {train.name} has no field {', '.join(sorted(missing))}"
            )
        self.front = frontend(train.signature["x"].form or "")
        self.context, self.spread = context, spread
        names = train.signature["speaker"].classes or ()
        batch = train.batch(range(len(train)))
        pairs = torch.stack([batch["speaker"], batch["target"]], 1)
        self.regressions = {}
        for one, two in sorted(set(map(tuple, pairs.tolist()))):
            rows = (pairs == torch.tensor([one, two])).all(1)
            read = np.concatenate([self._with_context(frames) for frames in batch["x"][rows]])
            wanted = batch["y"][rows].flatten(0, 1).numpy()
            fitted = clone(Ridge() if regressor is None else regressor).fit(read, wanted)
            self.regressions[names[one], names[two]] = fitted

    def __call__(self, source: Sound, speaker: str, target: str, prompts: Sequence[Sound]) -> Sound:
        """Convert an utterance of ``speaker`` to the voice of ``target``; to the own voice it stays as it is.

        Raises:
            DataError: a pair of speakers without aligned utterances, or prompts without a voiced frame.
        """
        if speaker == target:
            return source
        if (speaker, target) not in self.regressions:
            known = ", ".join(sorted({name for pair in self.regressions for name in pair}))
            raise DataError(
                f"no regression from {speaker!r} to {target!r} was learned; known speakers: {known}"
            )
        made = self.regressions[speaker, target].predict(self._with_context(source.frames))
        converted = replace(source, frames=torch.from_numpy(made.astype(np.float32)))
        if self.spread:
            deviation = envelope_deviation(self.front, *prompts)
            converted = replace(converted, frames=restore_deviation(self.front, converted, deviation))
        pitches = [each.pitch for each in prompts if each.pitch is not None]
        if source.pitch is None or not pitches or not (source.pitch > 0).any():
            return converted
        contour = convert_pitch(source.pitch, pitch_statistics(source.pitch), pitch_statistics(*pitches))
        return replace(converted, pitch=contour)

    def _with_context(self, frames: Float[Tensor, "t c"]) -> Float[np.ndarray, "t k"]:
        """Each frame beside its neighbors; at the ends the first and the last one are repeated."""
        places = torch.arange(len(frames)).unsqueeze(1) + torch.arange(-self.context, self.context + 1)
        return frames[places.clamp(0, len(frames) - 1)].flatten(1).numpy()
