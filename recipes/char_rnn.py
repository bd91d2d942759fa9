"""Character-level language model of any text, and new text sampled from it.

A recurrent network (or a causal transformer) reads a text character by character and predicts a distribution over the next
character.  The checkpoint with the best validation loss is evaluated.  Bits per character are measured on the last twentieth of the
text, each character with at least half a window of context.  They are compared with what xz and bz2 need for that part after
compressing the rest, and, with --dynamic, with the same network when it keeps learning while it reads (dynamic evaluation).

Sources: Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks"; Graves 2013, "Generating sequences with
recurrent neural networks", arXiv 1308.0850; top-p sampling: Holtzman et al. 2020, arXiv 1904.09751; dynamic evaluation: Krause et
al. 2018, arXiv 1709.07432.
Data: any text; by default the Python language reference that Python ships (pydoc_data.topics), each paragraph once.
Expected: figures on a larger text: docs/results/text.md.  The defaults take about ten minutes of one core.

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
from reprkit.data.formats import text_encoding
from reprkit.errors import DataError
from reprkit.evaluation.sequential.dynamic_evaluation import dynamic_evaluation
from reprkit.evaluation.sequential.next_step import one_step_ahead
from reprkit.utils.collectives import rank


def read_text(path: str | None, encoding: str | None) -> str:
    """Read a text file, or Python's language reference when no path is given."""
    if path is None:
        from pydoc_data.topics import topics

        paragraphs = (paragraph for name in sorted(topics) for paragraph in topics[name].split("\n\n"))
        return "\n\n".join(dict.fromkeys(paragraphs))
    return text_encoding.read_text(path, encoding)


def main(
    text: Annotated[str | None, typer.Option(help="a text file; Python's reference if not given")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="of a text without a byte-order mark, such as latin-1; else UTF-8")
    ] = None,
    decoder: str = "lstm(width=256, depth=2, dropout=0.1)",
    window: Annotated[int, typer.Option(help="characters of a training example, an even number")] = 128,
    prime: Annotated[str, typer.Option(help="text that samples continue")] = "",
    length: Annotated[int, typer.Option(help="characters of a sample after --prime")] = 400,
    samples: int = 2,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    steps: int = 1_500,
    batch: int = 32,
    lr: float = 3e-3,
    dynamic: Annotated[
        float | None, typer.Option(help="learning rate of dynamic evaluation, such as 3e-4; off if not given")
    ] = None,
    seed: int = 0,
    out: str = "runs/char_rnn",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    corpus = read_text(text, encoding)
    alphabet = "".join(sorted(set(corpus)))  # of all splits: a test character must have an index, too
    index = {character: i for i, character in enumerate(alphabet)}
    if unknown := sorted(set(prime) - set(alphabet)):
        raise DataError(f"--prime has characters that the text does not have: {''.join(unknown)!r}")
    x = torch.tensor([index[character] for character in corpus])
    valid_start, test_start = len(x) * 18 // 20, len(x) * 19 // 20
    if test_start - valid_start < window:
        raise DataError(
            f"a text of {len(x):,} characters is too short: a twentieth of it must have at least --window {window}"
        )

    def windows(split: torch.Tensor) -> rk.Dataset:
        """Windows that overlap by half."""
        examples = split.unfold(0, window, window // 2).contiguous()
        return rk.data.Arrays({"x": examples}, vocabs={"x": len(alphabet)})

    train, valid = windows(x[:valid_start]), windows(x[valid_start:test_start])
    model = rk.build(data=train, decoder=decoder, objective="autoregressive", seed=seed)
    options = {"lr": lr, "seed": seed, "out": out, "resume": resume, "best": "min reconstruction.nll"}
    for step in rk.loop(model, train, steps=steps, batch=batch, **options, **launch):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(min(250, steps)):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    model = rk.load(f"{out}/best", map_location=model.device).eval()

    model.save(f"{out}/model")
    if rank() == 0:
        Path(out, "alphabet.json").write_text(json.dumps(alphabet))
        nats, predictions = one_step_ahead(model, x, test_start, window)
        bits = float(nats.mean()) / math.log(2)
        accuracy = float((predictions == x[test_start:]).float().mean())
        print(f"test, {len(nats):,} characters: {bits:.3f} bits per character, accuracy {accuracy:.1%}")
        if dynamic is not None:
            options = {"context": window // 2, "segment": window // 4, "lr": dynamic}
            bits = float(dynamic_evaluation(model, x, test_start, **options).mean()) / math.log(2)
            print(f"  with dynamic evaluation: {bits:.3f} bits per character")
        before, test = corpus[:test_start].encode(), corpus[test_start:].encode()
        for name, compress in {"xz": lzma.compress, "bz2": bz2.compress}.items():
            size = len(compress(before + test)) - len(compress(before))
            print(f"  {name}: {size * 8 / len(nats):.3f} bits per character")
        start = torch.tensor([index[character] for character in prime]) if prime else None
        options = {"prime": start, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        for sample in model.generate(size=samples, length=len(prime) + length, **options).x[..., 0].tolist():
            print("\n----\n" + "".join(alphabet[i] for i in sample))


if __name__ == "__main__":
    rk.recipe(main)
