"""Text to Python expressions from few pairs and many sentences: the tree is the code of a variational autoencoder.

An encoder reads a sentence; the latent writes the syntax tree of an expression by the rules of Python's grammar, so that
every tree that it writes parses; a decoder writes the sentence again from the tree alone.  Few sentences have a tree.
After supervised training the others are used, too: a drawn tree is rewarded by how well the sentence is written from it, and by
a language model of trees.  The table compares this with going on supervised, for as much processor time.

Paper: Yin, Zhou, He and Neubig 2018, "StructVAE: tree-structured latent variable models for semi-supervised semantic parsing",
arXiv 1806.07832.  Here trees are sampled, where the paper takes those of a beam search.
Data: sentences of templates, with combinations held out; or one-line docstrings of Python's standard library.
Expected: texts alone above supervised training at equal processor time (docs/results/trees.md); four minutes a seed on a busy core,
where a step with both batches takes 0.5 s, and a supervised one 0.13 s.

    python recipes/structvae.py --repeats 5
    python recipes/structvae.py --data docstrings --held-out "" --latent "derivation(length=40, dropout=0.2)"
    python recipes/structvae.py --objective "structvae(baseline='learned')"                # the paper's baseline
"""

import time
from statistics import fmean, stdev
from typing import Annotated, Any

import typer
from reprkit_structure.evaluators.exact_tree import sources_of

import reprkit as rk
from reprkit.reporting import Section, Table, compare
from reprkit.utils.collectives import rank

ARMS = ("before", "supervised", "with texts alone")


def main(
    data: str = "templates(size=3000)",
    held_out: Annotated[
        str, typer.Option(help="a further data set to test on")
    ] = "templates(part='held-out', size=300)",
    labelled: Annotated[float, typer.Option(help="share of the training texts whose tree is known")] = 0.1,
    encoder: str = "gru(width=64)",
    latent: str = "derivation(length=28, dropout=0.2)",
    decoder: str = "pointer(width=64, copy=False, reader=0)",
    objective: str = "structvae(samples=3, baseline='others', unlabelled=0.3)",
    before: Annotated[int, typer.Option(help="supervised steps, before both")] = 600,
    steps: Annotated[int, typer.Option(help="steps with texts alone, too")] = 120,
    alone: Annotated[int, typer.Option(help="supervised steps that take as much processor time")] = 480,
    limit: Annotated[int, typer.Option(help="number of test texts")] = 500,
    batch: int = 32,
    lr: float = 4e-3,
    repeats: Annotated[int, typer.Option(help="number of seeds, from --seed on")] = 1,
    seed: int = 0,
    out: str = "runs/structvae",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine(final=0.1)", clip=5.0, buckets=True),
) -> None:
    whole, further = rk.dataset(data), rk.dataset(held_out) if held_out else None
    rows: dict[str, dict[str, list[float]]] = {}
    shown: dict[str, list[str]] = {}

    def train_arm(model: rk.Model, few: rk.Dataset, texts: rk.Dataset | None, **options: Any) -> float:
        """Train on pairs, and on texts alone if there are any; return the seconds of processor time."""
        began, pairs = time.process_time(), (few, min(batch, len(few)))
        more = {"batch": pairs[1]} if texts is None else {"batch": batch, "extra": {"pairs": pairs}}
        for step in rk.loop(
            model, few if texts is None else texts, resume=resume, **more, **options, **launch
        ):
            losses = step.model(step.extra.get("pairs", step.batch))
            step.backward(losses.total)
            if texts is not None:  # without their trees
                losses = step.model({key: step.batch[key] for key in ("x", "x_mask")})
                step.backward(losses.total)
            step.update()
            if step.every(50):
                step.log(losses)
        return time.process_time() - began

    for number in range(seed, seed + repeats):
        train, _, test = whole.split(seed=number, valid=True)
        few = train.subset(range(round(labelled * len(train))))
        tests = {"test": test.subset(range(min(limit, len(test))))}
        tests |= {} if further is None else {"held-out": further}
        parts = {"encoder": encoder, "latent": latent, "decoder": decoder, "objective": objective}
        options = {"out": f"{out}/{number}", "seed": number}
        models = {"before": rk.build(data=train, seed=number, **parts)}
        seconds = {
            "before": train_arm(models["before"], few, None, steps=before, lr=lr, stage="before", **options)
        }
        for arm, texts, count in ((ARMS[1], None, alone), (ARMS[2], train, steps)):
            models[arm] = rk.build(data=train, start=models["before"], seed=number, **parts)
            stage = arm.replace(" ", "-")
            seconds[arm] = train_arm(models[arm], few, texts, steps=count, lr=lr / 2, stage=stage, **options)
            models[arm].save(f"{out}/{number}/{stage}/model")
        for arm, model in models.items():
            for label, part in tests.items():
                found = rk.evaluate(model, part, "exact-tree", fit_on=few, examples=0)["exact-tree"]
                row = rows.setdefault(f"{arm}, {label}", {})
                for name, value in (found | {"seconds": seconds[arm]}).items():
                    row.setdefault(name, []).append(value)
        for label, part in tests.items():
            for place, tree in enumerate(sources_of(models[ARMS[2]], part.subset(range(min(8, len(part)))))):
                shown[f"{number}, {label}, {place}"] = list(tree)

    table: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        table[name] = {key: fmean(values) for key, values in row.items()}
        table[name]["deviation"] = stdev(row["exact"]) if repeats > 1 else 0.0
    both = [rows[f"{arm}, test"]["exact"] for arm in ARMS[1:]]
    verdict = (
        f"exact trees on test, mean of {repeats}: supervised alone {table[f'{ARMS[1]}, test']['exact']:.3f}, with texts alone "
        f"{table[f'{ARMS[2]}, test']['exact']:.3f}; above it in {sum(b > a for a, b in zip(*both, strict=True))} of {repeats}."
    )
    sections = [Section("Trees that were written", [Table(["text", "of the data", "written"], shown)])]
    page = rk.report(out, table, title="Texts and expressions", verdict=verdict, sections=sections)
    if rank() == 0:
        print(compare(table))
        print(f"\n{verdict}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
