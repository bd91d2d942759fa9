"""A character-level language model of any text, and new text drawn from it.

A recurrent network (or a causal transformer) reads a text character by character and says how probable each next one is.  The
best state by the validation part counts.  Bits per character are of the last twentieth of the text, each character given at
least half a window before it; beside them stands what xz and bz2 need for that part when they have packed the rest, and, with
--dynamic, what the network needs when it, too, learns from the part as it reads it.

Sources: Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks"; Graves 2013, "Generating sequences with
recurrent neural networks", arXiv 1308.0850; top-p: Holtzman et al. 2020, arXiv 1904.09751; dynamic evaluation: Krause et al.
2018, arXiv 1709.07432.
Data: any UTF-8 text; by default the Python language reference as Python ships it (pydoc_data.topics), each paragraph once.
Takes about ten minutes of one core; figures on a larger text: docs/results/text.md.

    python recipes/char_rnn.py
    python recipes/char_rnn.py --text FILE --decoder "lstm(width=512, depth=2, dropout=0.2)" --steps 10000
    python recipes/char_rnn.py --decoder "gru(width=256)" --prime "The following" --temperature 0.6 --top-p 0.95
    python recipes/char_rnn.py --decoder "transformer(width=128, depth=4, heads=4, causal=True, dropout=0.1)" --lr 1e-3
"""

import bz2
import json
import lzma
import math
from pathlib import Path
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.errors import DataError
from reprkit.evaluation.sequential.dynamic_evaluation import dynamic_evaluation
from reprkit.evaluation.sequential.next_step import one_step_ahead
from reprkit.utils.collectives import rank


def read(path: str | None) -> str:
    if path is None:
        from pydoc_data.topics import topics

        return "\n\n".join(
            dict.fromkeys(each for name in sorted(topics) for each in topics[name].split("\n\n"))
        )
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--text {path!r} cannot be read as UTF-8 text: {error}") from error


def main(
    text: Annotated[str | None, typer.Option(help="a UTF-8 file; Python's reference if not given")] = None,
    decoder: str = "lstm(width=256, depth=2, dropout=0.1)",
    window: Annotated[int, typer.Option(help="characters of a training example, even")] = 128,
    prime: Annotated[str, typer.Option(help="what samples begin with")] = "",
    length: Annotated[int, typer.Option(help="of a sample, characters")] = 400,
    samples: int = 2,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    steps: int = 1_500,
    batch: int = 32,
    lr: float = 3e-3,
    dynamic: Annotated[
        float | None, typer.Option(help="rate, such as 3e-4, of learning from the test part as it is read")
    ] = None,
    seed: int = 0,
    out: str = "runs/char_rnn",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    whole = read(text)
    alphabet = "".join(sorted(set(whole)))  # of all parts: what each character costs is reckoned against it
    places = {character: place for place, character in enumerate(alphabet)}
    if strange := sorted(set(prime) - set(alphabet)):
        raise DataError(f"--prime holds characters that the text does not: {''.join(strange)!r}")
    x = torch.tensor([places[character] for character in whole])
    held, last = len(x) * 18 // 20, len(x) * 19 // 20
    if last - held < window:
        raise DataError(
            f"a text of {len(x):,} characters is too short: a twentieth must fill --window {window}"
        )

    def pieces(part: torch.Tensor) -> rk.Dataset:  # half of each is new
        cut = part.unfold(0, window, window // 2).contiguous()
        return rk.data.Arrays({"x": cut}, vocabs={"x": len(alphabet)})

    train, valid = pieces(x[:held]), pieces(x[held:last])
    model = rk.build(data=train, decoder=decoder, objective="autoregressive", seed=seed)
    how = {"lr": lr, "seed": seed, "out": out, "resume": resume, "best": "min reconstruction.nll", **launch}
    for step in rk.loop(model, train, steps=steps, batch=batch, **how):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(min(250, steps)):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    model = rk.load(f"{out}/best", map_location=model.device).eval()

    model.save(f"{out}/model")
    if rank() == 0:
        Path(out, "alphabet.json").write_text(json.dumps(alphabet))
        nats, guesses = one_step_ahead(model, x, last, window)
        known, part = whole[:last].encode(), whole[last:].encode()
        right = float((guesses == x[last:]).float().mean())
        print(
            f"test, {len(nats):,} characters: {float(nats.mean()) / math.log(2):.3f} bits per character, {right:.1%} right"
        )
        if dynamic is not None:
            how = {"context": window // 2, "segment": window // 4, "lr": dynamic}
            learned = float(dynamic_evaluation(model, x, last, **how).mean()) / math.log(2)
            print(f"  learning as it reads (dynamic evaluation): {learned:.3f} bits per character")
        for name, pack in {"xz": lzma.compress, "bz2": bz2.compress}.items():
            print(
                f"  {name}: {(len(pack(known + part)) - len(pack(known))) * 8 / len(nats):.3f} bits per character"
            )
        begin = torch.tensor([places[character] for character in prime]) if prime else None
        how = {"prime": begin, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        for drawn in model.generate(size=samples, length=len(prime) + length, **how).x[..., 0].tolist():
            print("\n----\n" + "".join(alphabet[place] for place in drawn))


if __name__ == "__main__":
    rk.recipe(main)
