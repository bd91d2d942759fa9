"""The figures of docs/results/text.md on summaries: recipes/summarizer.py on all of Debian's descriptions, with each critic.

    reprkit text fetch debian
    python tests/benchmarks/figures_summarizer.py                     seed 0 (about 40 minutes of one core; see --before, --steps)
    python tests/benchmarks/figures_summarizer.py --seeds 0 --seeds 1 --seeds 2 --supervised
    python tests/benchmarks/figures_summarizer.py --table             the rows of what is there, and nothing is run

Protocol: descriptions of the fetched index with different first paragraphs of 20 to 200 words, split by seed into train, valid and
test; the model sees train's documents and, beside each, the synopsis of another one.  One pre-training a seed, from which each
critic starts.  Reported on the first 2,000 documents of test (they are in random order): ROUGE with stemming against the
documents' own synopses, perplexity of n-grams fitted on train's synopses.  Settings were chosen on valid of seed 0.  A run that
is in OUT already is not made again; one that was stopped goes on.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from reprkit.reporting import Table

RECIPE = Path(__file__).parents[2] / "recipes" / "summarizer.py"
DATA = "debian(index='fetched', length=44, summary_length=15, tokenizer='byte-pair(vocab=2000, lower=True)')"
SEEDS = [0]
CRITICS = ["wgan", "self-critic", "none"]
COLUMNS = {
    "ROUGE-1": ("rouge", "summary", "rouge1"),
    "ROUGE-2": ("rouge", "summary", "rouge2"),
    "ROUGE-L": ("rouge", "summary", "rougeL"),
    "perplexity": ("readability", "perplexity"),
    "distinct": ("readability", "distinct"),
    "length": ("compression", "ratio"),
    "nats a word": ("compression", "nats"),
    "of another": ("compression", "nats_of_another"),
}


def run(folder: Path, critic: str, *options: object) -> None:
    """The recipe with one critic; what was pre-trained in that folder is gone on from."""
    command = [sys.executable, RECIPE, "--out", folder, "--critic", critic, "--data", DATA, "--resume"]
    subprocess.run([str(each) for each in (*command, *options)], check=True)
    (folder / f"results-{critic}.json").write_text((folder / "results.json").read_text("utf-8"), "utf-8")


def value(results: dict, path: tuple[str, ...]) -> float | None:
    for name in path:
        results = results.get(name, {}) if isinstance(results, dict) else {}
    return results if isinstance(results, int | float) else None


def rows(out: Path) -> dict[str, list[str]]:
    """Of each model and lead the mean over seeds, and lowest to highest where there are several."""
    found: dict[str, dict[Path, dict]] = {}
    for path in sorted(out.glob("seed-*/results-*.json")):
        held = json.loads(path.read_text("utf-8"))
        for name, results in held.items():
            if isinstance(results, dict) and "rouge" in results:
                found.setdefault(name, {})[path.parent] = results
    made = {}
    for name, seeds in found.items():
        made[name] = []
        for column, path in COLUMNS.items():
            values = [each for each in (value(one, path) for one in seeds.values()) if each is not None]
            values = [100 * each if column.startswith("ROUGE") else each for each in values]
            digits = 1 if column.startswith(("ROUGE", "perplexity")) else 2
            text = f"{statistics.mean(values):.{digits}f}" if values else ""
            if len(values) > 1:
                text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
            made[name].append(text)
    return made


def main(
    seeds: list[int] = SEEDS,
    critics: list[str] = CRITICS,
    before: int = 2_400,
    steps: int = 120,
    anchor: Annotated[float, typer.Option(help="weight of pre-training's losses beside a critic")] = 0.2,
    decoder: Annotated[str, typer.Option(help="of the recipe, not its own")] = "",
    supervised: Annotated[bool, typer.Option(help="the ceiling, too: as many steps as pre-training")] = False,
    table: Annotated[bool, typer.Option(help="only show what is there")] = False,
    out: Path = Path("runs/figures_summarizer"),
) -> None:
    for seed in [] if table else seeds:
        for critic in critics:
            folder = out / f"seed-{seed}"
            if (folder / f"results-{critic}.json").exists():
                continue
            sizes = ("--seed", seed, "--before", before, "--steps", steps, "--anchor", anchor)
            more = ["--supervised"] if supervised and critic == critics[0] else []
            run(folder, critic, *sizes, *more, *(["--decoder", decoder] if decoder else []))
    print(Table(list(COLUMNS), rows(out), corner="on test"))


if __name__ == "__main__":
    typer.run(main)
