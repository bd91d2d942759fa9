"""Word vectors from text: CBOW as an autoencoder with any latent, and skip-gram.

CBOW is encoder → latent → decoder: the encoder takes the mean of the vectors of the words around each word, the decoder predicts
the word by negative sampling, and between them stands any latent, by one string.  Skip-gram (--kind skip-gram) encodes a word by
its own vector, and the decoder predicts the words around it.  The page shows the nearest neighbors of words; the vectors are
written in word2vec's format, which gensim's ``KeyedVectors.load_word2vec_format`` reads.

Sources: Mikolov et al. 2013a, arXiv 1301.3781; Mikolov et al. 2013b, arXiv 1310.4546.
Data: a text file or folder, a paragraph a line; by default the descriptions of Debian's packages: all 64,000 after "reprkit text
fetch debian", else the 1,500 that come with reprkit-text, which are few: neighbors are then of topics.
Expected: with --batch 1024 skip-gram has about gensim's words a second, CBOW a third of them; smaller steps are slower.
Quality beside it: docs/results/word2vec.md.

    python recipes/word2vec.py
    python recipes/word2vec.py --kind skip-gram --data FOLDER --passes 5
    python recipes/word2vec.py --latent "vq(codes=512, dim=100)" --train-maps
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from reprkit_text import debian_index, word_vectors

import reprkit as rk
from reprkit.errors import DataError
from reprkit.reporting import Section, Table
from reprkit.utils.cache import cache_folder, write_cached
from reprkit.utils.collectives import rank


def descriptions() -> Path:
    """Write the paragraphs of Debian's descriptions to a file in the cache, each once, and return it."""
    fetched = debian_index.cached_path()
    _, rows = debian_index.read(fetched if fetched.is_file() else debian_index.SAMPLE)
    lines = dict.fromkeys(line for row in rows for line in row["paragraphs"].split("\n\n") if line)
    path = cache_folder("text") / "word2vec" / f"debian-{len(rows)}.txt"
    write_cached(path, "\n".join(lines).encode())
    return path


def main(
    data: Annotated[
        str | None, typer.Option(help="a text file or folder; Debian's descriptions if not given")
    ] = None,
    kind: Literal["cbow", "skip-gram"] = "cbow",
    latent: Annotated[str, typer.Option(help="any latent; {dim} stands for --dim")] = "continuous(dim={dim})",
    train_maps: Annotated[
        bool,
        typer.Option(
            help="train the linear maps around the latent; else they stay as they start, the identity at equal widths"
        ),
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
    launch: rk.Launch = rk.Launch(schedule="linear", optimizer="row-adagrad", buckets=True),
) -> None:
    text = {"path": data or str(descriptions()), "tokenizer": f"words(min_count={min_count})"}
    corpus = rk.dataset("words", **text, subsample=subsample, draws=passes, seed=seed)
    train, test = corpus.split(seed=seed, test_share=0.05)
    cbow = kind == "cbow"
    model = rk.build(
        data=train,
        encoder=f"words(dim={dim}, window={window if cbow else None}, sparse=True)",
        latent=latent.replace("{dim}", str(dim)),
        decoder=f"words(dim=None, neighbors={None if cbow else window}, negatives={negatives}, shared=32, group=4, sparse=True)",
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
