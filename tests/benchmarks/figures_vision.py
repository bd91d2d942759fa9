"""The figures of docs/results/vision.md on what self-supervision buys: MAE and SimCLR on MNIST's 5,000 digits, few labels and all.

    python tests/benchmarks/figures_vision.py                              both, five seeds (about 75 minutes on one core)
    python tests/benchmarks/figures_vision.py --only mae --seeds 10 --seeds 11
    python tests/benchmarks/figures_vision.py --table                      the rows of what is there, and nothing is run

Protocol: split by seed into 4,000 train, 500 valid, 500 test, classes equal; pre-trained on train without labels; k-NN (five
neighbours), linear probe (logistic regression) and full fine-tuning fitted on 50, 100, 200, 1,000 or all 4,000 labelled
examples of train, as many of each class; reported on test.  The same network: trained, trained without masking (MAE only),
untrained; fine-tuning the untrained one is training from scratch.  Settings were chosen on the valid part of seed 100, which
is not among the seeds reported (10 and on); the rate and start of fine-tuning for each arm by itself.  A seed that is in the
file already is not run again.

Needs: reprkit-vision with mlxtend.
"""

import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk

SEEDS = [10, 11, 12, 13, 14]
LABELS = (50, 100, 200, 1_000)
NET = {"encoder": "vit(patch=7, width=96, depth=3)", "latent": "continuous(dim=96)"}
DECODER = "vit(patch=7, width=64, depth=1)"
VIEWS = "simclr-views(strength=0.5, scale=(0.5, 1.0), flip=False, blur=False)"
MASKED = "masked(ratio=0.75, normalize=True)"
MAE = {"steps": 1_200, "batch": 256, "lr": 2e-3, "warmup": 60, "weight_decay": 0.05}
SIMCLR = {"steps": 600, "batch": 256, "lr": 2e-3, "warmup": 30}
# How each arm is fine-tuned, chosen on valid of seed 100 from rates 3e-4, 1e-3 and both starts.
TUNED = "finetune(steps=200, lr=3e-4, start='probe')"
SCRATCH = "finetune(steps=200, lr=1e-3)"


def judged(model, train, test, seed, tune):
    measures = ("knn", "linear-probe", *([tune] if tune else []))
    judge = rk.create("evaluator", "few-labels", labels=LABELS, measures=measures, seed=seed)
    found = rk.evaluate(model, test, judge, fit_on=train, examples=0)["few-labels"]
    return {name: {n: part["accuracy"] for n, part in parts.items()} for name, parts in found.items()}


def trained(train, objective, seed, settings, **parts):
    model = rk.build(data=train, objective=objective, seed=seed, **NET, **parts)
    options = {"schedule": "cosine", "seed": seed, "progress": False, **settings}
    return rk.fit(model, train, **options).model


def mae(seed):
    train, _, test = rk.dataset("mnist").split(seed=seed, valid=True)
    untrained = rk.build(data=train, objective=MASKED, decoder=DECODER, seed=seed, **NET).eval()
    arms = {
        "raw pixels": ("raw", None),
        "untrained, from scratch": (untrained, SCRATCH),
        "unmasked": (trained(train, "reconstruction", seed, MAE, decoder=DECODER), TUNED),
        "masked": (trained(train, MASKED, seed, MAE, decoder=DECODER), TUNED),
    }
    return {name: judged(model, train, test, seed, tune) for name, (model, tune) in arms.items()}


def simclr(seed):
    train, _, test = rk.dataset("mnist").split(seed=seed, valid=True)
    objective = rk.create("objective", "contrastive", temperature=0.2, views=VIEWS, dim=64)
    untrained = rk.build(data=train, objective=objective, seed=seed, **NET).eval()
    objective = rk.create("objective", "contrastive", temperature=0.2, views=VIEWS, dim=64)
    arms = {
        "untrained": (untrained, None),
        "contrastive": (trained(train, objective, seed, SIMCLR), TUNED),
    }
    return {name: judged(model, train, test, seed, tune) for name, (model, tune) in arms.items()}


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def rows(runs):
    """Markdown: a row for each arm and measure, mean ± standard deviation over the seeds."""
    counts = [*map(str, LABELS), "all"]
    lines = [f"| network | measure | {' | '.join(counts)} |", "|---" * (len(counts) + 2) + "|"]
    for arm in next(iter(runs.values())):
        for measure in next(iter(runs.values()))[arm]:
            cells = []
            for count in counts:
                values = [run[arm][measure][count] for run in runs.values()]
                cells.append(f"{statistics.mean(values):.3f} ± {spread(values):.3f}")
            lines.append(f"| {arm} | {measure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(runs, one, others, more=None, measures=("knn", "linear-probe", "finetune")):
    """Points that one arm is above others, paired by seed: mean, standard deviation, and each; ``more`` holds other runs' arms."""
    lines = []
    for other in others:
        for measure in measures:
            for count in (*map(str, LABELS), "all"):
                pairs = []
                for seed, run in runs.items():
                    against = run.get(other) or (more or {}).get(seed, {}).get(other, {})
                    if measure in run[one] and measure in against:
                        pairs.append(100 * (run[one][measure][count] - against[measure][count]))
                if pairs:
                    each = ", ".join(f"{gain:+.1f}" for gain in pairs)
                    mean = f"{statistics.mean(pairs):+.1f} ± {spread(pairs):.1f} points"
                    lines.append(f"{one} over {other}, {measure} {count}: {mean} ({each})")
    return "\n".join(lines)


def shown(record):
    if record.get("mae"):
        print(f"\nMAE, seeds {', '.join(record['mae'])}\n\n{rows(record['mae'])}\n")
        print(gains(record["mae"], "masked", ("raw pixels", "untrained, from scratch", "unmasked")))
    if record.get("simclr"):
        print(f"\nSimCLR, seeds {', '.join(record['simclr'])}\n\n{rows(record['simclr'])}\n")
        print(gains(record["simclr"], "contrastive", ("untrained",)))
        # Raw pixels, and the untrained network trained from scratch, are the same: measured once, for MAE.
        other = record.get("mae")
        print(gains(record["simclr"], "contrastive", ("untrained, from scratch",), other, ("finetune",)))
        print(gains(record["simclr"], "contrastive", ("raw pixels",), other))


def main(
    only: Annotated[str, typer.Option(help="mae or simclr")] = "",
    seeds: Annotated[list[int], typer.Option(help="which; repeat the flag for more")] = SEEDS,
    threads: int = 1,
    table: Annotated[bool, typer.Option("--table", help="only show what there is")] = False,
    out: Path = Path("runs/figures/vision.json"),
) -> None:
    warnings.filterwarnings("ignore", message=".*collapsed")  # the untrained and the unmasked one may
    torch.set_num_threads(threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, measure in {"mae": mae, "simclr": simclr}.items():
        for seed in seeds if only in ("", name) and not table else ():
            record = json.loads(out.read_text()) if out.exists() else {}
            if str(seed) in record.get(name, {}):
                continue
            start = time.time()
            found = measure(seed)
            # Read again: another process may have written other seeds meanwhile.
            record = json.loads(out.read_text()) if out.exists() else {}
            record.setdefault(name, {})[str(seed)] = found
            out.write_text(json.dumps(record, indent=1))
            print(f"{name}, seed {seed}: {time.time() - start:.0f} s", flush=True)
    if out.exists():
        shown(json.loads(out.read_text()))


if __name__ == "__main__":
    typer.run(main)
