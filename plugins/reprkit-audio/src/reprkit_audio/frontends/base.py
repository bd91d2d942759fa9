"""What every front end shares: a waveform in, frames of one scale out, and a line of text that says how."""

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

# Name -> where its class is; the modules are imported when they are asked for.
FRONT_ENDS = {
    "log-mel": "reprkit_audio.frontends.log_mel:LogMel",
    "world": "reprkit_audio.frontends.world:World",
}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound as a front end describes it.

    Attributes:
        frames: what models read (t c), float32, of about zero mean and unit variance over speech.
        pitch: Hz (t,), 0 where there is no voice; None where the front end does not say.
        aperiodicity: how much of a frame is noise, dB by band (t k), 0 is all; None where the front end does not say.
    """

    frames: Float[Tensor, "t c"]
    pitch: Float[Tensor, " t"] | None = None
    aperiodicity: Float[Tensor, "t k"] | None = None


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Makes frames of a waveform.  Plain settings: two with equal ``form`` make equal frames.

    Attributes:
        rate: samples a second that it reads, in Hz.
        hop: samples from one frame to the next.
        shape: which values of a frame are the form of the spectrum without its level; None where they cannot be told apart.
    """

    name: ClassVar[str]
    shape: ClassVar[slice | None] = None
    rate: Count = 16000
    hop: Count = 256

    def __post_init__(self) -> None:
        """Refuse what no front end can do."""
        constraints.checked(type(self), vars(self), f"front end {self.name}")

    @property
    def form(self) -> str:
        """Itself as a reference with every setting: what ``Field.form`` holds."""
        return str(Reference(self.name, dataclasses.asdict(self)))

    @property
    def channels(self) -> int:
        """Values of a frame (c)."""
        raise NotImplementedError

    def count(self, samples: int) -> int:
        """How many frames so many samples have."""
        raise NotImplementedError

    def analyze(self, wave: Float[Tensor, " samples"]) -> Sound:
        """The frames of a waveform in [-1, 1] at ``rate``, and what else this front end knows of it.

        Raises:
            DataError: it is no waveform of one channel, has no sample, or holds values that are not finite.
        """
        raise NotImplementedError


def check_waveform(wave: Tensor) -> Float[Tensor, " samples"]:
    """The waveform as float32 on its device.

    Raises:
        DataError: it is no waveform of one channel, has no sample, or holds values that are not finite.
    """
    if not isinstance(wave, Tensor) or wave.ndim != 1 or not wave.is_floating_point():
        got = f"{wave.dtype} {tuple(wave.shape)}" if isinstance(wave, Tensor) else type(wave).__name__
        raise DataError(f"a waveform is a float tensor (samples,) of one channel, not {got}; see sound.read")
    if not len(wave):
        raise DataError("the waveform has no samples")
    if not torch.isfinite(wave).all():
        raise DataError("the waveform holds values that are not finite")
    return wave.float()


def frontend(form: str | FrontEnd) -> FrontEnd:
    """The front end that a form names: ``"log-mel"``, ``"world(hop=80)"``, or a field's whole ``form``.

    Raises:
        UnknownPartError: no front end of that name.
        PartArgumentError: a setting that it does not have, or a value out of its range.
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


def resolve_class(reference: Reference, homes: dict[str, str], what: str) -> type:
    """The class of a name among ``homes`` (name -> "module:Class").

    Raises:
        UnknownPartError: there is none of that name.
    """
    if reference.name not in homes:
        raise UnknownPartError(
            f"no {what} named {reference.name!r}.{nearest(reference.name, homes)}\n  known: {', '.join(homes)}"
        )
    module, _, cls = homes[reference.name].partition(":")
    return getattr(importlib.import_module(module), cls)
