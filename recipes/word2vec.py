"""Word vectors from text: CBOW as an autoencoder with any latent, and skip-gram.

CBOW is encoder → latent → decoder: the encoder takes the mean of the vectors of the words around each word, the decoder predicts
the word by negative sampling, and between them stands any latent, by one string.  Skip-gram (--kind skip-gram) encodes a word by
its own vector, and the decoder predicts the words around it.  The page shows the nearest neighbors of words; the vectors are
written in word2vec's format, which gensim's ``KeyedVectors.load_word2vec_format`` reads.

Sources: Mikolov et al. 2013a, arXiv 1301.3781; Mikolov et al. 2013b, arXiv 1310.4546.
Data: a text file or folder, a paragraph a line; by default the 1,500 descriptions of Debian's packages that come with reprkit-text.
Expected: with the default data neighbors are of topics, and human judgments of similarity are hardly met: the text is small.

    python recipes/word2vec.py
    python recipes/word2vec.py --kind skip-gram --data FOLDER --passes 5
    python recipes/word2vec.py --latent "vq(codes=512, dim=100)" --train-maps
"""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer
from reprkit_text import word_vectors
from reprkit_text.data.debian import Debian

import reprkit as rk
from reprkit.errors import DataError
from reprkit.reporting import Section, Table
from reprkit.utils.collectives import rank


def sample_file(folder: str) -> Path:
    """Write the bundled descriptions as lines of text, and return the file."""
    data = Debian(part="whole", words=(5, 10_000), length=None)
    path = Path(folder, "debian.txt")
    path.write_text("\n".join(" ".join(data.text(index).split()) for index in range(len(data))) + "\n")
    return path


def main(
    data: Annotated[
        str | None, typer.Option(help="a text file or folder; Debian's descriptions if not given")
    ] = None,
    kind: Literal["cbow", "skip-gram"] = "cbow",
    latent: str = "continuous(dim=100)",
    train_maps: Annotated[
        bool,
        typer.Option(help="train the linear maps around the latent, for another latent than the plain one"),
    ] = False,
    dim: int = 100,
    window: int = 5,
    negatives: float = 5.0,
    min_count: int = 5,
    subsample: float = 1e-3,
    passes: Annotated[
        int, typer.Option(help="times that the text is read, each with its own draw of frequent words")
    ] = 10,
    words: Annotated[
        str, typer.Option(help="words whose neighbors are printed, by commas; frequent ones if empty")
    ] = "",
    judge: Annotated[
        bool, typer.Option(help="human judgments of similarity, and analogies; needs gensim")
    ] = False,
    batch: int = 256,
    lr: float = 0.05,
    seed: int = 0,
    out: str = "runs/word2vec",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="linear", optimizer="adagrad", buckets=True),
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = {"path": data or str(sample_file(folder)), "tokenizer": f"words(min_count={min_count})"}
        corpus = rk.dataset("words", **text, subsample=subsample, draws=passes, seed=seed)
    train, test = corpus.split(seed=seed, test_share=0.05)
    cbow = kind == "cbow"
    model = rk.build(
        data=train,
        encoder=f"words(dim={dim}, window={window if cbow else None}, sparse=True)",
        latent=latent,
        decoder=f"words(dim=None, neighbors={None if cbow else window}, negatives={negatives}, sparse=True)",
        objective="reconstruction",
        freeze=() if train_maps else ("adapters",),
        seed=seed,
    )
    steps = max(1, len(train) // batch)  # the whole data set once
    for step in rk.loop(
        model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **launch
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(200) or step.last:
            step.log(losses)
    model.save(f"{out}/model")
    vectors = word_vectors(model)
    asked = [word.strip() for word in words.split(",") if word.strip()] or [*vectors.words[100:400:25]]
    if unknown := [word for word in asked if word not in vectors]:
        raise DataError(f"--words: no vector of {', '.join(unknown)}; --min-count is {min_count}")
    near = {word: [", ".join(name for name, _ in vectors.neighbors(word, 8))] for word in asked}
    judges = ("word-similarity", "word-similarity(pairs='simlex999')", "analogies") if judge else ()
    results = rk.evaluate(
        model, test.subset(range(min(len(test), 2_000))), "reconstruction", *judges, examples=0
    )
    table = Table(["nearest neighbors"], near)
    page = rk.report(
        out, results, title=f"word2vec, {kind}", sections=[Section("Nearest neighbors", [table])]
    )
    if rank() == 0:
        print(table)
        print(f"\n{len(vectors.words):,} vectors: {vectors.save(f'{out}/vectors.txt')}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
