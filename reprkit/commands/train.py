"""``reprkit train``: build a model from four parts, train, evaluate and save it, without a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json, printable
from reprkit.training.launch import Launch, add_flags
from reprkit.training.sweep import sweep_flags

# Encoder and decoder of each kind of data, where none are given.
_DENSE = ("mlp(widths=(256, 128))", "mlp(widths=(128, 256))")
_RECURRENT = ("gru(width=128)", "gru(width=128, causal=False)")
_NETWORKS = {"sequence": _RECURRENT, "tokens": _RECURRENT}
# Measures that are taken where none are named; those that do not suit model or data are left out.
_MEASURES = ("reconstruction", "linear-probe", "knn", "codebook", "projection")
_NONE = "none"


def train(
    data: Annotated[str, typer.Option(help="A data set, or a file or folder of data.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder: model, metrics, page.")],
    encoder: Annotated[
        str | None, typer.Option(help="Encoder; by default one for the kind of data.", show_default=False)
    ] = None,
    latent: Annotated[str, typer.Option(help="Latent.")] = "continuous(dim=16)",
    decoder: Annotated[
        str | None,
        typer.Option(
            help="Decoder, or none; by default one for the kind of data if the objective needs it.",
            show_default=False,
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="Objective, or a sum such as 'reconstruction + 0.1 * contrastive'.")
    ] = "reconstruction",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 2_000,
    batch: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of split, weights, order and draws.")] = 0,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="An evaluator, taken on the test part; repeatable. By default the usual ones.",
            show_default=False,
        ),
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Also take the first measure on the validation part, each time after this many steps.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in DIR.")] = False,
    json: JsonOption = False,
    launch: Launch = Launch(schedule="cosine"),  # noqa: B008 (read only)
) -> None:
    """Train a model from parts by name, evaluate it and write its page.

    The same as rk.build and rk.fit. The data is split by the seed into train, valid and test; measures are taken on test.
    """
    print("train: reading the data", file=sys.stderr, flush=True)  # importing torch and reading take long
    import reprkit as rk
    from reprkit.models.weighted_sum import objective_from, with_reconstruction
    from reprkit.utils.collectives import is_main

    for reference in measure or ():
        rk.create("evaluator", reference)  # a mistyped one fails before training
    parts, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    kind = parts.signature["x"].kind if "x" in parts.signature else "vector"
    usual = _NETWORKS.get(kind, _DENSE)
    signature = parts.signature
    if (
        decoder is None
        and "decoder" in with_reconstruction(objective_from(objective, signature), signature).needs
    ):
        decoder = usual[1]
    model = rk.build(
        data=parts,
        encoder=encoder or usual[0],
        latent=latent,
        decoder=None if decoder == _NONE else decoder,
        objective=objective,
        seed=seed,
    )
    measures = tuple(measure or _MEASURES)
    rk.fit(
        model,
        parts,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        out=out,
        resume=resume,
        valid=valid if evaluate_every else None,
        probe_data=valid if launch.get("probes") else None,
        evaluators=measures[:1],
        evaluate_every=evaluate_every,
        **launch,
    )
    results = rk.evaluate(model, test, *measures, fit_on=parts, leave_out=True)
    page = rk.report(out, results)
    if not is_main():
        return
    if json:
        found: dict[str, Any] = {"out": str(out), "model": str(out / "model"), "page": str(page)}
        emit_json({**found, "results": results.to_json(), "left_out": results.left_out})
        return
    from reprkit.reporting import compare

    print(compare({latent: results}))
    print(printable(f"model: {out / 'model'}"))
    print(printable(f"page: {page}"))


command = sweep_flags(add_flags(train), emit_json)
