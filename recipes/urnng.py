"""Unsupervised recurrent neural network grammar: a parser and a generator that builds the tree while it writes.

The parser gives a distribution over the binary trees of a sentence; the generator writes the sentence on a stack, along a drawn
tree whose actions it also predicts.  Both are trained for the evidence lower bound: by policy gradient, with the mean of the
other samples as baseline, an exact entropy, and annealing.  From random weights this ends at a branching baseline, so it starts
from the trees of a grammar: a compound PCFG is trained first, without gold trees; parser and generator learn its trees; then
both go on without them; at last the parser is kept, as the authors' code does after two epochs.

Paper: Kim, Rush, Yu, Kuncoro, Dyer and Melis 2019, "Unsupervised recurrent neural network grammars", arXiv 1904.03746; the start
as in Kim, Dyer and Rush 2019, arXiv 1906.10225, section 4.3.
Data: the expressions of Python's standard library, without names and values; gold brackets are for evaluation only.
Expected: docs/results/trees.md.

    python recipes/urnng.py
    python recipes/urnng.py --grammar runs/grammar/model          # trees of a grammar that recipe grammar has trained
    python recipes/urnng.py --before 0                            # from random weights
"""

from typing import Annotated

import typer
from reprkit_structure.data.induced import InducedTrees
from reprkit_structure.layers.branching import BASELINES

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank


def main(
    data: str = "expressions(longest=9)",
    grammar: Annotated[str, typer.Option(help="folder of a model that finds trees; none: train one")] = "",
    grammar_decoder: str = "pcfg(nonterminals=10, preterminals=20)",
    grammar_steps: Annotated[int, typer.Option(help="steps of the grammar, where one is trained")] = 500,
    encoder: str = "gru(width=64)",
    latent: str = "tree(gradient='none', prior='decoder', warmup=100)",
    decoder: str = "stack(width=64)",
    objective: str = "urnng(samples=4, warmup=100)",
    before: Annotated[int, typer.Option(help="steps on the grammar's trees; 0: random weights")] = 300,
    together: Annotated[int, typer.Option(help="steps of parser and generator")] = 200,
    steps: Annotated[int, typer.Option(help="steps of the generator alone")] = 100,
    batch: int = 32,
    lr: float = 3e-3,
    lr_together: Annotated[float, typer.Option(help="learning rate of parser and generator together")] = 5e-4,
    seed: int = 0,
    out: str = "runs/urnng",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(clip=3.0, buckets=True),
) -> None:
    train, _, test = rk.dataset(data).split(seed=seed, valid=True)
    options = {"batch": batch, "seed": seed, "resume": resume, **launch}
    table: dict[str, dict[str, float]] = {}

    def measure(name: str, model: rk.Model) -> None:
        found = rk.evaluate(model.eval(), test, "bracket-f1", examples=0)["bracket-f1"]
        table[name] = {key: found[key] for key in ("f1", "precision", "recall", "sentence_f1")}
        for other in (*BASELINES, "best"):
            table.setdefault(
                f"{other} tree" if other == "best" else f"{other} branching", {"f1": found[f"f1_{other}"]}
            )
        if rank() == 0:
            print(f"{name}: F1 on test {found['f1']:.3f}", flush=True)

    def train_stage(
        model: rk.Model, source: rk.Dataset, stage: str, count: int, rate: float, *frozen: str
    ) -> rk.Model:
        for step in rk.loop(
            model, source, steps=count, lr=rate, out=out, stage=stage, freeze=frozen, **options
        ):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(25):
                step.log(losses)
        model.save(f"{out}/{stage}/model")
        return model

    def build(objective: str, start: rk.Model | None = None) -> rk.Model:
        parts = {"encoder": encoder, "latent": latent, "decoder": decoder}
        return rk.build(data=train, objective=objective, seed=seed, start=start, **parts)

    start = None
    if before:
        if grammar:
            teacher = rk.load(grammar)
        else:
            code = rk.factor(encoder, latent="gaussian(dim=16, warmup=300)", pool=True)
            teacher = rk.build(data=train, factors={"code": code}, decoder=grammar_decoder, seed=seed)
            train_stage(teacher, train, "grammar", grammar_steps, lr)
        measure("grammar", teacher)
        start = build("given-trees")
        measure("random weights", start)
        train_stage(start, InducedTrees(train, teacher), "before", before, lr)
        measure("on the grammar's trees", start)
    model = build(objective, start)
    train_stage(model, train, "together", together, lr_together)
    measure("parser and generator together", model)
    parser = ("encoder", "latent", "adapters")
    train_stage(model, train, "generator", steps, lr_together, *parser)
    measure("generator alone", model)

    above = max(BASELINES, key=lambda name: table[f"{name} branching"]["f1"])
    verdict = f"F1 {table['generator alone']['f1']:.3f} on test, {above} branching {table[f'{above} branching']['f1']:.3f}."
    page = rk.report(out, table, title="An unsupervised recurrent neural network grammar", verdict=verdict)
    if rank() == 0:
        print(compare(table))
        print(f"\n{verdict}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
