"""A summarizer that never saw a document with its summary: text is a latent like any other.

An encoder reads a document, a generator writes a few words, and a decoder must tell the document from these words alone.  What
keeps them readable is a critic that has seen human summaries, of other documents.  Generator and reconstructor are pre-trained
first: on the stretch of each document that is most like a human summary (an n-gram model says which; no pair is needed), and
on human summaries put into its place.  ``--critic wgan`` passes gradients through the choice of words (straight-through Gumbel-
softmax) to a Wasserstein critic; ``self-critic`` rewards drawn words by what they do to the verdict of a critic that reads word
after word, needs a latent of words, and is the better one there; ``none`` trains on the reconstruction alone.  Any other latent
runs with wgan, which then keeps its codes of documents like those of human summaries.

Paper: Wang and Lee 2018, "Learning to encode text as human-readable summaries using GANs", arXiv 1810.02851.
Data: Debian's package descriptions, their one-line synopses as human summaries; a sample of 1,500 comes with reprkit-text.
Needs the extra reprkit-text[rouge].  As it is it takes about four minutes of one core and stays below the first words of a
document; 2,400 steps of pre-training on all of Debian stand above them.  Expected: docs/results/text.md.

    python recipes/summarizer.py
    python recipes/summarizer.py --critic self-critic --supervised
    python recipes/summarizer.py --latent "vq(codes=512, dim=64)"
    python recipes/summarizer.py --data "documents(path='pairs.jsonl', tokenizer='byte-pair(vocab=4000, lower=True)', length=64)"
    reprkit text fetch debian && python recipes/summarizer.py --before 2400 --data "debian(index='fetched', length=44, \
summary_length=15, tokenizer='byte-pair(vocab=2000, lower=True)')"

The model is used as ``reprkit text summarize OUT/model < documents > summaries``.
"""

from dataclasses import replace
from typing import Annotated

import typer
from reprkit_text.data.span_targets import SpanTargets
from reprkit_text.decoded_text import text_columns

import reprkit as rk
from reprkit.errors import PartArgumentError, nearest
from reprkit.registry.references import parse
from reprkit.reporting import Section, Table, compare
from reprkit.utils.collectives import rank

DEBIAN = "debian(length=44, summary_length=15, tokenizer='byte-pair(vocab=2000, lower=True)')"
TEXT = "text(vocab={size}, width={width}, length=16, end=0, never=(1, 2, 3), gradient='{gradient}')"
TEACHER = "summary(slot='slot', copy=0.1, drop=0.05, reconstructor=0.2, turn='main')"
SUPERVISOR = (
    "summary(lead=0, denoise=0, reconstructor=0, paired=1, copy=0.1, boundary=0, drop=0.05, turn='main')"
)
CRITICS = {  # how the choice of words is trained, and on what besides the teacher's losses
    "wgan": ("straight-through", "0.2 * reconstruction + 10 * critic(real='summary')"),
    "self-critic": ("policy", "0.02 * self-critical + 10 * self-critic(real='summary')"),
    "none": ("straight-through", "0.2 * reconstruction"),
}


def main(
    data: Annotated[str, typer.Option(help="documents, and summaries of others")] = DEBIAN,
    width: int = 128,
    encoder: str = "transformer(width={width}, depth=2, heads=4)",
    latent: Annotated[str, typer.Option(help="between encoder and decoder, any")] = TEXT,
    decoder: str = "pointer(width={width})",
    critic: Annotated[str, typer.Option(help=", ".join(CRITICS))] = "wgan",
    before: Annotated[int, typer.Option(help="steps of pre-training")] = 500,
    steps: int = 100,
    critics: Annotated[int, typer.Option(help="steps of the critic for each other one")] = 3,
    anchor: Annotated[float, typer.Option(help="weight of pre-training's losses after it")] = 0.2,
    supervised: Annotated[
        bool, typer.Option(help="the pre-trained generator on pairs, too: a ceiling")
    ] = False,
    limit: Annotated[int, typer.Option(help="documents of the test part to measure on")] = 2_000,
    batch: int = 16,
    lr: float = 2e-3,
    critic_lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/summarizer",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine(final=0.05)", clip=1.0, buckets=True),
) -> None:
    if critic not in CRITICS:
        known = ", ".join(CRITICS)
        raise PartArgumentError(f"no critic {critic!r}.{nearest(critic, CRITICS)}\n  known: {known}")
    train, _, test = rk.dataset(data).split(seed=seed, valid=True)
    gradient, judged = CRITICS[critic]
    sizes = {"width": width, "size": train.signature["x"].vocab, "gradient": gradient}
    given = {"encoder": encoder, "latent": latent, "decoder": decoder}
    parts = {name: each.format(**sizes) for name, each in given.items()}
    how = {"warmup": min(before, steps) // 10, "batch": batch, "seed": seed, "resume": resume, **launch}

    def built(objective: str, seen: rk.Dataset, start: rk.Model | None = None) -> rk.Model:
        return rk.build(data=seen, objective=objective, seed=seed, start=start, **parts)

    def taught(model: rk.Model, seen: rk.Dataset, stage: str) -> rk.Model:
        for step in rk.loop(model, seen, steps=before, lr=lr, out=out, stage=stage, **how):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(100):
                step.log(losses)
        return model

    measures = (f"rouge(limit={limit})", f"readability(limit={limit})", f"compression(limit={limit})")
    slotted = SpanTargets(train)
    first = taught(built(TEACHER, slotted), slotted, "before")
    table = {"pre-trained": rk.evaluate(first, test, *measures, fit_on=train, examples=0)}
    model = built(f"{judged} + {anchor} * {TEACHER}", slotted, first)
    rates = {turn: f"adam(lr={critic_lr}, betas=(0.5, 0.9))" for turn in model.objective.turns[1:]}
    last = {"optimizers": rates, "stage": f"critic-{critic}", **how}
    for step in rk.loop(model, slotted, steps=steps, lr=lr / 10, out=out, **last):
        for turn in critics * model.objective.turns[1:]:
            step.backward(step.model(step.batch, turn=turn).total)
            step.update(turn)
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(50):
            step.log(losses)
    model.save(f"{out}/model")
    table[f"critic {critic}"] = rk.evaluate(model, test, *measures, fit_on=train, examples=0)
    if supervised:
        told = parse(data)
        pairs = rk.dataset(str(replace(told, arguments={**told.arguments, "paired": True})))
        seen, _, _ = pairs.split(seed=seed, valid=True)
        ceiling = taught(built(SUPERVISOR, seen, first), seen, "supervised")
        table["supervised"] = rk.evaluate(ceiling, test, measures[0], examples=0)

    for name in ("lead-8", "lead-10", "lead-sentence", "random-words", "random-sentence"):
        table[name] = {"rouge": {"summary": table["pre-trained"]["rouge"][name]}}
    columns = {f"rouge.summary.{kind}": kind for kind in ("rouge1", "rouge2", "rougeL")}
    columns |= {"readability.perplexity": "perplexity", "compression.ratio": "length"}
    columns |= {"compression.nats": "nats a word"}
    texts = text_columns(model.eval(), test.subset(range(8)))
    rows = {f"{number}": each for number, each in enumerate(zip(*texts.values(), strict=True), 1)}
    shown = Section("Texts", [Table(list(texts), rows)])
    page = rk.report(out, table, title="Summaries without pairs", columns=columns, sections=[shown])
    if rank() == 0:
        for each in rows.values():
            print()
            for name, text in zip(texts, each, strict=True):
                print(f"{name}: {text}")
        print(f"\n{compare(table, columns)}\n\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
