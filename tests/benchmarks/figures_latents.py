"""The figures of docs/results/latents.md: five latents, the 8-d autoencoder against PCA, and what denoising buys.

    python tests/benchmarks/figures_latents.py                 all three, five seeds (ten splits for denoising)
    python tests/benchmarks/figures_latents.py --only denoising

Protocol: scikit-learn's digits; split by seed into train, valid and test (70/10/20 %); trained on train, reported on
test; the settings were chosen on seeds 0 to 2, which are not among the seeds reported (10 and on).
"""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk

NET = {"encoder": "mlp(widths=(256, 128))", "decoder": "mlp(widths=(128, 256))"}
LATENTS = [
    "continuous(dim=16)",
    "gaussian(dim=16)",
    "binary(bits=32)",
    "one-hot(classes=16, groups=8)",
    "vq(codes=16, dim=2, codebooks=8)",
    "residual-vq(codes=16, layers=8, dim=16)",
]
MEASURES = ("reconstruction", "linear-probe", "knn", "codebook")
DENOISING = "denoising(corruption='gaussian-noise(std=0.3)')"


def train(part, latent, *, seed, objective="reconstruction", steps=2_000, lr=2e-3):
    model = rk.build(data=part, latent=latent, objective=objective, seed=seed, **NET)
    return rk.fit(
        model, part, steps=steps, batch=128, lr=lr, schedule="cosine", seed=seed, progress=False
    ).model


def flat(results):
    kept = {
        "error": ("reconstruction", "error"),
        "bits": ("codebook", "bits"),
        "probe": ("linear-probe", "accuracy"),
        "knn": ("knn", "accuracy"),
        "usage": ("codebook", "usage"),
    }
    return {name: results.get(a, {}).get(b) for name, (a, b) in kept.items()}


def latents(seeds):
    rows = {}
    for seed in seeds:
        train_part, _, test = rk.dataset("digits").split(seed=seed, valid=True)
        found = rk.evaluate("pca(dim=16)", test, *MEASURES, fit_on=train_part, examples=0)
        rows.setdefault("PCA, 16 dimensions", []).append(flat(found))
        for latent in LATENTS:
            model = train(train_part, latent, seed=seed)
            found = rk.evaluate(model, test, *MEASURES, fit_on=train_part, examples=0)
            rows.setdefault(latent, []).append(flat(found))
            print(seed, latent, rows[latent][-1], flush=True)
    return rows


def narrow(seeds):
    rows = {"PCA, 8 dimensions": [], "continuous(dim=8)": []}
    for seed in seeds:
        train_part, _, test = rk.dataset("digits").split(seed=seed, valid=True)
        for name, model in (
            ("PCA, 8 dimensions", "pca(dim=8)"),
            ("continuous(dim=8)", train(train_part, "continuous(dim=8)", seed=seed, steps=1_000)),
        ):
            found = rk.evaluate(model, test, *MEASURES, fit_on=train_part, examples=0)
            rows[name].append(flat(found))
            print(seed, name, rows[name][-1], flush=True)
    return rows


def denoising(seeds):
    rows = {}
    for seed in seeds:
        train_part, _, test = rk.dataset("digits").split(seed=seed, valid=True)
        arms = {
            "raw pixels": "raw",
            "PCA, 16 dimensions": "pca(dim=16)",
            "untrained": rk.build(data=train_part, latent="continuous(dim=16)", seed=seed, **NET),
            "autoencoder": train(train_part, "continuous(dim=16)", seed=seed, steps=1_500),
            "denoising": train(train_part, "continuous(dim=16)", seed=seed, steps=1_500, objective=DENOISING),
        }
        for name, model in arms.items():
            found = rk.evaluate(model, test, "linear-probe", "knn", fit_on=train_part, examples=0)
            rows.setdefault(name, []).append(flat(found))
            print(seed, name, rows[name][-1], flush=True)
    return rows


def table(rows):
    names = [
        name
        for name in ("error", "bits", "probe", "knn", "usage")
        if any(r[0][name] is not None for r in rows.values())
    ]
    lines = ["| model | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for model, runs in rows.items():
        cells = []
        for name in names:
            values = [run[name] for run in runs if run[name] is not None]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}" if values else "–")
        lines.append(f"| `{model}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    only: Annotated[str, typer.Option(help="latents, narrow or denoising")] = "",
    seeds: int = 5,
    splits: int = 10,
    first: int = 10,
    threads: int = 1,
    out: Path = Path("runs/figures/latents.json"),
) -> None:
    torch.set_num_threads(threads)
    wanted = {"narrow": (narrow, seeds), "latents": (latents, seeds), "denoising": (denoising, splits)}
    out.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(out.read_text()) if out.exists() else {}
    for name, (measure, count) in wanted.items():
        if only in ("", name):
            start = time.time()
            record[name] = measure(range(first, first + count))
            out.write_text(json.dumps(record, indent=1))
            print(f"\n{name}: {count} seeds, {time.time() - start:.0f} s\n\n{table(record[name])}\n")
    if "narrow" in record:
        pca, own = (statistics.mean(run["error"] for run in runs) for runs in record["narrow"].values())
        print(f"8-d autoencoder / PCA-8 error: {own / pca:.3f}")
    if "denoising" in record:
        pairs = zip(record["denoising"]["denoising"], record["denoising"]["autoencoder"], strict=True)
        gains = [100 * (one["probe"] - two["probe"]) for one, two in pairs]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        print(f"denoising over autoencoder, linear probe: {statistics.mean(gains):+.2f} points ({each})")


if __name__ == "__main__":
    typer.run(main)
