"""The table of docs/results/voice/words.md: rate of the content, word errors, nearness and leakage of several contents.

    python tests/benchmarks/figures_voice_curve.py --data "speech(root='runs/synthetic', language='en')" --steps 1200
    python tests/benchmarks/figures_voice_curve.py --table             the rows of the file; nothing is run

Every row is ``recipes/voice_conversion.py`` with these flags, in a process of its own; a row that is in the file already is not
run again.  *bits a second*: log2 of the number of codes, summed over a token's symbols, times tokens a second; of a Gaussian the
KL divergence to its prior; a continuous code has no rate.
"""

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from recipe_runs import run_recipe

import reprkit as rk

# Name -> flags of the recipe.
ROWS = {
    "three codebooks of 256, 20 ms, perturbed": {},
    "four codebooks of 256, 20 ms, perturbed": {"content": "vq(codes=256, dim=16, codebooks=4)"},
    "one codebook of 256, 20 ms, perturbed": {"content": "vq(codes=256, dim=16)"},
    "continuous, 32 numbers, 20 ms, perturbed": {"content": "continuous(dim=32)"},
    "three codebooks of 256, 20 ms, not perturbed": {
        "objective": "grouped(factor='speaker', label='speaker')"
    },
    "Gaussian of 8 numbers, 80 ms, a critic (preset grouped)": {"preset": "grouped"},
}
COLUMNS = {
    "WER copy": "voice.copy.wer",
    "self": "voice.self.wer",
    "WER": "voice.wer",
    "rise": "voice.wer_rise",
    "CER": "voice.cer",
    "nearer": "voice.nearer",
    "nearest": "voice.nearest",
    "second model: nearest": "voice.second.nearest",
    "leak, pooled": "leakage.content.pooled",
    "leak, token": "leakage.content.frame",
}


def bits_a_second(folder, data, seed, results):
    """Rate of the content's code; None if it is continuous."""
    speech, _ = rk.dataset(data).split(seed=seed)
    seconds = speech.signature["x"].shape[0] * speech.frontend.hop / speech.frontend.rate
    model = rk.load(folder).eval()
    batch = speech.batch([0])
    code = model.encode(batch, factors=("content",))["content"]
    vocab = model.factors["content"].latent.vocab
    if vocab is not None:
        return code.z.shape[1] * sum(math.log2(entries) for entries in vocab) / seconds
    kl = results.get("reconstruction", {}).get("kl")
    return None if kl is None else kl / math.log(2) / seconds


def find(results, path):
    """The number at a path such as "voice.wer"; None where there is none."""
    for name in path.split("."):
        results = results.get(name) if isinstance(results, dict) else None
    return results


def show(record):
    print(f"| content | bits a second | {' | '.join(COLUMNS)} | minutes |\n|{'---|' * (len(COLUMNS) + 3)}")
    for each in record.values():
        numbers = [find(each["results"], path) for path in COLUMNS.values()]
        cells = " | ".join("" if number is None else f"{number:.2f}" for number in numbers)
        rate = "" if each["rate"] is None else f"{each['rate']:,.0f}"
        print(
            f"| {each['name']}, seed {each['flags']['seed']} | {rate} | {cells} | {each['seconds'] / 60:.0f} |"
        )


def main(
    data: Annotated[str, typer.Option(help="speech with texts")] = "asterisk(frames=128)",
    row: Annotated[list[str], typer.Option(help="the first words of a row's name; all rows by default")] = [],  # noqa: B006
    steps: int = 1_200,
    batch: int = 16,
    width: int = 64,
    judge: str = "voice(pairs=36, strength=1.75, spread=False, clips=10, rated=2, examples=2)",
    seed: Annotated[list[int], typer.Option(help="repeat the flag for more")] = [0],  # noqa: B006
    table: Annotated[bool, typer.Option("--table", help="only show the rows of the file")] = False,
    out: Path = Path("runs/figures/voice_curve.json"),
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(out.read_text()) if out.exists() else {}
    for each in seed:
        for name, flags in ROWS.items():
            if table or (row and not any(name.startswith(start) for start in row)):
                continue
            given = {
                "data": data,
                "steps": steps,
                "batch": batch,
                "width": width,
                "judge": judge,
                "seed": each,
            } | flags
            key = json.dumps(given)
            if key in record:
                continue
            folder = out.parent / f"{out.stem}-{len(record)}"
            found = run_recipe("voice_conversion", given, folder)
            rate = bits_a_second(folder / "model", data, each, found["results"])
            record[key] = found | {"name": name, "rate": rate}
            out.write_text(json.dumps(record, indent=1))
            print(f"{name}, seed {each}: {found['seconds']} s", flush=True)
    show(record)


if __name__ == "__main__":
    typer.run(main)
