"""Syntax and semantics of sentences: what a verse says, and how its translation says it, as two factors.

A verse is given in two translations.  The encoder of the meaning reads it in one, and must find it among other verses by the code
of the other (InfoNCE).  What a linear classifier tells of the translation from the trained code is erased in closed form; an
adversary may be trained against it, too.  The encoder of the style reads the verse in the other translation.  A linear layer on its
code classifies the translation, and a decoder writes the verse in this translation, from the meaning and the style.  With the
meaning of one verse and the style of another, it writes the first verse in the second one's style.

Papers: Chen et al. 2019, "A multi-task approach for disentangling syntax and semantics in sentence representations", arXiv
1904.01173; Radford et al. 2021, arXiv 2103.00020 (InfoNCE of two encoders); Belrose et al. 2023, arXiv 2306.03819 (the erasure);
Chou et al. 2018, arXiv 1804.02812 (the adversary); John et al. 2019, arXiv 1808.04339 (the style classified).
Data: 31,077 verses of the King James and the World English Bible (Debian's packages), split by verse.
Needs scikit-learn and the extra reprkit-text[rouge].
Expected: docs/results/text.md.

    reprkit text fetch verses
    python recipes/syntax_semantics.py
    python recipes/syntax_semantics.py --data "verses(translations=('web', 'rv'))"        # English and Spanish
    python recipes/syntax_semantics.py --encoder "gru(width={width})" --latent "vq(codes=512, dim=64)"
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.models.erase_label import erase_label
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

# Symbols, and pairs of neighbors; the large std makes verses match by pairs that do not occur in training, too.
PAIRS = "hashed-ngrams(dim={width}, shortest=1, longest=2, buckets=65536, std=0.044)"
MEANING = "across(factors=('own', 'meaning'), dim={width})"
ADVERSARY = (
    " + {adversary} * adversary(label='other_translation', factor='meaning', depth=0, standardize=True)"
)
WRITING = "reconstruction + classify(label='translation', factor='style')"
MEASURES = (
    "retrieval(query='own', target='meaning')",
    "linear-probe(label='other_translation', factor='meaning')",
    "mlp-probe(label='other_translation', factor='meaning')",
    "linear-probe(label='translation', factor='style')",
)
COLUMNS = {
    "retrieval.own_to_meaning.recall_at_1": "verse found (R@1)",
    "linear-probe.accuracy": "translation read from meaning",
    "mlp-probe.accuracy": "by a network",
    "style-probe.accuracy": "translation read from style",
    "style-exchange.judged": "exchanged: judged as asked",
    "style-exchange.kept": "exchanged: words kept",
    "style-exchange.kept_unchanged": "words kept unchanged",
}


def main(
    data: str = "verses",
    width: int = 512,
    encoder: Annotated[str, typer.Option(help="of the meaning")] = PAIRS,
    latent: Annotated[str, typer.Option(help="of the meaning, any")] = "continuous(dim={width})",
    style: Annotated[
        str, typer.Option(help="encoder of the style, averaged over the text")
    ] = "words(dim=32)",
    decoder: str = "transformer(width=128, depth=2, causal=True)",
    adversary: Annotated[float, typer.Option(help="weight of the adversary; 0 omits it")] = 0.0,
    erase: Annotated[bool, typer.Option(help="erase the translation from the trained meaning")] = True,
    steps: Annotated[int, typer.Option(help="of the meaning")] = 200,
    writing: Annotated[int, typer.Option(help="steps of style and decoder")] = 1_500,
    batch: int = 512,
    lr: float = 3e-3,
    limit: Annotated[int, typer.Option(help="test verses that are written in the other style")] = 200,
    seed: int = 0,
    out: str = "runs/syntax_semantics",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine(final=0.05)", clip=1.0),
) -> None:
    train, test = rk.dataset(data).split(seed=seed)
    one_way = test.subset(
        (test.label_values("translation") == 0).nonzero().squeeze(1)
    )  # each verse once: R@1
    sizes = {"width": width, "adversary": adversary}
    read = rk.create("encoder", encoder.format(**sizes), data=train.signature)
    factors = {
        "own": rk.factor(read, latent.format(**sizes)),
        "meaning": rk.factor(read, latent.format(**sizes), input="other"),  # the same encoder
        "style": rk.factor(style, "continuous(dim=8)", pool=True),
    }

    def measure(model: rk.Model) -> dict[str, dict[str, float]]:
        found = dict(rk.evaluate(model, one_way, MEASURES[0], fit_on=train, examples=0))
        return found | dict(rk.evaluate(model, test, *MEASURES[1:3], fit_on=train, examples=0))

    def train_stage(model: rk.Model, stage: str, steps: int, batch: int) -> rk.Model:
        critics = {turn: f"adam(lr={lr})" for turn in model.objective.turns[1:]}
        options = {
            "batch": batch,
            "seed": seed,
            "out": out,
            "resume": resume,
            "optimizers": critics,
            **launch,
        }
        for step in rk.loop(model, train, steps=steps, lr=lr, stage=stage, **options):
            for turn in model.objective.turns[::-1]:  # the critic first
                losses = step.model(step.batch, turn)
                step.backward(losses.total)
                step.update(turn)
            if step.every(100):
                step.log(losses)
        return model

    objective = (MEANING + (ADVERSARY if adversary else "")).format(**sizes)
    untrained = rk.build(data=train, factors=factors, objective=objective, seed=seed)
    table = {"untrained": measure(untrained)}
    meaning = train_stage(untrained, "meaning", steps, batch)
    if erase:
        table["before erasing"] = measure(meaning)
        for name, label in (("own", "translation"), ("meaning", "other_translation")):
            erase_label(meaning, train, label=label, factor=name)
    table["trained"] = measure(meaning)
    del factors["own"]  # no decoder reads it
    model = rk.build(
        data=train, factors=factors, decoder=decoder.format(**sizes), objective=WRITING, seed=seed,
        start=meaning, freeze=("meaning",),
    )  # fmt: skip
    model = train_stage(model, "writing", writing, max(1, batch // 16))
    model.save(f"{out}/model")
    judges = (MEASURES[3], f"style-exchange(limit={limit})")
    judged = dict(rk.evaluate(model, test, *judges, fit_on=train, examples=0))
    table["trained"] |= {"style-probe": judged.pop("linear-probe"), **judged}
    page = rk.report(out, table, title="Syntax and semantics of sentences", columns=COLUMNS)
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
