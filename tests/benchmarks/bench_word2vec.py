"""word2vec beside gensim: words a CPU second on one core, and quality at equal epochs.

    apt-get download dict-gcide wordnet-base; reprkit text fetch debian  # then clean text, one paragraph a line, in FOLDER
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_word2vec.py FOLDER --kind cbow --seeds 3

Both read the same words, with the same vocabulary, subsampling, window, negatives, width and epochs, in one thread.  Time is
processor time of training alone: gensim's ``train`` of lists of words, and the loop with its data set's batches.
"""

import argparse
import statistics
import tempfile
import time

import torch
from gensim.models import KeyedVectors, Word2Vec
from gensim.test.utils import datapath
from reprkit_text import word_vectors
from reprkit_text.data.words import Words

import reprkit as rk

WINDOW, DIM, NEGATIVES = 5, 100, 5


def quality(vectors):
    similarity = [
        float(vectors.evaluate_word_pairs(datapath(f))[1].statistic)
        for f in ("wordsim353.tsv", "simlex999.txt")
    ]
    return [*similarity, vectors.evaluate_word_analogies(datapath("questions-words.txt"))[0]]


def run_gensim(data, kind, epochs, seed):
    full, symbols = data["full"], data["full"].vocabulary.symbols
    rows = [
        [symbols[i] for i in row.tolist()] for row in full._symbols.flat.split(full.lengths()["x"].tolist())
    ]
    options = {"vector_size": DIM, "window": WINDOW, "min_count": 5, "sample": 1e-3, "negative": NEGATIVES}
    model = Word2Vec(sg=int(kind == "skip-gram"), workers=1, seed=seed, **options)
    model.build_vocab(rows)
    start = time.process_time()
    model.train(rows, total_examples=len(rows), epochs=epochs)
    return time.process_time() - start, quality(model.wv)


def run_ours(data, kind, epochs, seed, settings):
    train = Words(data["path"], "words(min_count=5)", subsample=1e-3, draws=epochs, seed=seed)
    window, neighbors = (WINDOW, None) if kind == "cbow" else (None, WINDOW)
    model = rk.build(
        data=train,
        encoder=f"words(dim={DIM}, window={window}, sparse=True)",
        latent=f"continuous(dim={DIM})",
        decoder=f"words(dim=None, neighbors={neighbors}, negatives={NEGATIVES}, shared={settings.shared}, sparse=True)",
        objective="reconstruction",
        freeze=("adapters",),
        seed=seed,
    )
    start = time.process_time()
    options = {"optimizer": settings.optimizer, "lr": settings.lr, "schedule": "linear", "buckets": True}
    for step in rk.loop(
        model, train, steps=len(train) // settings.batch, batch=settings.batch, seed=seed, **options
    ):
        step.backward(step.model(step.batch).total)
        step.update()
    seconds = time.process_time() - start
    with tempfile.NamedTemporaryFile() as file:
        word_vectors(model).save(file.name, binary=True)
        return seconds, quality(KeyedVectors.load_word2vec_format(file.name, binary=True))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?", help="folder of text; without it nothing is measured")
    parser.add_argument("--kind", choices=("cbow", "skip-gram"), default="skip-gram")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--shared", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--optimizer", default="adagrad")
    parser.add_argument("--only", choices=("gensim", "reprkit"))
    settings = parser.parse_args()
    if settings.path is None:
        print("bench_word2vec: not run, it needs a FOLDER of text")
        return
    torch.set_num_threads(1)
    data = {
        "path": settings.path,
        "full": Words(settings.path, "words(min_count=5)", subsample=0, length=10_000),
    }
    words = data["full"].facts["words"] * settings.epochs
    for name in ("gensim", "reprkit"):
        if settings.only not in (None, name):
            continue
        rates, scores = [], []
        for seed in range(settings.seeds):
            given = (data, settings.kind, settings.epochs, seed)
            seconds, found = run_gensim(*given) if name == "gensim" else run_ours(*given, settings)
            rates.append(words / seconds)
            scores.append(found)
            print(
                f"{name} {settings.kind} seed {seed}: {rates[-1]:,.0f} words a second, {[round(x, 3) for x in found]}",
                flush=True,
            )
        means = [statistics.mean(each) for each in zip(*scores, strict=True)]
        print(
            f"{name} {settings.kind}: median {statistics.median(rates):,.0f} words a second; WordSim, SimLex, analogies {means}"
        )


if __name__ == "__main__":
    main()
