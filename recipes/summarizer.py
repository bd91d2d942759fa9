"""Summarizer trained without document-summary pairs: a text as the latent of an autoencoder.

An encoder reads a document, a generator writes a few words, and a decoder reconstructs the document from these words alone.  A
critic that has seen human summaries of other documents keeps the words readable.  Generator and reconstructor are pre-trained
first: on the span of each document that is most like a human summary (chosen by an n-gram model; no pairs are needed), and on human
summaries put in its place.  Both copy words with a pointer that names them before any training (``start_pointer``).  The table
also has the span itself, which needs no network.  On the small sample pre-training is the better part, so the critic is omitted
unless ``--steps`` is given.  How the choice of words is then trained, ``--critic``:

- wgan: gradients pass through the sampled words (straight-through Gumbel-softmax) to a Wasserstein critic.
- self-critic: policy gradient; sampled words are rewarded by how they change the score of a critic that reads word after word.  It
  needs a latent of words, and is the better choice there.
- none: reconstruction only.

Any other latent runs with wgan, which then keeps its codes of documents like those of human summaries.

Paper: Wang and Lee 2018, "Learning to encode text as human-readable summaries using GANs", arXiv 1810.02851.
Data: Debian's package descriptions, their one-line synopses as human summaries; a sample of 1,500 comes with reprkit-text.
Needs the extra reprkit-text[rouge].
Expected: five to eight minutes of one core; the span is above the lead sentence (ROUGE-1 33.6, lead sentence 31.7, mean of three
seeds), and so is the network (32.7 against 32.5, ROUGE-L 29.4 against 28.3, seed 0).  With 2,400 steps of pre-training on all of
Debian it is 34.6 (first 10 words 31.6); docs/results/text.md.

    python recipes/summarizer.py
    python recipes/summarizer.py --steps 40 --critic self-critic --supervised
    python recipes/summarizer.py --steps 40 --latent "vq(codes=512, dim=64)"
    python recipes/summarizer.py --folder FOLDER --lr 1e-4   # a local BART or T5 of transformers
    python recipes/summarizer.py --data "documents(path='pairs.jsonl', tokenizer='byte-pair(vocab=4000, lower=True)', length=64)"
    reprkit text fetch debian && python recipes/summarizer.py --before 2400 --steps 40 --data "debian(index='fetched', length=44, \
summary_length=15, tokenizer='byte-pair(vocab=2000, lower=True)')"

Use the model: ``reprkit text summarize OUT/model < documents > summaries``.
"""

from dataclasses import replace
from typing import Annotated

import typer
from reprkit_text.data.span_targets import SpanTargets
from reprkit_text.decoded_text import text_columns
from reprkit_text.pointer_start import start_pointer
from reprkit_text.transformers_generator import checkpoint_kind

import reprkit as rk
from reprkit.errors import PartArgumentError, nearest
from reprkit.registry.references import parse
from reprkit.reporting import Section, Table, compare
from reprkit.utils.collectives import rank

DEBIAN = "debian(length=44, summary_length=15, tokenizer='byte-pair(vocab=2000, lower=True)')"
SPAN = {"high": 15, "bonus": 0.5, "rounds": 2}  # chosen on valid
CHECKPOINT = "text(folder={folder!r}, length=16, gradient='{gradient}')"
TEXT = (
    "text(vocab={size}, width={width}, length=16, end=0, never=(1, 2, 3), follow=True, gradient='{gradient}')"
)
PRETRAINING = "summary(slot='slot', copy={copy}, drop=0.05, reconstructor=0.2, turn='main')"
SUPERVISED = (
    "summary(lead=0, denoise=0, reconstructor=0, paired=1, copy={copy}, boundary=0, drop=0.05, turn='main')"
)
CRITICS = {  # gradient of the choice of words, and the losses added to those of pre-training
    "wgan": ("straight-through", "0.2 * reconstruction + 10 * critic(real='summary')"),
    "self-critic": ("policy", "0.02 * self-critical + 10 * self-critic(real='summary')"),
    "none": ("straight-through", "0.2 * reconstruction"),
}


