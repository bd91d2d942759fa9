"""The BERT figures of docs/results/text.md: what pre-training is worth for telling a package's section with 500 labels.

    reprkit text fetch debian && python tests/benchmarks/figures_bert.py [--steps 18000] [--width 128] [--depth 2]

Pre-trains as recipes/bert.py does, on the training part of all descriptions in the 20 largest sections, and keeps the model in
OUT (a second call judges only).  Then, by several draws of 500 labels of the training part: linear probe and fine-tuning of that
network, of the same network from scratch, and TF-IDF with logistic regression.  How each is fitted is chosen, for each by itself,
by its accuracy on valid with the first draw; every figure is on test.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

import reprkit as rk
from reprkit.evaluation.label_subset import label_subset

CHOICES = {
    "TF-IDF": [f"tf-idf(C={C})" for C in (1.0, 10.0, 100.0)],
    "linear probe": [f"linear-probe(C={C})" for C in (0.01, 0.1, 1.0)],
    "fine-tuned": [
        f"finetune(steps=300, batch=32, lr={lr}, start={start!r})"
        for lr, start in ((1e-3, "zeros"), (3e-3, "zeros"), (1e-3, "probe"))
    ],
}


def built(given: argparse.Namespace, train: rk.Dataset) -> rk.Model:
    """The network from scratch."""
    return rk.build(
        data=train,
        encoder=f"bert(width={given.width}, depth={given.depth}, heads=4, positions={given.length}, dropout={given.dropout})",
        latent=f"continuous(dim={given.width})",
        decoder=f"bert(width={given.width})",
        objective=f"denoising(corruption='whole-words(ratio={given.ratio})', on='hit')",
        seed=given.seed,
    )


def pretrained(given: argparse.Namespace, train: rk.Dataset) -> rk.Model:
    """The network after masked-language modelling, of OUT if it is there."""
    place = Path(given.out, "model")
    if place.is_dir():
        print(f"{place} is there already: not trained anew")
        return rk.load(str(place)).eval()
    model = built(given, train)
    how = {
        "schedule": "cosine",
        "warmup": given.steps // 20,
        "clip": 1.0,
        "weight_decay": 0.01,
        "buckets": True,
    }
    for step in rk.loop(
        model, train, steps=given.steps, batch=given.batch, lr=given.lr, seed=given.seed, out=given.out,
        resume=given.resume, **how,
    ):  # fmt: skip
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    model.save(place)
    return model.eval()


def accuracy(model: rk.Model, judge: str, data: rk.Dataset, known: rk.Dataset) -> float:
    """On ``data``, in [0, 1], fitted on ``known``."""
    (found,) = rk.evaluate(model, data, judge, fit_on=known, examples=0).values()
    return float(found["accuracy"])


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", default="fetched")
    parser.add_argument("--vocab", type=int, default=4000)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--ratio", type=float, default=0.15)
    parser.add_argument("--steps", type=int, default=18_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the pre-training")
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2], help="seeds of the labels")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", default="runs/figures/bert")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = f"byte-pair(vocab={given.vocab}, lower=True)"
    whole = rk.dataset(
        f"debian(index={given.index!r}, part='whole', sections=20, tokenizer={tokenizer!r}, length={given.length})"
    )
    train, valid, test = whole.split(seed=given.seed, valid=True)
    print(f"train {len(train):,}, valid {len(valid):,}, test {len(test):,}", flush=True)
    fresh, taught = built(given, train).eval(), pretrained(given, train)
    known = {draw: label_subset(train, given.labels, seed=draw) for draw in given.draws}
    rows = {}
    for name, model, kind in (
        ("TF-IDF", fresh, "TF-IDF"),
        ("from scratch, linear probe", fresh, "linear probe"),
        ("pre-trained, linear probe", taught, "linear probe"),
        ("from scratch, fine-tuned", fresh, "fine-tuned"),
        ("pre-trained, fine-tuned", taught, "fine-tuned"),
    ):
        tried = {judge: accuracy(model, judge, valid, known[given.draws[0]]) for judge in CHOICES[kind]}
        judge = max(tried, key=lambda each: tried[each])
        seeded = judge if kind != "fine-tuned" else judge[:-1] + ", seed={})"
        found = [accuracy(model, seeded.format(draw), test, known[draw]) for draw in given.draws]
        rows[name] = {"chosen": judge, "valid": tried, "test": found}
        each = ", ".join(f"{value:.1%}" for value in found)
        print(f"{name:30} {statistics.mean(found):.1%} ({each})   by valid: {judge}", flush=True)
    path = Path(given.out, "figures.json")
    path.write_text(json.dumps({"arguments": vars(given), "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
