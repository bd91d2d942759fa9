"""A data set of the codes of a trained model, on which a second model can learn a prior."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset, Subset
from reprkit.data.formats.table_columns import number_column
from reprkit.data.formats.tensors import Tensors
from reprkit.data.padding import pad_to_length
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, nearest
from reprkit.registry.constraints import Count
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.interfaces import Latent
    from reprkit.models.model import Model
    from reprkit.types import Code

_INT16_SYMBOLS = 2**15  # symbols that fit into 16 bits


class CodesOf(Tensors):
    """The codes of a data set's examples, encoded once, in evaluation mode, and the data's labels.

    One factor gives field ``x``, several give a field each, by the factor's name.  Discrete latents give tokens (n*q,), the q slots
    of a token next to each other, in reading order; continuous ones a sequence of vectors (n d).  Examples are those of ``data``,
    in its order, and ``split`` divides them as ``data.split`` does: a test example of the first model is a test example of the
    second.

    ``joint=True`` gives each factor's vector in the space where the objective compares factors, as vectors (d,): those of
    ``model.joint_vectors``, such as CLIP's.

    Two-stage models: van den Oord et al. 2017 (arXiv 1711.00937), section 3.3; Rombach et al. 2022 (arXiv 2112.10752), section 3.

    Args:
        model: the folder of a checkpoint, or a model.
        data: a data set, or a reference to one.
        factor: the factor whose codes are used, or several; by default the only one.
        keep: names of further fields of ``data`` that are copied, such as captions.
        standardize: for continuous codes: put mean and standard deviation of every dimension in the signature, as ``columns``, so
            that encoders standardize the codes, and decoders return codes in their own units.  They are those of these examples,
            after ``split`` those of the train part.  Or another ``CodesOf``, whose mean and standard deviation are taken: that of
            the training data.
        joint: give the vectors of ``model.joint_vectors`` instead of codes.
        grid: give the symbols of a latent with one slot as a map (rows columns), for a code with a grid.
        batch: number of examples that are encoded at a time.
        device: device for encoding, to which the model is moved; by default a GPU if there is one, or a given model's own.

    Raises:
        BuildError: several factors and none named, slots of different vocabularies, ``grid`` for a code without one, or ``grid``
            with ``joint``.
        CheckpointError: no such checkpoint.
        DataError: data that the model cannot read, a field of ``keep`` that does not exist or has the name of a code, or
            ``standardize`` for symbols.
    """

    def __init__(
        self,
        model: str | Model,
        data: str | Dataset,
        *,
        factor: str | Sequence[str] | None = None,
        keep: Sequence[str] = (),
        standardize: bool | CodesOf = False,
        grid: bool = False,
        joint: bool = False,
        batch: Count = 256,
        device: str | None = None,
    ) -> None:
        from reprkit.checkpoints.save_load import load
        from reprkit.data.resolve import dataset
        from reprkit.models.factor import resolve_factor

        loaded = load(model) if isinstance(model, str | Path) else model
        target = device or (
            "cuda" if torch.cuda.is_available() and isinstance(model, str | Path) else loaded.device
        )
        self.model, self.source = loaded.to(target), dataset(data)
        single = factor is None or isinstance(factor, str)
        names = [factor] if factor is None or isinstance(factor, str) else list(factor)
        resolved = [resolve_factor(loaded.factors, name, "data set codes") for name in names]
        self.factors = {"x" if single else name: name for name in resolved}
        self._keep, self._grid, self._joint, self._batch = tuple(keep), grid, joint, batch
        if grid and joint:
            raise BuildError(
                "codes: grid=True is for maps of symbols, and joint=True gives vectors: omit one"
            )
        self._standardize = standardize
        self._check_copied_fields()
        values, grids = self._encode()
        signature = {field: self._code_field(field, values, grids.get(field)) for field in self.factors} | {
            name: self.source.signature[name] for name in self._copied_fields()
        }
        super().__init__(values, Signature(signature), name=f"codes of {self.source.name}")
        if isinstance(standardize, CodesOf):
            self.signature = _with_columns(self.signature, standardize.signature, self.factors)
        elif standardize:
            self.signature = self._standardized(torch.arange(len(self)))

    @property
    def factor(self) -> str:
        """The factor of field ``x``, or the first of several."""
        return next(iter(self.factors.values()))

    def split(self, seed: int = 0, *, valid: bool = False, **shares: Any) -> tuple[Dataset, ...]:
        """Return the codes of the parts of ``data.split``; standardized ones by the mean and deviation of the train part."""
        parts = self.source.split(seed, valid=valid, **shares)
        whole, standardize = self, self._standardize
        if isinstance(parts[0], Subset) and parts[0].data is self.source:
            whole = self.fit_statistics(parts[0].indices)
        encoded: list[Dataset] = []
        for part in parts:
            if isinstance(part, Subset) and part.data is self.source:
                subset = Subset(whole, part.indices, part=part.part)
                subset.origin.update(part.origin)
                encoded.append(subset)
            else:  # the data set has a split of its own, whose parts are no subsets of it
                codes = CodesOf(
                    self.model,
                    part,
                    factor=self.factor if "x" in self.factors else list(self.factors),
                    keep=self._keep,
                    standardize=standardize,
                    grid=self._grid,
                    joint=self._joint,
                    batch=self._batch,
                )
                standardize = codes if standardize is True else standardize  # the train part is the first
                encoded.append(codes)
        return tuple(encoded)

    def fit_statistics(self, rows: Int[Tensor, " m"]) -> CodesOf:
        """Return the codes, with ``standardize=True`` standardized by mean and deviation of these examples (m,)."""
        if self._standardize is not True:
            return self
        fitted = copy.copy(self)
        fitted.signature = self._standardized(rows)
        return fitted

    def _copied_fields(self) -> list[str]:
        """The fields of the data that are copied: its labels, and those of ``keep``."""
        return list(dict.fromkeys([*self.source.signature.label_fields(), *self._keep]))

    def _check_copied_fields(self) -> None:
        for name in self._keep:
            if name not in self.source.signature:
                known = list(self.source.signature)
                raise DataError(
                    f"keep: the data has no field {name!r}.{nearest(name, known)}\n  its fields: {', '.join(known)}"
                )
        for name in self._copied_fields():
            if name in self.factors:
                raise DataError(
                    f"field {name!r} of the data has the name of a code: the codes are {', '.join(self.factors)}; rename the factor"
                    if name != "x"
                    else "keep: field 'x' is the code here; name the factor as a list, factor=[...], to give the code its own name"
                )

    def _code_field(self, field: str, values: Mapping[str, Tensor], grid: tuple[int, ...] | None) -> Field:
        from reprkit.models.priors import code_field

        if self._joint:
            return Field(kind="vector", shape=tuple(values[field].shape[1:]))
        latent = self.model.latent(self.factors[field])
        if grid is not None:
            return Field(kind="map", shape=grid, vocab=(latent.vocab or (0,))[0])
        varies = f"{field}_mask" in values
        width = values[field].shape[1] // (1 if latent.vocab is None else len(latent.vocab))
        return code_field(latent, None if varies else width)

    def _standardized(self, rows: Tensor) -> Signature:
        """Return the signature with mean and standard deviation of the codes of these rows."""
        fields = dict(self.signature)
        for name, factor in self.factors.items():
            if fields[name].discrete:
                raise DataError(
                    f"standardize: the code of factor {factor} holds symbols, which have no mean: omit standardize="
                )
            mask = self._values.get(f"{name}_mask")
            code = self._values[name][rows].double()
            code = code.reshape(-1, code.shape[-1]) if mask is None else code[mask[rows]]
            columns = tuple(number_column(f"{number}", each.numpy()) for number, each in enumerate(code.T))
            fields[name] = replace(fields[name], columns=columns)
        return Signature(fields)

    @torch.no_grad()
    def _encode(self) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
        """Return the values of all fields, and the grids of the codes that are maps."""
        from reprkit.models.priors import code_to_batch

        parts: dict[str, list[Tensor]] = {}
        grids: dict[str, tuple[int, ...]] = {}
        with eval_mode(self.model):
            for batch in self.source.batches(self._batch):
                codes: Mapping[str, Code] = (
                    {} if self._joint else self.model.encode(batch, factors=list(self.factors.values()))
                )
                fields = {
                    name: batch[name]
                    for copied in self._copied_fields()
                    for name in (copied, f"{copied}_mask")
                    if name in batch
                }
                for field, factor in self.factors.items():
                    if self._joint:
                        fields[field] = self.model.joint_vectors(batch, factor)
                        continue
                    latent, code = self.model.latent(factor), codes[factor]
                    made = code_to_batch(code, latent)
                    if self._grid:
                        grids[field] = map_shape(code, latent, factor)
                        made = {"x": made["x"].unflatten(1, grids[field])}
                    if latent.vocab:
                        made["x"] = made["x"].to(
                            torch.int16 if max(latent.vocab) < _INT16_SYMBOLS else torch.int32
                        )
                    fields |= {field + name.removeprefix("x"): value for name, value in made.items()}
                for name, value in fields.items():
                    parts.setdefault(name, []).append(value.detach().cpu())
        return {name: _concatenate(values) for name, values in parts.items()}, grids


def map_shape(code: Code, latent: Latent, factor: str) -> tuple[int, ...]:
    """Return rows and columns of a code of symbols.

    Raises:
        BuildError: a code without rows and columns, or with several slots.
    """
    grid = code.grid or ()
    if latent.vocab is None or len(latent.vocab) != 1 or len(grid) != 2 or math.prod(grid) != code.z.shape[1]:
        raise BuildError(
            f"grid=True: the code of factor {factor} is no map of symbols: it needs one slot of a discrete latent, and as many "
            f"tokens as its grid has cells (here {code.z.shape[1]} tokens, grid {code.grid})"
        )
    return grid


def _with_columns(signature: Signature, other: Signature, names: Iterable[str]) -> Signature:
    """Return the signature with mean and standard deviation of the codes of another one."""
    fields = dict(signature)
    for name in names:
        columns = other[name].columns
        if not columns or len(columns) != fields[name].channels:
            raise DataError(
                f"standardize: the other codes have no mean and standard deviation of {fields[name].channels} dimensions of "
                f"{name!r}: make them with standardize=True, from the same model"
            )
        fields[name] = replace(fields[name], columns=columns)
    return Signature(fields)


def _concatenate(values: list[Tensor]) -> Tensor:
    """Concatenate batches, padding all to the longest with zeros."""
    if values[0].ndim == 1 or len({value.shape[1:] for value in values}) == 1:
        return torch.cat(values)
    longest = max(value.shape[1] for value in values)
    return torch.cat([pad_to_length(value, longest) for value in values])
