"""Text to tree: a syntax tree written by the rules of a grammar, from what any text encoder reads.

The encoder reads a sentence, and the latent writes the syntax tree of the Python expression that it describes, rule by rule;
only rules that fit have a probability, so every tree parses.  Trained on pairs; measured by exact trees and labeled bracket F1, on
test and on combinations that training never shows, beside the most frequent tree.

Paper: Yin and Neubig 2018, "TRANX: a transition-based neural abstract syntax parser", arXiv 1810.02720.
Data: sentences of templates, with combinations of operations held out; or one-line docstrings of Python's standard library.
Expected: docs/results/trees.md; a step takes 50 ms on a busy core.

    python recipes/text_to_tree.py
    python recipes/text_to_tree.py --encoder "transformer(width=64, depth=2, heads=4)" --lr 1e-3
    python recipes/text_to_tree.py --data docstrings --held-out "" --latent "derivation(length=40, dropout=0.2)"
"""

from typing import Annotated

import typer
from reprkit_structure.evaluators.exact_tree import sources_of

import reprkit as rk
from reprkit.reporting import Section, Table, compare
from reprkit.utils.collectives import rank

SHOWN = 12


def main(
    data: str = "templates",
    held_out: Annotated[
        str, typer.Option(help="a further data set to test on")
    ] = "templates(part='held-out', size=500)",
    encoder: str = "gru(width=64)",
    latent: str = "derivation(length=28, dropout=0.1)",
    objective: str = "parse",
    steps: int = 800,
    batch: int = 64,
    lr: float = 4e-3,
    seed: int = 0,
    out: str = "runs/text_to_tree",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine(final=0.05)", clip=5.0, buckets=True),
) -> None:
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    tests = {"test": test} | ({"held-out": rk.dataset(held_out)} if held_out else {})
    model = rk.build(data=train, encoder=encoder, latent=latent, objective=objective, seed=seed)
    options = {"evaluators": ["exact-tree"], "valid": valid, "evaluate_every": 400, **launch}
    rk.fit(model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **options)

    table: dict[str, dict[str, float]] = {}
    shown: dict[str, list[str]] = {}
    for name, part in tests.items():
        found = rk.evaluate(model, part, "exact-tree", fit_on=train, examples=0)["exact-tree"]
        table[name] = {key: value for key, value in found.items() if not key.startswith("constant")}
        table[f"{name}, most frequent tree"] = {key: found[f"constant.{key}"] for key in ("exact", "f1")}
        first = part.subset(range(min(SHOWN, len(part))))
        for place, tree in enumerate(sources_of(model, first)):
            shown[f"{name} {place}"] = list(tree)
    sections = [Section("Trees that were written", [Table(["text", "of the data", "written"], shown)])]
    page = rk.report(out, table, title="Texts to trees", sections=sections)
    if rank() == 0:
        print(compare(table))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
