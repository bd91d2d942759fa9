"""BERT on your own texts: masked language modeling, sentence embeddings, and classification from few labels.

Whole words are masked (15 % of the tokens are selected; of these 80 % become the mask token, 10 % a random token, 10 % stay).  A
transformer encoder reads the corrupted text, and a head predicts the selected tokens.  The folder OUT/bert has the format of
transformers: ``BertModel.from_pretrained`` gives equal outputs, and ``BertForMaskedLM`` fills masks where the latent is plain.
Afterwards the section of a Debian package is classified from its description with 500 labels, by a linear probe and by
fine-tuning of this network, by both on the same network from scratch, and by TF-IDF with logistic regression.

Paper: Devlin et al. 2019, "BERT: pre-training of deep bidirectional transformers for language understanding", arXiv 1810.04805.
Data: descriptions of Debian's packages in the 20 largest sections, split by first paragraph; by default the sample of 1,500 that
comes with reprkit-text.  Any ``text(path=...)`` or ``documents(path=...)`` works; without a label field the recipe stops after the
embeddings.
Expected: on all descriptions, with tuned settings, accuracy on test .614 fine-tuned, .367 from scratch, .583 with TF-IDF, means of
three draws of 500 labels; see docs/results/text.md.  The defaults take about five minutes of one core.

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
    ratio: Annotated[float, typer.Option(help="share of the tokens that is selected")] = 0.15,
    dropout: float = 0.1,
    labels: Annotated[int, typer.Option(help="number of labeled examples to learn the sections from")] = 500,
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
    longest = max(int(split.lengths()["x"].max()) for split in (train, valid, test))
    model = rk.build(
        data=train,
        encoder=f"bert(width={width}, depth={depth}, heads={heads}, positions={longest}, dropout={dropout})",
        latent=latent or f"continuous(dim={width})",
        decoder=f"bert(width={width})",
        objective=f"denoising(corruption='whole-words(ratio={ratio})', on='hit')",
        seed=seed,
    )
    classifiers, table, labeled = ("linear-probe", tune), {}, None
    if "label" in train.signature:
        labeled = label_subset(train, labels, seed=seed)
        table["TF-IDF"] = rk.evaluate(model, test, "tf-idf", fit_on=labeled, examples=0)
        table["from scratch"] = rk.evaluate(model, test, *classifiers, fit_on=labeled, examples=0)
    for step in rk.loop(
        model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **options
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(200):
            results = {}
            if labeled is not None:
                results = rk.evaluate(model, valid, "linear-probe", fit_on=labeled, examples=0)
            step.log(losses, results)
    model.save(f"{out}/model")
    if labeled is not None:
        table["masked-language"] = rk.evaluate(model, test, *classifiers, fit_on=labeled, examples=0)

    if rank() == 0:
        folder = save_pretrained(model.eval(), f"{out}/bert")
        # The exported network gives the same features in transformers.
        exported = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
        examples = test.batch(range(min(8, len(test))))
        mask = examples["x_mask"]
        with torch.no_grad():
            ours = model.factors["code"].encoder(model.to_device(examples)).x.cpu()[mask]
            theirs = exported(examples["x"], mask).last_hidden_state[mask]
        print(
            f"{folder}: transformers' BertModel differs by at most {float((ours - theirs).abs().max()):.1e}"
        )

        # The two texts whose embeddings have the highest cosine similarity.
        tokenizer, subset = vocabulary(train.signature["x"].form), test.subset(range(min(200, len(test))))
        texts = [tokenizer.decode(example["x"]) for example in subset]
        embeddings = torch.nn.functional.normalize(embed(model, texts), dim=-1)
        similarity = (embeddings @ embeddings.mT).fill_diagonal_(-1)
        first = int(similarity.max(1).values.argmax())
        second = int(similarity[first].argmax())
        print(f"\nmost similar of {len(texts)} texts:\n- {texts[first]}\n- {texts[second]}")
    if labeled is not None:
        names = ("tf-idf", "linear-probe", "finetune")
        columns = {f"{name}.accuracy": f"{name}, {labels} labels" for name in names}
        page = rk.report(out, table, title="BERT with few labels", columns=columns)
        if rank() == 0:
            print(f"\n{compare(table, columns)}\n\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
