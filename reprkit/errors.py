"""What reprkit raises: one family, each message saying what was asked, what is known and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReprkitError(Exception):
    """Base of every error that reprkit raises on purpose."""


class ReferenceSyntaxError(ReprkitError, ValueError):
    """A reference such as ``vq(codes=512)`` that cannot be read, or that tries to be more than a name and literals."""


class UnknownPartError(ReprkitError, LookupError):
    """No part, or more than one, answers to the name."""


class PluginError(ReprkitError, ValueError):
    """A plugin that breaks the rules of plugins: a hook that does not exist, a Spec that is malformed, a name used twice."""


class PartImportError(ReprkitError, ImportError):
    """A part that is offered but whose module cannot be imported, or does not hold the class it promises."""


class PartArgumentError(ReprkitError, TypeError, ValueError):
    """A part was given an argument that it does not have, or a value out of its range."""


class BuildError(ReprkitError, ValueError):
    """Parts that do not fit each other, or do not fit the data."""


class DataError(ReprkitError, ValueError):
    """Data that is empty, of the wrong shape, type or range, or not finite."""


class CheckpointError(ReprkitError):
    """A checkpoint that is missing, damaged, from a newer format, or that needs a plugin which is not installed."""


class TrainingError(ReprkitError):
    """A run that cannot go on: a loss that is not finite, no memory left, a state that cannot be resumed."""


def nearest(asked: str, known: Iterable[str]) -> str:
    """`` Did you mean 'vq'?`` for the known name nearest to the one asked, or an empty string."""
    match = difflib.get_close_matches(asked, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""
