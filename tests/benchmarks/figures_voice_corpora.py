"""The figures of docs/results/voice/many_speakers.md on speakers of several corpora trained together.

    python tests/benchmarks/figures_voice_corpora.py --seed 10 --stage train
    python tests/benchmarks/figures_voice_corpora.py --seed 10 --stage asterisk --strength 1 --strength 1.5
    python tests/benchmarks/figures_voice_corpora.py --seed 10 --stage fillets --strength 1.5
    python tests/benchmarks/figures_voice_corpora.py --seed 10 --stage unseen --strength 1.5
    python tests/benchmarks/figures_voice_corpora.py --seed 10 --stage unseen --neighbors 4 --prompts 1 --spread

One model for each seed: the parts and settings of the recipe's preset "perturbed", trained on ``voices`` without eight
speakers that the seed draws, and without the valid and test parts of the others.  Settings are chosen on ``--part valid``.

asterisk, fillets: conversions among these four speakers only, who are also the only ones that are enrolled.  unseen: among
the eight, one-shot.  Printed as rows of a table; all results are in runs/figures/voice_corpora/.

Needs: reprkit-audio with its evaluation models, and the corpora in the cache (reprkit voice fetch voices).
"""

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import reprkit as rk

OUT = Path("runs/figures/voice_corpora")
GROUPS = {
    "asterisk": (("allison", "carlo", "ivrvoice", "june"), ("en",)),
    "fillets": (("cs-big", "cs-small", "nl-big", "nl-small"), ("cs", "nl")),
}
# Speakers of Tux Paint and Hedgewars with 28 windows or more; the others are too few to be judged.
DRAWN = tuple(
    f"hedgewars-{name}"
    for name in ("british", "hillbilly", "mobster", "pirate", "russian", "russian_pl", "singer", "surfer")
) + tuple(f"tuxpaint-{language}" for language in ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru"))
COLUMNS = (
    "natural.identified", "copy.identified", "natural.wer", "copy.wer", "self.wer", "wer", "wer_rise", "cer", "nearer", "nearest",
    "shift.nearer", "shift.nearest", "paired.better", "paired.p", "second.nearer", "second.nearest", "natural.dnsmos",
    "copy.dnsmos", "dnsmos", "words_n", "n",
)  # fmt: skip


def train(data, whole, folder: Path, steps: int, width: int, content: str, seed: int) -> None:
    """Train as the recipe's preset "perturbed" does."""
    norm, voice = f"instance-norm(width={width}, depth=3, stride=2)", f"voice(width={width}, depth=3)"
    factors = {
        "content": rk.factor(norm, content),
        "speaker": rk.factor(voice, "continuous(dim=64)", pool=True),
    }
    model = rk.build(
        factors=factors,
        decoder=f"adain(width={width}, depth=3, stride=2)",
        objective="grouped(factor='speaker', label='speaker', corruption='vocal-tract(ratio=1.3, knots=3)')",
        data=whole,
        seed=seed,
    )
    options = {"batch": 16, "lr": 1.5e-3, "schedule": "cosine", "groups": "speaker", "seed": seed}
    began = time.process_time()
    for step in rk.loop(model, data, steps=steps, stage="main", out=folder, **options):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(200):
            step.log(losses)
    model.save(folder / "model")
    print(f"{steps} steps in {time.process_time() - began:.0f} s of processor time")


def lookup(found, name: str) -> float:
    """A result by its dotted name; NaN where it was not measured."""
    for part in name.split("."):
        found = found.get(part, float("nan")) if isinstance(found, dict) else float("nan")
    return float(found)


def main(
    stage: Annotated[str, typer.Option(help="train, asterisk, fillets or unseen")] = "asterisk",
    seed: int = 10,
    part: Annotated[str, typer.Option(help="valid or test")] = "test",
    strength: list[float] = [1.0],  # noqa: B006
    spread: bool = False,
    neighbors: Annotated[int, typer.Option(help="the target's nearest frames; 0 for the decoded ones")] = 0,
    prompts: Annotated[int, typer.Option(help="utterances of the target; 1 is one-shot")] = 1,
    steps: int = 2400,
    width: int = 96,
    content: str = "vq(codes=256, dim=16, codebooks=3)",
    model: Annotated[str, typer.Option(help="folder of a model trained before")] = "",
    pairs: int = 48,
    clips: int = 14,
) -> None:
    torch.set_num_threads(1)
    held = tuple(sorted(np.random.default_rng(seed).permutation(DRAWN)[:8].tolist()))
    speech = rk.dataset("voices", frames=128, speakers_held_out=held)
    parts = dict(zip(("train", "valid", "test"), speech.split(seed=seed, valid=True), strict=True))
    folder = OUT / f"seed{seed}"
    if stage == "train":
        train(parts["train"], parts["train"].whole(), folder, steps, width, content, seed)
        return
    if stage == "unseen":
        enrolled, data = speech.unseen.split(seed=seed)
        languages = None
    else:
        names, languages = GROUPS[stage]
        enrolled, data = parts["train"], parts[part]
        wanted = torch.tensor([data.speakers.index(name) for name in names])
        kept = torch.isin(data.label_values("speaker"), wanted).nonzero().flatten()
        data = data.subset(kept, part=f"{part}, {stage}")
    loaded = rk.load(model or folder / "model").eval()
    print(f"{stage}, {part}, seed {seed}, held out: {', '.join(held)}")
    print("| strength | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1), flush=True)
    for each in strength:
        judge = rk.create(
            "evaluator", "voice", pairs=pairs, clips=clips, languages=languages, strength=each, spread=spread,
            neighbors=neighbors, prompts=prompts, examples=0,
        )  # fmt: skip
        found = judge(loaded, data, enrolled)
        print(
            f"| {each:g} | " + " | ".join(f"{lookup(found, name):.3g}" for name in COLUMNS) + " |", flush=True
        )
        OUT.mkdir(parents=True, exist_ok=True)
        setting = (
            f"{each:g}{'-spread' if spread else ''}{f'-neighbors{neighbors}-{prompts}' if neighbors else ''}"
        )
        record = OUT / f"{stage}-{part}-{seed}-{setting}.json"
        record.write_text(json.dumps(found, indent=1, default=str, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