def main(
    data: Annotated[str, typer.Option(help="documents, and summaries of other documents")] = DEBIAN,
    folder: Annotated[
        str, typer.Option(help="a local BART or T5: encoder and writer, on debian with its tokenizer")
    ] = "",
    width: int = 128,
    encoder: str = "transformer(width={width}, depth=2, heads=4)",
    latent: Annotated[str, typer.Option(help="between encoder and decoder, any")] = TEXT,
    decoder: str = "pointer(width={width}, follow=True)",
    critic: Annotated[str, typer.Option(help=", ".join(CRITICS))] = "wgan",
    before: Annotated[int, typer.Option(help="steps of pre-training")] = 600,
    steps: Annotated[int, typer.Option(help="steps with the critic; 0 omits them")] = 0,
    critics: Annotated[int, typer.Option(help="steps of the critic for each step of the generator")] = 3,
    anchor: Annotated[float, typer.Option(help="weight of the pre-training losses in the main stage")] = 0.2,
    supervised: Annotated[
        bool, typer.Option(help="also train the pre-trained generator on pairs: an upper bound")
    ] = False,
    limit: Annotated[int, typer.Option(help="number of test documents to evaluate on")] = 2_000,
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
    if folder:
        data = DEBIAN.replace("'byte-pair(vocab=2000, lower=True)'", repr(folder)) if data == DEBIAN else data
        encoder, latent = f"{checkpoint_kind(folder)}(folder={{folder!r}})", CHECKPOINT
    train, _, test = rk.dataset(data).split(seed=seed, valid=True)
    gradient, critic_losses = CRITICS[critic]
    values = {"width": width, "size": train.signature["x"].vocab, "gradient": gradient, "folder": folder}
    pretraining, supervision = (
        losses.format(copy=0 if folder else 0.1)  # a checkpoint has no pointer
        for losses in (PRETRAINING, SUPERVISED)
    )
    templates = {"encoder": encoder, "latent": latent, "decoder": decoder}
    parts = {kind: template.format(**values) for kind, template in templates.items()}
    options = {
        "warmup": min(before, steps or 40) // 10,
        "batch": batch,
        "seed": seed,
        "resume": resume,
        **launch,
    }

    def build(objective: str, data: rk.Dataset, start: rk.Model | None = None) -> rk.Model:
        return rk.build(data=data, objective=objective, seed=seed, start=start, **parts)

    def train_stage(model: rk.Model, data: rk.Dataset, stage: str) -> rk.Model:
        for step in rk.loop(model, data, steps=before, lr=lr, out=out, stage=stage, **options):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(100):
                step.log(losses)
        return model

    measures = (f"rouge(limit={limit})", f"readability(limit={limit})", f"compression(limit={limit})")
    spans = SpanTargets(train, **SPAN)
    start = build(pretraining, spans)
    start_pointer(start)
    pretrained = train_stage(start, spans, "before")
    table = {"pre-trained": rk.evaluate(pretrained, test, *measures, fit_on=train, examples=0)}

    model = pretrained
    if steps:
        model = build(f"{critic_losses} + {anchor} * {pretraining}", spans, pretrained)
        optimizers = {turn: f"adam(lr={critic_lr}, betas=(0.5, 0.9))" for turn in model.objective.turns[1:]}
        main = {"optimizers": optimizers, "stage": f"critic-{critic}", **options}
        for step in rk.loop(model, spans, steps=steps, lr=lr / 10, out=out, **main):
            for turn in critics * model.objective.turns[1:]:
                step.backward(step.model(step.batch, turn=turn).total)
                step.update(turn)
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(50):
                step.log(losses)
        table[f"critic {critic}"] = rk.evaluate(model, test, *measures, fit_on=train, examples=0)
    model.save(f"{out}/model")
    if supervised:
        reference = parse(data)
        paired = rk.dataset(str(replace(reference, arguments={**reference.arguments, "paired": True})))
        pairs, _, _ = paired.split(seed=seed, valid=True)
        upper_bound = train_stage(build(supervision, pairs, pretrained), pairs, "supervised")
        table["supervised"] = rk.evaluate(upper_bound, test, measures[0], examples=0)

    for name in ("lead-8", "lead-10", "lead-sentence", "random-words", "random-sentence"):
        table[name] = {"rouge": {"summary": table["pre-trained"]["rouge"][name]}}
    table["span, no network"] = {"rouge": {"summary": spans.rouge(test, limit)}}
    columns = {f"rouge.summary.{kind}": kind for kind in ("rouge1", "rouge2", "rougeL")}
    columns |= {"readability.perplexity": "perplexity", "compression.ratio": "length"}
    columns |= {"compression.nats": "nats a word"}
    indices, pairs = test.reference_pairs()
    texts = {"human": [summary for _, summary in pairs[:8]]}
    shown = test.subset(indices[:8])
    texts |= {"span": SpanTargets(shown, finder=spans.finder).texts()} | text_columns(model.eval(), shown)
    rows = {f"{number}": row for number, row in enumerate(zip(*texts.values(), strict=True), 1)}
    examples = Section("Texts", [Table(list(texts), rows)])
    page = rk.report(out, table, title="Summaries without pairs", columns=columns, sections=[examples])
    if rank() == 0:
        for row in rows.values():
            print()
            for name, text in zip(texts, row, strict=True):
                print(f"{name}: {text}")
        print(f"\n{compare(table, columns)}\n\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
