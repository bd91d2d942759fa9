"""BERT from one's own texts: masked-language modelling, sentence embeddings, and what they are worth where labels are few.

Whole words are hidden (15 % of the symbols; 80 % masked, 10 % replaced, 10 % kept), an encoder of transformers reads the rest
and a head tells what was hidden.  The folder OUT/bert is transformers' own: ``BertModel.from_pretrained`` gives equal outputs,
``BertForMaskedLM`` fills masks where the latent is plain.  Then the section of a Debian package is told from its description
with 500 labels: linear probe and fine-tuning of this network, of the same from scratch, and TF-IDF with logistic regression.

Paper: Devlin et al. 2019, "BERT: pre-training of deep bidirectional transformers for language understanding", arXiv 1810.04805.
Data: descriptions of Debian's packages in the 20 largest sections, split by first paragraph; by default the sample of 1,500 that
comes with reprkit-text.  Any ``text(path=...)`` or ``documents(path=...)`` will do; without a label it stops at the embeddings.
Takes about five minutes of one core; figures on all descriptions: docs/results/text.md.

    python recipes/bert.py
    reprkit text fetch debian && python recipes/bert.py --data "debian(index='fetched', part='whole', sections=20, \
tokenizer='byte-pair(vocab=4000, lower=True)', length=128)" --steps 18000 --depth 2 --dropout 0
    python recipes/bert.py --data "text(path='notes', tokenizer='byte-pair(vocab=2000)')"
    python recipes/bert.py --latent "vq(codes=512, dim=64)"
"""

from typing import Annotated

import torch
import typer
from reprkit_text import embed, save_pretrained
from reprkit_text.vocabulary import vocabulary
from transformers import BertModel

import reprkit as rk
from reprkit.evaluation.label_subset import label_subset
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

DEBIAN = "debian(part='whole', sections=20, tokenizer='byte-pair(vocab=4000, lower=True)', length=128)"


def main(
    data: str = DEBIAN,
    width: Annotated[int, typer.Option(help="of the encoder")] = 128,
    depth: Annotated[int, typer.Option(help="of the encoder")] = 3,
    heads: int = 4,
    latent: Annotated[str | None, typer.Option(help="between encoder and head; plain if not given")] = None,
    ratio: Annotated[float, typer.Option(help="share of the symbols that is hidden")] = 0.15,
    dropout: float = 0.1,
    labels: Annotated[int, typer.Option(help="how many to learn the sections from")] = 500,
    tune: Annotated[str, typer.Option(help="how to fine-tune")] = "finetune(steps=300, batch=32)",
    steps: int = 600,
    batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/bert",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0, weight_decay=0.01, buckets=True),
) -> None:
    options = {"warmup": steps // 20, **launch}
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    longest = max(int(part.lengths()["x"].max()) for part in (train, valid, test))
    model = rk.build(
        data=train,
        encoder=f"bert(width={width}, depth={depth}, heads={heads}, positions={longest}, dropout={dropout})",
        latent=latent or f"continuous(dim={width})",
        decoder=f"bert(width={width})",
        objective=f"denoising(corruption='whole-words(ratio={ratio})', on='hit')",
        seed=seed,
    )
    judges, table, known = ("linear-probe", tune), {}, None
    if "label" in train.signature:
        known = label_subset(train, labels, seed=seed)
        table["TF-IDF"] = rk.evaluate(model, test, "tf-idf", fit_on=known, examples=0)
        table["from scratch"] = rk.evaluate(model, test, *judges, fit_on=known, examples=0)
    for step in rk.loop(
        model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **options
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(200):
            probed = (
                {} if known is None else rk.evaluate(model, valid, "linear-probe", fit_on=known, examples=0)
            )
            step.log(losses, probed)
    model.save(f"{out}/model")
    if known is not None:
        table["masked-language"] = rk.evaluate(model, test, *judges, fit_on=known, examples=0)

    if rank() == 0:
        folder = save_pretrained(model.eval(), f"{out}/bert")
        theirs, given = (
            BertModel.from_pretrained(folder, add_pooling_layer=False).eval(),
            test.batch(range(min(8, len(test)))),
        )
        with torch.no_grad():
            ours = model.factors["code"].encoder(model.to_device(given)).x.cpu()[given["x_mask"]]
            other = theirs(given["x"], given["x_mask"]).last_hidden_state[given["x_mask"]]
        print(f"{folder}: transformers' BertModel differs by at most {float((ours - other).abs().max()):.1e}")
        words, some = vocabulary(train.signature["x"].form), test.subset(range(min(200, len(test))))
        said = [words.decode(each["x"]) for each in some]
        near = torch.nn.functional.normalize(embed(model, said), dim=-1)
        likeness = (near @ near.mT).fill_diagonal_(-1)
        one = int(likeness.max(1).values.argmax())
        print(f"\nnearest of {len(said)}:\n- {said[one]}\n- {said[int(likeness[one].argmax())]}")
    if known is not None:
        shown = {
            f"{each}.accuracy": f"{each}, {labels} labels" for each in ("tf-idf", "linear-probe", "finetune")
        }
        page = rk.report(out, table, title="What masked-language modelling teaches", columns=shown)
        if rank() == 0:
            print(f"\n{compare(table, shown)}\n\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
