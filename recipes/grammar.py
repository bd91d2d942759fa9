"""Grammar from sentences alone: a compound PCFG learns the phrases of expressions, without having seen a tree.

An encoder reads a sentence as one code; the decoder is a neural grammar whose rules depend on that code, and gives the probability
of the sentence summed over all its trees.  Training maximizes the evidence lower bound, from several initial weights, since a
grammar has many optima; the one with the best bound on valid is kept, which needs no gold trees.  The page compares
the brackets of its trees with those of Python's own parser, beside left, right, balanced and random branching, and the bound
of binary trees.  It also has the consensus of all starts: the trees on which they agree most.

Papers: Kim, Dyer and Rush 2019, "Compound Probabilistic Context-Free Grammars for Grammar Induction", arXiv 1906.10225; Shayegh
et al. 2024, "Ensemble Distillation for Unsupervised Constituency Parsing", arXiv 2310.01717 (the consensus).
Data: the expressions of Python's standard library, without names and values; gold brackets are for evaluation only.
Expected: docs/results/trees.md; a step of 32 expressions takes 25 ms on a free core.

    python recipes/grammar.py
    python recipes/grammar.py --data "expressions(kind='arithmetic')"
    python recipes/grammar.py --data sentences --held-out "sentences(part='held-out')" --restarts 4
    python recipes/grammar.py --latent "vq(codes=64, dim=16)"                          # any latent: a mixture of 64 grammars
    python recipes/grammar.py --latent tree --no-pool --decoder stack --restarts 1    # the tree is the code
"""

from typing import Annotated

import typer
from reprkit_structure.evaluators.bracket_f1 import trees_of
from reprkit_structure.evaluators.consensus import consensus_f1
from reprkit_structure.layers.brackets import bracketed
from reprkit_structure.layers.branching import BASELINES

import reprkit as rk
from reprkit.reporting import Section, Table, compare
from reprkit.utils.collectives import rank


def bound(metrics: dict[str, float]) -> float:
    """Return the negative evidence lower bound, nats a sentence; without a KL, the nats of the sentence given its code."""
    return metrics.get("negative_elbo", metrics["nll"])


def drawn_trees(model: rk.Model, data: rk.Dataset, words: list[str], count: int = 12) -> list[str]:
    """Return sentences of a data set with the brackets that the model finds."""
    batch = data.batch(range(min(count, len(data))))
    lengths = batch["x_mask"].sum(1).tolist()
    rows = zip(batch["x"].tolist(), trees_of(model.eval(), batch).cpu(), lengths, strict=True)
    return [bracketed([words[symbol] for symbol in row[:n]], chart) for row, chart, n in rows]


def main(
    data: str = "expressions(longest=9)",
    held_out: Annotated[
        str, typer.Option(help="a further data set to test on, such as constructions that --data lacks")
    ] = "",
    encoder: str = "gru(width=64)",
    latent: str = "gaussian(dim=16, warmup=300)",
    pool: Annotated[bool, typer.Option(help="one code for the whole sentence")] = True,
    decoder: str = "pcfg(nonterminals=10, preterminals=20)",
    objective: str = "reconstruction",
    restarts: Annotated[int, typer.Option(help="initial weights to train from")] = 8,
    steps: int = 2_000,
    batch: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
    out: str = "runs/grammar",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=3.0, buckets=True),
) -> None:
    whole = rk.dataset(data)
    train, valid, test = whole.split(seed=seed, valid=True)
    further = rk.dataset(held_out) if held_out else None
    restarts_table: dict[str, dict[str, float]] = {}
    best, least = None, float("inf")
    for restart in range(restarts):
        model = rk.build(
            data=train,
            factors={"code": rk.factor(encoder, latent=latent, pool=pool)},
            decoder=decoder,
            objective=objective,
            seed=seed + restart,
        )
        name = f"restart-{restart}"
        options = {"lr": lr, "seed": seed + restart, "out": f"{out}/{name}", "resume": resume}
        options |= {"valid": valid, "evaluate_every": 500}
        run = rk.fit(model, train, steps=steps, batch=batch, **options, **launch)
        chosen_by = bound(run.results["reconstruction"])
        measured = rk.evaluate(model, test, "bracket-f1", examples=0)["bracket-f1"]
        restarts_table[name] = {
            "bound_valid": chosen_by,
            "f1": measured["f1"],
            "sentence_f1": measured["sentence_f1"],
        }
        if rank() == 0:
            print(f"{name}: bound on valid {chosen_by:.3f}, F1 on test {measured['f1']:.3f}", flush=True)
        if chosen_by < least:
            best, least = name, chosen_by

    starts = {name: rk.load(f"{out}/{name}/model").eval() for name in restarts_table}
    model = starts[best]
    model.save(f"{out}/model")
    table: dict[str, dict[str, float]] = {}
    for label, part in (("test", test), ("held-out", further)):
        if part is None:
            continue
        results = rk.evaluate(model, part, "reconstruction", "bracket-f1", examples=0)
        found = results["reconstruction"] | results["bracket-f1"]
        table[f"{decoder}, {label}"] = {
            key: value for key, value in found.items() if not key.startswith("f1_")
        }
        table[f"consensus of {restarts}, {label}"] = consensus_f1(list(starts.values()), part)
        table |= {f"{name} branching, {label}": {"f1": found[f"f1_{name}"]} for name in BASELINES}
        table[f"best binary tree, {label}"] = {"f1": found["f1_best"]}
    above = max(BASELINES, key=lambda name: table[f"{name} branching, test"]["f1"])
    own, other = table[f"{decoder}, test"]["f1"], table[f"{above} branching, test"]["f1"]
    verdict = f"{best}, chosen by its bound on valid: F1 {own:.3f} on test, {above} branching {other:.3f}."
    words = whole.facts["words"]
    sections = [
        Section(
            "Restarts",
            [
                Table(
                    [*next(iter(restarts_table.values()))],
                    {k: [*v.values()] for k, v in restarts_table.items()},
                )
            ],
        ),
        Section(
            "Trees of test",
            [Table(["tree"], {str(k): [text] for k, text in enumerate(drawn_trees(model, test, words))})],
        ),
    ]
    page = rk.report(out, table, title="A grammar from sentences alone", verdict=verdict, sections=sections)
    if rank() == 0:
        print(compare(table))
        print(f"\n{verdict}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
