"""The hooks through which parts join reprkit, one a kind, with an example each.

A plugin is a module that holds hook implementations and strings, named in the distribution's metadata::

    [project.entry-points.reprkit]
    acme = "acme_latents.plugin"

It imports neither torch nor its own heavy modules: a Spec says where the class is, and that is imported when
first built.  A hook takes no argument and returns or yields Specs.  A module may state ``reprkit_api = 1``,
the number that it was written for; new hooks do not raise that number, breaks do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pluggy

from reprkit.errors import PluginError

API = 1
PROJECT = "reprkit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# kind -> the hook that offers it
KINDS = {
    "encoder": "reprkit_encoders",
    "decoder": "reprkit_decoders",
    "latent": "reprkit_latents",
    "objective": "reprkit_objectives",
    "corruption": "reprkit_corruptions",
    "dataset": "reprkit_datasets",
    "evaluator": "reprkit_evaluators",
    "command": "reprkit_commands",
}

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Spec:
    """What a plugin says of one part: its name, where its class is, a line about it and what it needs.

    Args:
        name: lower-case letters, digits and dashes, unique for its kind inside the distribution.
        build: ``"module:Class"``; imported when the part is first built, not before.
        summary: one line, naming the paper where there is one.
        requires: import names (``"torchaudio"``) that the part needs; looked for, never imported.

    Raises:
        PluginError: one of these is not as described.
    """

    name: str
    build: str
    summary: str = ""
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the four fields, so that the fault shows at the author's line."""
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise PluginError(f"Spec name {self.name!r} is not made of lower-case letters, digits and dashes")
        module, colon, target = self.build.partition(":") if isinstance(self.build, str) else ("", "", "")
        if not (colon and _MODULE.fullmatch(module) and _MODULE.fullmatch(target)):
            raise PluginError(
                f"Spec {self.name!r}: build {self.build!r} is not of the form 'package.module:Class'"
            )
        if not isinstance(self.summary, str) or "\n" in self.summary:
            raise PluginError(
                f"Spec {self.name!r}: the summary must be one line of text, not {self.summary!r}"
            )
        if isinstance(self.requires, str):  # iterating it would look for modules named by single letters
            raise PluginError(
                f"Spec {self.name!r}: requires is a tuple of import names: ({self.requires!r},)"
            )
        requires = tuple(self.requires)
        for each in requires:
            if not (isinstance(each, str) and _MODULE.fullmatch(each)):
                raise PluginError(f"Spec {self.name!r}: requires holds {each!r}, which is not an import name")
        object.__setattr__(self, "requires", requires)


@hookspec
def reprkit_encoders() -> Iterable[Spec]:
    """Encoders: read a batch, return Features (b n d).

    Example::

        @hookimpl
        def reprkit_encoders():
            yield Spec("wave-conv", "acme_audio.encoders:WaveConv", "Strided convolutions", ("torchaudio",))
    """
    return ()


@hookspec
def reprkit_decoders() -> Iterable[Spec]:
    """Decoders: turn codes into the likelihood of the data.

    Example::

        @hookimpl
        def reprkit_decoders():
            yield Spec("wave-conv", "acme_audio.decoders:WaveConv", "Transposed convolutions back to samples")
    """
    return ()


@hookspec
def reprkit_latents() -> Iterable[Spec]:
    """Latents: turn Features into a Code.

    Example::

        @hookimpl
        def reprkit_latents():
            yield Spec("fsq", "acme_latents.fsq:FSQ", "Finite scalar quantisation (arXiv 2309.15505)")
    """
    return ()


@hookspec
def reprkit_objectives() -> Iterable[Spec]:
    """Objectives: drive the model and return named losses.

    Example::

        @hookimpl
        def reprkit_objectives():
            yield Spec("barlow", "acme_ssl.barlow:Barlow", "Redundancy reduction (arXiv 2103.03230)")
    """
    return ()


@hookspec
def reprkit_corruptions() -> Iterable[Spec]:
    """Corruptions: damage a batch and say where.

    Example::

        @hookimpl
        def reprkit_corruptions():
            yield Spec("time-warp", "acme_audio.warp:TimeWarp", "Stretches time (arXiv 1904.08779)")
    """
    return ()


@hookspec
def reprkit_datasets() -> Iterable[Spec]:
    """Data sets: map-style, with a signature and ``split``.

    Example::

        @hookimpl
        def reprkit_datasets():
            yield Spec("clips", "acme_audio.data:Clips", "A folder of recordings", ("soundfile",))
    """
    return ()


@hookspec
def reprkit_evaluators() -> Iterable[Spec]:
    """Evaluators: measure a model on a data set, without training it.

    Example::

        @hookimpl
        def reprkit_evaluators():
            yield Spec("abx", "acme_audio.abx:ABX", "Phoneme discriminability (Schatz et al. 2013)")
    """
    return ()


@hookspec
def reprkit_commands() -> Iterable[Spec]:
    """Commands of the ``reprkit`` command line: a function with typer annotations, or a ``typer.Typer``.

    Example::

        @hookimpl
        def reprkit_commands():
            yield Spec("listen", "acme_audio.listen:listen", "Write a model's reconstructions as .wav files")
    """
    return ()
