"""Disentanglement of the systems of ``recipes/disentangle.py``, seed by seed, for docs/results/disentanglement.md.

    python tests/benchmarks/figures_disentanglement.py --seeds 0 --seeds 1 --seeds 2 --out figures.json

After each run the file holds what was measured so far: system -> seed -> numbers.  With ``--part valid`` the numbers are those of
valid, for choosing weights; figures that are reported are those of test.
"""

import json
import runpy
import time
from pathlib import Path
from typing import Annotated

import typer

import reprkit as rk

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "recipes/disentangle.py"))


def main(
    systems: Annotated[list[str], typer.Option()] = RECIPE["SYSTEMS"],
    seeds: Annotated[list[int], typer.Option()] = [0],  # noqa: B006
    part: str = "test",
    out: Path = Path("figures.json"),
    data: str = "shapes",
    steps: int = 2_000,
    batch: int = 1_024,
    lr: float = 3e-3,
    dim: int = 10,
    beta: float = RECIPE["BETA"],
    penalty: float = RECIPE["PENALTY"],
    gamma: float = RECIPE["GAMMA"],
    trees: int = 10,
    limit: int = 3_000,
) -> None:
    measure = f"disentanglement(trees={trees}, limit={limit})"
    found: dict[str, dict[str, object]] = json.loads(out.read_text()) if out.exists() else {}
    for seed in seeds:
        train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
        shown = {"valid": valid, "test": test}[part]
        for name in systems:
            started = time.process_time()
            if name == "PCA":
                model = f"pca(dim={dim})"
            else:
                latent, objective = RECIPE["parts_of"](name, dim, beta, penalty, gamma)
                parts = {"latent": latent, "objective": objective}
                model = rk.build(data=train, **RECIPE["NETWORK"], **parts, seed=seed)
                critics = RECIPE["critics"](model, lr)
                for step in rk.loop(
                    model, train, steps=steps, batch=batch, lr=lr, seed=seed, schedule="cosine", optimizers=critics, progress=False
                ):  # fmt: skip
                    for turn in model.objective.turns:
                        losses = step.model(step.batch, turn)
                        step.backward(losses.total)
                        step.update(turn)
            results = rk.evaluate(
                model, shown, "reconstruction", "codebook", measure, fit_on=train, examples=0
            )
            numbers = {key: dict(results[key]) for key in results}
            numbers["seconds"] = round(time.process_time() - started, 1)
            found.setdefault(name, {})[str(seed)] = numbers
            out.write_text(json.dumps(found, indent=1))
            mig = numbers["disentanglement"]["mig"]
            print(
                f"{name} seed {seed}: MIG {mig:.3f}, active {numbers['codebook'].get('active')}, {numbers['seconds']} s",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
