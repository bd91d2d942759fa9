"""The figures of docs/results/voice/presets.md: presets, each with its mechanism left out, other contents, AutoVC's neck.

    python tests/benchmarks/figures_voice.py                              all there is (about three hours of one core)
    python tests/benchmarks/figures_voice.py --only sweep --necks 2 --necks 16
    python tests/benchmarks/figures_voice.py --only mechanisms --data "parallel-speech(frames=128)"
    python tests/benchmarks/figures_voice.py --table                      the rows of what is there, and nothing is run

Every run is ``recipes/voice_conversion.py`` with the flags that the table shows, in a process of its own; its held-out
utterances are converted and judged by the evaluators ``voice`` and ``leakage``; words are recognized in up to 14 English and 14
Spanish utterances.  A run that is in the file already is not run again.  The sweep's page is OUT's folder's ``neck/report.html``.

Needs: reprkit-audio with its evaluation models, and the corpus in the cache (reprkit voice fetch asterisk).
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from recipe_runs import run_recipe

JUDGE = "voice(clips=14, languages=('en', 'es'))"
PRESETS = ("perturbed", "adain", "autovc", "multi-target", "grouped")
# A preset and the same without what it keeps the speaker out of the content with; AutoVC's are the ends of the sweep.
MECHANISMS = {
    "adain": {"preset": "adain"},
    "adain, no instance norm": {
        "preset": "adain",
        "encoder": "instance-norm(width={width}, depth=3, stride={stride}, norm=False)",
    },
    "multi-target": {"preset": "multi-target", "after": 0},
    "multi-target, no critic": {"preset": "multi-target", "after": 0, "objective": "reconstruction"},
    "grouped": {"preset": "grouped"},
    "grouped, no critic": {"preset": "grouped", "objective": "grouped(factor='speaker', label='speaker')"},
}
CONTENTS = ("vq(codes=128, dim=32)", "binary(bits=32)", "one-hot(classes=32, groups=8)")
NECKS = [2, 4, 16, 64]
COLUMNS = {
    "nearer": "voice.nearer",
    "nearest": "voice.nearest",
    "to target": "voice.similarity",
    "to source": "voice.similarity_source",
    "WER en, self": "voice.languages.en.self.wer",
    "WER en": "voice.languages.en.converted.wer",
    "CER en": "voice.languages.en.converted.cer",
    "WER es, self": "voice.languages.es.self.wer",
    "WER es": "voice.languages.es.converted.wer",
    "CER es": "voice.languages.es.converted.cer",
    "DNSMOS": "voice.dnsmos",
    "mcd": "voice.parallel.mcd",
    "leak, pooled": "leakage.content.pooled",
    "leak, token": "leakage.content.frame",
    "error": "reconstruction.error",
}


def at(found, path):
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def shown(record):
    print(f"| run | {' | '.join(COLUMNS)} | s |\n{'|---' * (len(COLUMNS) + 2)}|")
    for name, each in record.items():
        values = [at(each["results"], path) for path in COLUMNS.values()]
        cells = ["" if value is None else f"{value:.2f}" for value in values]
        print(f"| {name} | {' | '.join(cells)} | {each['seconds']} |")


def plotted(record, folder):
    """One plot of the sweep on a page of its own."""
    from reprkit_audio.evaluators.sweep import bottleneck_sweep

    from reprkit.reporting import Section, report

    series = {}
    for each in record.values():
        if "neck" in each["flags"]:
            name = f"{each['flags']['preset']}, {each['flags']['data']}"
            series.setdefault(name, {})[each["flags"]["neck"]] = each["results"]
    if series:
        section = Section("The neck", [bottleneck_sweep(series)], text="A point for each width.")
        print(report(folder / "neck", title="AutoVC's neck", sections=[section]))


def main(
    only: Annotated[
        str, typer.Option(help="presets, mechanisms, contents or sweep; all when not given")
    ] = "",
    data: Annotated[list[str], typer.Option(help="corpora; repeatable")] = ["asterisk(frames=64)"],  # noqa: B006
    necks: Annotated[list[int], typer.Option(help="widths; repeat the flag for more")] = NECKS,
    width: Annotated[int, typer.Option(help="channels of all networks")] = 64,
    steps: Annotated[int, typer.Option(help="of a preset's main stage")] = 3_000,
    short: Annotated[int, typer.Option(help="steps of the other runs")] = 1_500,
    batch: int = 32,
    seed: int = 0,
    table: Annotated[bool, typer.Option("--table", help="only show what there is")] = False,
    out: Path = Path("runs/figures/voice.json"),
) -> None:
    groups = {
        "presets": {name: {"preset": name, "steps": steps} for name in PRESETS},
        "mechanisms": {f"{name}, {short} steps": flags for name, flags in MECHANISMS.items()},
        "contents": {f"grouped, {each}": {"preset": "grouped", "content": each} for each in CONTENTS},
        "sweep": {f"autovc, neck {neck}": {"preset": "autovc", "neck": neck} for neck in necks},
    }
    if only not in ("", *groups):
        raise typer.BadParameter(f"--only {only}: {', '.join(groups)}")
    wanted = {
        f"{name}, {corpus}, seed {seed}": {
            "steps": short,
            "data": corpus,
            "width": width,
            "batch": batch,
            "seed": seed,
        }
        | flags
        for corpus in data
        for group, runs in groups.items()
        if only in ("", group)
        for name, flags in runs.items()
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(out.read_text()) if out.exists() else {}
    for name, flags in wanted.items():
        if name not in record and not table:
            folder = out.parent / f"voice-{len(record)}"
            record[name] = run_recipe("voice_conversion", flags, folder, f"--judge={JUDGE}")
            out.write_text(json.dumps(record, indent=1))
            print(f"{name}: {record[name]['seconds']} s", flush=True)
    shown(record)
    plotted(record, out.parent)


if __name__ == "__main__":
    typer.run(main)
