"""The figures of docs/results/voice/many_speakers.md on a model of four speakers: source and target unseen.

    python tests/benchmarks/figures_voice_unseen.py MODEL --data "fillets(frames=128)" [--seed 0] [--prompts 1]

MODEL is a folder that recipes/voice_conversion.py saved, trained on another corpus (which the script cannot know).  Conversions
between the speakers of the data's test part are judged by the evaluators ``voice`` and ``leakage``, whose centres and
classifiers are fitted on its train part.

Needs: reprkit-audio with its judges, and the corpus in the cache (reprkit voice fetch fillets).
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.reporting import compare

COLUMNS = {
    f"voice.{name}": name
    for name in ("nearer", "nearest", "chance", "similarity", "similarity_source", "shift.nearer", "n")
} | {"leakage.content.pooled": "leak, pooled", "leakage.content.frame": "leak, token"}


def main(
    model: str,
    data: str = "fillets(frames=128)",
    pairs: int = 48,
    prompts: Annotated[int, typer.Option(help="utterances of the target; 1 is one-shot")] = 1,
    seed: int = 0,
    out: Path = Path("runs/figures/voice_unseen.json"),
) -> None:
    torch.set_num_threads(1)
    heard, corpus = rk.load(model).eval(), rk.dataset(data)
    train, test = corpus.split(seed=seed)
    judge = f"voice(pairs={pairs}, prompts={prompts}, examples=0)"
    found = rk.evaluate(heard, test, judge, "leakage", fit_on=train, examples=0)
    print(compare({f"{model} on {data}": found}, COLUMNS))
    out.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(out.read_text()) if out.exists() else {}
    record[f"{model}, {data}, prompts {prompts}, seed {seed}"] = {
        name: value for name, value in found.items() if name != "figures"
    }
    out.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    typer.run(main)
