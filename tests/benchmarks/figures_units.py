"""The figures of docs/results/contracts/units.md: speech units at 20 and 40 ms by ABX, compared with k-means on the same frames.

    python tests/benchmarks/figures_units.py [--hop 320 --hop 640] [--latent "vq(codes=128, dim=64)"] [--seed 0] [--steps 1200]
    python tests/benchmarks/figures_units.py --table             the rows of the file; nothing is run

Every run is ``recipes/speech_units.py`` on log-mel frames of that hop (16 samples are 1 ms), in a process of its own; windows have
640 ms whatever the hop.  A run that is in the file already is not run again.

Needs: reprkit-audio and flite.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from recipe_runs import run_recipe

HOPS = [320, 640]
LATENTS = ["vq(codes=128, dim=64)", "gaussian(dim=16)", "binary(bits=7)"]


def number(value):
    return "" if value is None else f"{value:.3f}"


def show(record):
    print(
        "| ms | seed | units | purity | within | across | within, indices | across, indices |\n|" + "---|" * 8
    )
    for each in record.values():
        flags, found = each["flags"], each["results"]
        milliseconds = found[flags["latent"]]["abx"]["milliseconds"]
        own = found[flags["latent"]]
        rows = {
            flags["latent"]: (own["speech-units"]["purity"], own["abx"], ""),
            "the same network, untrained": (
                found["untrained"]["speech-units"]["purity"],
                found["untrained"]["abx"],
                "",
            ),
            "k-means": (own["speech-units"]["kmeans.purity"], own["abx"], "kmeans."),
            "the frames": (None, own["abx"], "frames."),
        }
        for name, (purity, abx, prefix) in rows.items():
            keys = (f"{prefix}within", f"{prefix}across", f"{prefix}units.within", f"{prefix}units.across")
            cells = " | ".join(number(abx.get(key)) for key in keys)
            print(f"| {milliseconds:.0f} | {flags['seed']} | {name} | {number(purity)} | {cells} |")


def main(
    hop: Annotated[
        list[int], typer.Option(help="samples of a frame at 16 kHz; repeat the flag for more")
    ] = HOPS,
    latent: Annotated[list[str], typer.Option(help="repeat the flag for more")] = LATENTS,
    seed: Annotated[list[int], typer.Option(help="repeat the flag for more")] = [0],  # noqa: B006
    steps: int = 1_200,
    table: Annotated[bool, typer.Option("--table", help="only show the rows of the file")] = False,
    out: Path = Path("runs/figures/units.json"),
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(out.read_text()) if out.exists() else {}
    for each in seed:
        for samples in hop:
            data = f"parallel-speech(frontend='log-mel(hop={samples})', frames={10240 // samples})"
            for name in latent:
                flags = {"data": data, "latent": name, "steps": steps, "seed": each}
                key = json.dumps(flags)
                if key not in record and not table:
                    record[key] = run_recipe("speech_units", flags, out.parent / f"units-{len(record)}")
                    out.write_text(json.dumps(record, indent=1))
                    print(f"{key}: {record[key]['seconds']} s", flush=True)
    show(record)


if __name__ == "__main__":
    typer.run(main)
