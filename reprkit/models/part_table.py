"""The parts of a model with their widths and parameters: what ``print(model)``, a notebook and a page show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from reprkit.utils.plain_table import html_table, text_table

if TYPE_CHECKING:
    from reprkit.interfaces import Latent
    from reprkit.models.model import Model

ADAPTERS = "adapters"
_HEADINGS = ("part", "reference", "width", "parameters")


@dataclass(frozen=True)
class PartRow:
    """A part of a model.

    Attributes:
        role: "encoder", "latent", "decoder", "objective" or "adapters", with the factor's or output's name if there are several.
        reference: what makes the part.
        width: width of what it reads and returns.
        parameters: their number, trained or frozen; weights shared with a part before are not counted again.
        frozen: whether it has parameters and none of them is trained.
    """

    role: str
    reference: str
    width: str
    parameters: int
    frozen: bool = False


def part_rows(model: Model) -> list[PartRow]:
    """Return a row for each part; the core's linear maps are the row "adapters"."""
    several = len(model.factors) > 1
    rows: list[PartRow] = []
    counted: set[nn.Parameter] = set()

    def add(role: str, reference: str, width: str, parameters: set[nn.Parameter]) -> None:
        own = parameters - counted
        counted.update(own)
        frozen = bool(own) and not any(each.requires_grad for each in own)
        rows.append(PartRow(role, reference, width, sum(each.numel() for each in own), frozen))

    for name, factor in model.factors.items():
        suffix = f" ({name})" if several else ""
        encoder, latent = factor.encoder, factor.latent
        add(f"encoder{suffix}", str(encoder.reference), f"→ {encoder.out_dim}", set(encoder.parameters()))
        add(f"latent{suffix}", str(latent.reference), _latent_width(latent), set(latent.parameters()))
    for name, output in model.outputs.items():
        role = f"decoder ({name})" if len(model.outputs) > 1 else "decoder"
        width = f"{output.decoder.in_dim} → {_shape(output.field.shape)}"
        add(role, str(output.decoder.reference), width, set(output.decoder.parameters()))
    add("objective", model.objective.expression, "", set(model.objective.parameters()))
    rest = set(model.parameters()) - counted
    if rest:
        add(ADAPTERS, "linear, either side of each latent", "", rest)
    return rows


def count_parameters(module: nn.Module) -> int:
    """Count the parameters of a module, trained or frozen; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def latent_names(model: Model) -> str:
    """Return the latents' references, for the title of a progress bar; the objective's where there is no factor."""
    names = [str(factor.latent.reference).removeprefix("reprkit/") for factor in model.factors.values()]
    return ", ".join(names) or model.objective.expression.removeprefix("reprkit/")


def model_text(model: Model) -> str:
    """Return the table of a model's parts as text."""
    return f"{_title(model)}\n{text_table(_HEADINGS, _cells(model), left=3)}"


def model_html(model: Model) -> str:
    """Return the table of a model's parts as HTML."""
    return html_table(_HEADINGS, _cells(model), _title(model))


def _cells(model: Model) -> list[list[str]]:
    rows = [
        [row.role, row.reference, row.width, f"{row.parameters:,}" + (" frozen" if row.frozen else "")]
        for row in part_rows(model)
    ]
    return [*rows, ["whole model", "", "", f"{count_parameters(model):,}"]]


def _title(model: Model) -> str:
    fields = [] if model.signature is None else list(model.signature.items())
    described = "; ".join(
        f"{name}: "
        + (f"{field.vocab} classes" if field.kind == "label" else f"{field.kind} {_shape(field.shape)}")
        for name, field in fields
    )
    return f"Model on {model.device}, {'training' if model.training else 'evaluation'} mode" + (
        f", of data with {described}" if described else ""
    )


def _latent_width(latent: Latent) -> str:
    width = f"{latent.in_dim} → {latent.out_dim}"
    if not latent.vocab:
        return width
    sizes = sorted(set(latent.vocab))
    size = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    slots = f"{len(latent.vocab)} slots, each" if len(latent.vocab) > 1 else "one"
    return f"{width}, {slots} of {size} codes"


def _shape(shape: tuple[int | None, ...]) -> str:
    """Return the sizes as in 8 × 8 × 1, with "any" for one that varies; "" for a single number."""
    return " × ".join("any" if size is None else str(size) for size in shape)
