"""Outputs: each is a decoder, the linear maps before it, and the field of the data that it returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, nearest
from reprkit.interfaces import Decoder
from reprkit.types import Batch


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The description of an output that ``rk.output`` returns and ``rk.build`` builds."""

    decoder: Any
    reads: tuple[str, ...] | None = None
    field: str | None = None


def output(
    decoder: Any, *, reads: str | tuple[str, ...] | None = None, field: str | None = None
) -> OutputSpec:
    """Describe one output for ``rk.build(decoder={"ab": rk.output("conv", reads="lightness")})``.

    Args:
        decoder: a reference or an instance.
        reads: the factors whose codes the decoder reads; None for all.
        field: the field of the data that it returns; None for the one that has the output's name.
    """
    return OutputSpec(decoder=decoder, reads=(reads,) if isinstance(reads, str) else reads, field=field)


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of a model.

    Attributes:
        name: its name; that of the field where ``rk.build`` got one decoder.
        field_name: the field of the data that it returns.
        decoder: the decoder.
        adapters: the linear map from each factor's code to the decoder, by factor.
        reads: the factors whose codes it reads.
        conditioning: those of them that condition the decoder instead of adding to its tokens.
        signature: of the model's data; None if it was built without.
    """

    name: str
    field_name: str
    decoder: Decoder
    adapters: nn.ModuleDict
    reads: tuple[str, ...]
    conditioning: frozenset[str]
    signature: Signature | None

    @property
    def field(self) -> Field:
        """The field's kind, shape, vocabulary and range.

        Raises:
            BuildError: the model was built without ``data=``.
        """
        return field_of(self.signature, self.field_name)

    def length(self, batch: Batch) -> int | None:
        """Return the number of time steps of the field in this batch; None where the data's length is fixed."""
        varies = self.signature is not None and self.signature[self.field_name].space[0] is None
        return batch[self.field_name].shape[1] if varies else None


def field_of(signature: Signature | None, name: str) -> Field:
    """Return a field of the signature.

    Raises:
        BuildError: there is no signature.
    """
    if signature is None:
        raise BuildError(
            "this model was built without data=, so the kind and shape of its output are not known: "
            "pass data= to rk.build"
        )
    return signature[name]


def missing_output(outputs: Iterable[str], name: str | None, objective: str) -> BuildError:
    """Return the error where a model does not have the one output that is needed."""
    names = tuple(outputs)
    if not names:
        return BuildError(f"this model has no decoder: objective {objective} does not need one")
    known = ", ".join(names)
    if name is None:
        return BuildError(
            f"this needs one output, and the model has several: say which, output=; there are: {known}"
        )
    return BuildError(f"no output named {name!r}; there are: {known}.{nearest(name, names)}")
