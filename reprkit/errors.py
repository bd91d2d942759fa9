"""Exceptions of reprkit.  Each message says what was asked, what is known and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str, allowed: str = "") -> str:
    """Escape control characters except ``allowed``, so that text from a file cannot control the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in allowed else ascii(char)[1:-1] for char in text)


class ReprkitError(Exception):
    """Base class of all errors that reprkit raises on purpose.

    Control characters of a message are escaped, since it may quote a file that others wrote, and ends on a terminal.
    """

    def __str__(self) -> str:
        """Return the message, with control characters escaped."""
        return printable(super().__str__(), allowed="\n\t")


class ReferenceSyntaxError(ReprkitError, ValueError):
    """A reference such as ``vq(codes=512)`` cannot be parsed, or is more than a name with literal arguments."""


class UnknownPartError(ReprkitError, LookupError):
    """No part has the name, or more than one has."""


class PluginError(ReprkitError, ValueError):
    """A plugin is invalid: its hook does not exist, its Spec is malformed, or it uses a name twice."""


class PartImportError(ReprkitError, ImportError):
    """The module of a registered part cannot be imported, or does not contain the class that its Spec names."""


class PartArgumentError(ReprkitError, TypeError, ValueError):
    """A part has no argument of that name, or the value is out of range."""


class BuildError(ReprkitError, ValueError):
    """Parts are incompatible with each other or with the data."""


class DataError(ReprkitError, ValueError):
    """Data is empty, of the wrong shape, type or range, or not finite."""


class CheckpointError(ReprkitError):
    """A checkpoint is missing, damaged, of a newer format, or needs a plugin that is not installed."""


class CompressionError(ReprkitError, ValueError):
    """A compressed code is damaged, or was written with another model."""


class TrainingError(ReprkitError):
    """Training cannot continue: the loss is not finite, memory is exhausted, or the saved state cannot be resumed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'vq'?`` with the known name closest to ``name``, or an empty string if none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""
