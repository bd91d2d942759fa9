"""Base class of front ends: from a waveform to normalized frames, with all settings in one line of text."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, UnknownPartError, nearest
from reprkit.registry import constraints
from reprkit.registry.constraints import Count
from reprkit.registry.create import construct
from reprkit.registry.references import Reference, parse

# Name -> its class; modules are imported on demand.
FRONT_ENDS = {
    "log-mel": "reprkit_audio.frontends.log_mel:LogMel",
    "world": "reprkit_audio.frontends.world:World",
}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound as analyzed by a front end.

    Attributes:
        frames: input of models (t c), float32, with about zero mean and unit variance over speech.
        pitch: Hz (t,), 0 where unvoiced; None where the front end does not extract it.
        aperiodicity: share of noise in a frame, dB by band (t k), 0 is all noise; None where the front end does not extract it.
    """

    frames: Float[Tensor, "t c"]
    pitch: Float[Tensor, " t"] | None = None
    aperiodicity: Float[Tensor, "t k"] | None = None


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Converts a waveform to frames.  Holds settings only: front ends with equal ``form`` give equal frames.

    Attributes:
        rate: sampling rate of its input, in Hz.
        hop: samples from one frame to the next.
        shape: values of a frame that describe the spectrum's shape without its level; None where they are not separate.
    """

    name: ClassVar[str]
    shape: ClassVar[slice | None] = None
    rate: Count = 16000
    hop: Count = 256

    def __post_init__(self) -> None:
        """Check the settings."""
        constraints.check_arguments(type(self), vars(self), f"front end {self.name}")

    @property
    def form(self) -> str:
        """This front end as a reference with every setting: the content of ``Field.form``."""
        return str(Reference(self.name, dataclasses.asdict(self)))

    @property
    def channels(self) -> int:
        """Number of values per frame (c)."""
        raise NotImplementedError

    def count(self, samples: int) -> int:
        """Number of frames of ``samples`` samples."""
        raise NotImplementedError

    def analyze(self, wave: Float[Tensor, " samples"]) -> Sound:
        """Compute the frames of a waveform in [-1, 1] at ``rate``, and what else this front end extracts.

        Raises:
            DataError: not a waveform of one channel, no samples, or values that are not finite.
        """
        raise NotImplementedError

    def band_frequencies(self) -> Float[Tensor, " m"]:
        """Frequencies of the bands of ``to_levels``, in Hz, ascending."""
        raise NotImplementedError

    def to_levels(self, frames: Float[Tensor, "*n c"]) -> Float[Tensor, "*n m"]:
        """Convert frames to the spectral envelope: natural logarithms of the magnitude in each band."""
        raise NotImplementedError

    def from_levels(self, levels: Float[Tensor, "*n m"]) -> Float[Tensor, "*n c"]:
        """Convert the spectral envelope to frames: the inverse of ``to_levels``."""
        raise NotImplementedError


def check_waveform(wave: Tensor) -> Float[Tensor, " samples"]:
    """Check a waveform, and return it as float32 on its device.

    Raises:
        DataError: not a waveform of one channel, no samples, or values that are not finite.
    """
    if not isinstance(wave, Tensor) or wave.ndim != 1 or not wave.is_floating_point():
        found = f"{wave.dtype} {tuple(wave.shape)}" if isinstance(wave, Tensor) else type(wave).__name__
        raise DataError(
            f"a waveform is a float tensor (samples,) of one channel, not {found}; see reprkit.data.sound.read"
        )
    if not len(wave):
        raise DataError("the waveform has no samples")
    if not torch.isfinite(wave).all():
        raise DataError("the waveform holds values that are not finite")
    return wave.float()


def frontend(form: str | FrontEnd) -> FrontEnd:
    """Build the front end that a form names: ``"log-mel"``, ``"world(hop=80)"``, or a field's whole ``form``.

    Raises:
        UnknownPartError: no front end of that name.
        PartArgumentError: an unknown setting, or a value out of its range.
        ReferenceSyntaxError: the form cannot be read.
    """
    if isinstance(form, FrontEnd):
        return form
    reference = parse(form)
    return construct(
        resolve_class(reference, FRONT_ENDS, "front end"),
        reference.arguments,
        {},
        f"front end {reference.name}",
    )


def resolve_class(reference: Reference, classes: dict[str, str], kind: str) -> type:
    """Import the class of a name in ``classes`` (name -> "module:Class").

    Raises:
        UnknownPartError: no such name.
    """
    if reference.name not in classes:
        raise UnknownPartError(
            f"no {kind} named {reference.name!r}.{nearest(reference.name, classes)}\n  known: {', '.join(classes)}"
        )
    module, _, cls = classes[reference.name].partition(":")
    return getattr(importlib.import_module(module), cls)
