"""The figures of docs/results/contracts/parallel.md: regressions on aligned utterances beside unpaired systems.

    python tests/benchmarks/figures_parallel.py --no-words
    python tests/benchmarks/figures_parallel.py --model perturbed=runs/perturbed/model --model grouped=runs/grouped/model \
--model parallel=runs/parallel/model

Rows: scikit-learn's ridge regression from a frame of the source alone and with two frames on each side, and a network of one
hidden layer (``--mlp``), one regression for each ordered pair of speakers; then every ``--model NAME=FOLDER``, trained by
recipes/voice_conversion.py or recipes/parallel_conversion.py with the same data and seed; ``NAME=FOLDER@strength=1.75,
spread=False`` sets how it converts (arguments of evaluator ``voice``).  All convert the same held-out utterances and are
evaluated by ``voice``; *source*, *shifted* and *copy* are its own baselines.

Needs: reprkit-audio with its evaluation models, and flite.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from reprkit_audio.frame_regression import FrameRegression

import reprkit as rk

COLUMNS = ("distortion", "WER", "CER", "nearer", "nearest", "cosine")


def row_of(found):
    """The values of COLUMNS in a version's section of the results."""
    return (
        found["parallel"]["mcd"],
        *(found.get(name) for name in ("wer", "cer", "nearer", "nearest", "similarity")),
    )


def print_row(name, values):
    cells = ["" if value is None else f"{value:.2f}" for value in values]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(
    data: str = "parallel-speech(frames=128)",
    model: Annotated[
        list[str], typer.Option(help="NAME=FOLDER or NAME=FOLDER@OPTIONS; repeat the flag")
    ] = [],  # noqa: B006
    ridge: Annotated[list[int], typer.Option(help="frames of context; repeat the flag for more")] = [0, 2],  # noqa: B006
    mlp: Annotated[bool, typer.Option(help="also a network of 128 hidden units, a minute a pair")] = False,
    pairs: int = 48,
    words: Annotated[bool, typer.Option(help="recognize words by Whisper-base")] = True,
    clips: Annotated[int, typer.Option(help="utterances whose words are recognized")] = 8,
    seed: int = 0,
    out: Path = Path("runs/figures/parallel.json"),
) -> None:
    from sklearn.neural_network import MLPRegressor

    torch.set_num_threads(1)
    speech, test = rk.dataset(data).split(seed=seed)
    aligned, _ = rk.dataset(f"aligned-speech(data={data!r}, frames=128)").split(seed=seed)
    systems = {}
    for context in ridge:
        start = time.time()
        systems[f"ridge, {2 * context + 1} frames"] = FrameRegression(aligned, context=context)
        print(f"ridge, context {context}: fitted in {time.time() - start:.1f} s")
    if mlp:
        network = MLPRegressor(128, early_stopping=True, max_iter=30, random_state=0)
        systems["network of 128 hidden units, 5 frames"] = FrameRegression(aligned, network)
    # The evaluator takes front end and vocoder from a model; this one converts nothing.
    factors = {
        "content": rk.factor("instance-norm(width=8, depth=1, stride=1)"),
        "speaker": rk.factor("voice(width=8, depth=1, layers=0)", pool=True),
    }
    blank = rk.build(
        data=speech.whole(), factors=factors, decoder="adain(width=8, depth=1, stride=1, condition_dim=8)"
    )
    trained = dict(each.split("=", 1) for each in model)
    record = {}
    judged = f"voice(pairs={pairs}, clips={clips}, rated=4, examples=0, second=False, words={words}"
    print(f"| system | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}", flush=True)
    for name in (*systems, *trained):
        folder, _, options = trained.get(name, "").partition("@")
        judge = rk.create("evaluator", f"{judged}, {options})" if options else f"{judged})")
        judge.conversion = systems.get(name)
        network = rk.load(folder).eval() if folder else blank
        found = rk.evaluate(network, test, judge, fit_on=speech, examples=0)["voice"]
        if not record:
            natural = {"parallel": {"mcd": found["parallel"]["unconverted"]}, **found["natural"]}
            for version, section in (
                ("source", natural),
                ("copy", found["copy"]),
                ("shifted", found["shift"]),
            ):
                print_row(version, row_of(section))
        record[name] = {key: value for key, value in found.items() if key != "figures"}
        print_row(name, row_of(found))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
