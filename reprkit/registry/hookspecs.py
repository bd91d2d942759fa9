"""The plugin hooks: one for each kind of part, with an example.

A plugin is a module of hook implementations and strings, declared in the distribution's metadata::

    [project.entry-points.reprkit]
    acme = "acme_latents.plugin"

It should import neither torch nor its own heavy modules: a Spec names the class, which is imported when the part is
first built.  A hook takes no argument and returns or yields Specs.  A module may set ``reprkit_api = 1``, the API
version it was written for; new hooks do not increase that number, incompatible changes do.
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

# kind of part -> its hook
KINDS = {
    "encoder": "reprkit_encoders",
    "decoder": "reprkit_decoders",
    "latent": "reprkit_latents",
    "likelihood": "reprkit_likelihoods",
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
    """Description of one part: its name, the location of its class, a summary and its requirements.

    Args:
        name: lower-case letters, digits and dashes, unique for its kind within the distribution.
        build: ``"module:Class"``; imported when the part is first built.
        summary: one line, with the paper if there is one.
        requires: import names (``"torchaudio"``) that the part needs; searched for, never imported.
        opens: of a data set: reprkit's data set (``"audio"``) whose folders ``rk.dataset(PATH)`` reads by this one instead, with
            ``root`` as its only argument.
        forms: of a data set: names of the forms (``Field.form``, ``("log-mel",)``) whose files and raw values its class reads for
            a trained model, by ``read_raw``.

    Raises:
        PluginError: an argument is not of this form.
    """

    name: str
    build: str
    summary: str = ""
    requires: tuple[str, ...] = ()
    opens: str = ""
    forms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields, so that the error points to the line of the Spec."""
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise PluginError(f"Spec name {self.name!r} is not made of lower-case letters, digits and dashes")
        module, colon, target = self.build.partition(":") if isinstance(self.build, str) else ("", "", "")
        if not (colon and _MODULE.fullmatch(module) and _MODULE.fullmatch(target)):
            raise PluginError(
                f"Spec {self.name!r}: build {self.build!r} is not of the form 'package.module:Class'"
            )
        if not isinstance(self.opens, str) or (self.opens and not _NAME.fullmatch(self.opens)):
            raise PluginError(f"Spec {self.name!r}: opens must be the name of a data set, not {self.opens!r}")
        if isinstance(self.forms, str) or not all(
            isinstance(form, str) and _NAME.fullmatch(form) for form in self.forms
        ):
            raise PluginError(
                f'Spec {self.name!r}: forms is a tuple of names of forms, such as ("log-mel",), not {self.forms!r}'
            )
        object.__setattr__(self, "forms", tuple(self.forms))
        if not isinstance(self.summary, str) or "\n" in self.summary:
            raise PluginError(
                f"Spec {self.name!r}: the summary must be one line of text, not {self.summary!r}"
            )
        if isinstance(self.requires, str):  # iterating over it would give single letters
            raise PluginError(
                f"Spec {self.name!r}: requires is a tuple of import names: ({self.requires!r},)"
            )
        requires = tuple(self.requires)
        for module in requires:
            if not (isinstance(module, str) and _MODULE.fullmatch(module)):
                raise PluginError(
                    f"Spec {self.name!r}: requires contains {module!r}, which is not an import name"
                )
        object.__setattr__(self, "requires", requires)


@hookspec
def reprkit_encoders() -> Iterable[Spec]:
    """Encoders: map a batch to Features (b n d).

    Example::

        @hookimpl
        def reprkit_encoders():
            yield Spec("wave-conv", "acme_audio.encoders:WaveConv", "Strided convolutions", ("torchaudio",))
    """
    return ()


@hookspec
def reprkit_decoders() -> Iterable[Spec]:
    """Decoders: map codes to the likelihood of the data.

    Example::

        @hookimpl
        def reprkit_decoders():
            yield Spec("wave-conv", "acme_audio.decoders:WaveConv", "Transposed convolutions back to samples")
    """
    return ()


@hookspec
def reprkit_latents() -> Iterable[Spec]:
    """Latents: map Features to a Code.

    Example::

        @hookimpl
        def reprkit_latents():
            yield Spec("ternary", "acme_latents.ternary:Ternary", "Dimensions of three values: -1, 0 and 1")
    """
    return ()


@hookspec
def reprkit_likelihoods() -> Iterable[Spec]:
    """Likelihoods: read the outputs of a decoder as a distribution of data values.

    Example::

        @hookimpl
        def reprkit_likelihoods():
            yield Spec("student-t", "acme_likelihoods.student:StudentT", "Heavy tails, for data with outliers")
    """
    return ()


@hookspec
def reprkit_objectives() -> Iterable[Spec]:
    """Objectives: run the model and return named losses.

    Example::

        @hookimpl
        def reprkit_objectives():
            yield Spec("barlow", "acme_ssl.barlow:Barlow", "Redundancy reduction (arXiv 2103.03230)")
    """
    return ()


@hookspec
def reprkit_corruptions() -> Iterable[Spec]:
    """Corruptions: corrupt a batch and return where.

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
