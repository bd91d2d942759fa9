"""What each column of a row, or each pixel of a picture, adds to an anomaly score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.data.padding import pad_to_length
from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.evaluation.anomaly import Anomaly, Score
from reprkit.evaluation.encoding import Session, batches, use_session
from reprkit.models.grid import from_tokens
from reprkit.models.isolation import isolate

if TYPE_CHECKING:
    import pandas as pd

    from reprkit.data.base import Dataset
    from reprkit.models.model import Model
    from reprkit.reporting.page import Block
    from reprkit.types import Batch


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each part of an example adds to its anomaly score.

    Attributes:
        score: the name of the score.
        values: by column of a table (n c), element of a vector (n d), pixel (n h w), or time step (n t); a row's sum is its score.
            A missing value, and padding, adds 0.
        field: of the output.
        observed: the data, in its own units and layout (n ...).
        expected: what the model returns for it, likewise; of "error-under-noise" the mean over its draws.
        known: of a table with gaps, False at elements whose value is missing (n d).
    """

    score: str
    values: np.ndarray
    field: Field
    observed: np.ndarray
    expected: np.ndarray
    known: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        """The columns of a table; the numbers of a vector's elements."""
        if self.field.kind != "vector":
            raise BuildError(
                f"only the columns of rows have names, and the data is {self.field.kind}: `values` (--maps FILE of reprkit score) "
                "holds what each part adds"
            )
        return [column.name for column in self.field.columns] or [
            str(index) for index in range(self.values.shape[1])
        ]

    def frame(self, top: int | None = None) -> pd.DataFrame:
        """Return the rows of a table, column by column, those that add most first: row, column, value, expected, contribution.

        ``value`` and ``expected`` are in the table's own units; of a category, its class and the most probable one.

        Args:
            top: columns of each row; None for all.

        Raises:
            BuildError: the data is no vector.
        """
        import pandas as pd

        names = self.names
        value, expected = self._decoded(self.observed, self.known), self._decoded(self.expected, None)
        lines = []
        for row, added in enumerate(self.values):
            for place in np.argsort(-added, kind="stable")[:top]:
                name = names[place]
                pair = (value[name].iloc[row], expected[name].iloc[row])
                lines.append((row, name, *pair, float(added[place])))
        return pd.DataFrame(lines, columns=["row", "column", "value", "expected", "contribution"])

    def blocks(self, titles: Sequence[str], top: int = 5) -> list[Block]:
        """Return what a page shows of these examples: a table of columns each, maps of pictures, or curves over time.

        Args:
            titles: one for each example.
            top: columns in a table.
        """
        from reprkit.reporting.figures import Curves, Images
        from reprkit.reporting.page import Note, Table

        if self.field.kind == "vector":
            frame = self.frame(top)
            found: list[Block] = []
            for row, title in enumerate(titles):
                own = frame[frame["row"] == row]
                cells = own[["value", "expected", "contribution"]].astype(object)
                rows = dict(zip(own["column"], cells.where(cells.notna(), None).values.tolist(), strict=True))
                found += [Note(title), Table(["value", "expected", "contribution"], rows, corner="column")]
            return found
        caption = "; ".join(titles)
        if self.field.kind == "image":
            maps = self.values[..., None].astype(np.float32)
            pair = {"picture": self.observed, "expected": self.expected}
            return [
                Images(
                    title="Pictures and what the model expects",
                    rows=pair,
                    span=self.field.range,
                    caption=caption,
                ),
                Images(
                    title="What each pixel adds to the score", rows={"contribution": maps}, colours="magma"
                ),
            ]
        flat = self.values.reshape(len(self.values), -1)
        steps = list(range(flat.shape[1]))
        lines = {title: (steps, row.tolist()) for title, row in zip(titles, flat, strict=True)}
        return [
            Curves(title="What each step adds to the score", lines=lines, xlabel="step", ylabel=self.score)
        ]

    def _decoded(self, x: np.ndarray, known: np.ndarray | None) -> pd.DataFrame:
        from reprkit.data.formats.frame_columns import decode_rows, numbered_frame

        if not self.field.columns:
            return numbered_frame(x)
        mask = None if known is None else torch.from_numpy(known)
        return decode_rows(torch.tensor(x), self.field.columns, mask)


@torch.no_grad()
def anomaly_contributions(
    model: Model,
    data: Dataset,
    score: Score = "nll",
    *,
    output: str | None = None,
    batch: int = 256,
    seed: int = 0,
    progress: bool | None = None,
    **arguments: Any,
) -> Contributions:
    """Return what each column, pixel or time step adds to the score of ``anomaly_scores``; no labels needed.

    Args:
        model: a trained model.
        data: the examples, such as the most unusual ones: ``data.subset(indices)``.
        score: "nll", "error" or "error-under-noise"; the others are no sum over elements.
        output: the output, where the model has several; their contributions together are the score.
        batch: examples at a time.
        seed: of random draws: "error-under-noise" of fewer examples has other draws.
        progress: as in ``rk.evaluate``.
        arguments: of ``Anomaly``, such as ``corruption=``.

    Raises:
        BuildError: a score, or a likelihood, that is no sum over elements; symbols have no "error".
        PartArgumentError: an unknown score, or a wrong argument.
    """
    evaluator = Anomaly(score, seed=seed, **arguments)
    if score in ("code-nll", "neighbors"):
        raise BuildError(
            f"the score {score!r} is of the code, so no element of the data has a part in it: use 'nll', 'error' or "
            "'error-under-noise'"
        )
    with isolate(model, seed), use_session(Session(batch, progress, "anomaly")):
        return contributions_of(evaluator, model, batches(data, "contributions"), output)


@torch.no_grad()
def contributions_of(
    evaluator: Anomaly, model: Model, data: Iterable[Batch], output: str | None = None
) -> Contributions:
    """Return what each part of the examples of these batches adds to the evaluator's score.

    Raises:
        BuildError: as ``anomaly_contributions``.
    """
    to = model.get_output(output)
    field = to.field
    generator, pipeline = torch.Generator().manual_seed(evaluator.seed), evaluator.bound_corruption(model)
    values, observed, expected, known = [], [], [], []
    for batch in data:
        added, estimate, grid = evaluator.elements(model, batch, output, pipeline, generator)
        x = batch[to.field_name]
        values.append(_by_part(from_tokens(added, grid, field), field).cpu())
        expected.append(from_tokens(estimate, grid, field).cpu())
        observed.append(x.cpu())
        if field.kind == "vector":
            known.append(batch.get(f"{to.field_name}_mask", torch.ones_like(x, dtype=torch.bool)).cpu())
    present = torch.cat(known).numpy() if known else None
    return Contributions(
        score=evaluator.score,
        values=_join(values).numpy(),
        field=field,
        observed=_join(observed).numpy(),
        expected=_join(expected).numpy(),
        known=None if present is None or present.all() else present,
    )


def _by_part(added: Tensor, field: Field) -> Float[Tensor, "b ..."]:
    """Sum what elements add over the classes of a column, the channels of a pixel, or those of a time step."""
    if field.columns and field.kind == "vector":
        return torch.stack([added[:, elements].sum(1) for _, elements in field.column_slices], 1)
    return added.sum(-1) if field.kind in ("image", "sequence") else added


def _join(pieces: list[Tensor]) -> Tensor:
    """Join batches (b ...), padded with zeros at the end of the second axis where their lengths differ."""
    if pieces[0].ndim < 2:
        return torch.cat(pieces)
    longest = max(piece.shape[1] for piece in pieces)
    return torch.cat([pad_to_length(piece, longest) for piece in pieces])
