"""word2vec beside gensim: words a CPU second on one core, and quality at equal epochs.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_word2vec.py FOLDER --kind cbow skip-gram --seeds 3

Both read the same words, with the same vocabulary, subsampling, window, negatives, width and epochs, in one thread, by turns.  Time
is processor time of training alone: gensim's ``train`` of lists of words, and the loop with its data set's batches.  What differs:
gensim draws negatives for each word and trains by SGD, word by word; here examples share noise words, a step has many examples,
and the optimizer has one step size a row.  The vectors of both are read from files in word2vec's format and judged by one program.
"""

import argparse
import statistics
import tempfile
import time

import torch
from gensim.models import Word2Vec
from reprkit_text import WordVectors, word_vectors
from reprkit_text.data.words import Words
from reprkit_text.evaluators.analogies import analogy_accuracy
from reprkit_text.evaluators.word_similarity import similarity_correlation

import reprkit as rk

WINDOW, DIM, NEGATIVES, WARM_UP = 5, 100, 5, 3
MEASURES = ("WordSim-353", "SimLex-999", "analogies")


def quality(save):
    with tempfile.NamedTemporaryFile() as file:
        save(file.name)
        vectors = WordVectors.load(file.name, binary=True)
    found = [similarity_correlation(vectors, name)["spearman"] for name in ("wordsim353", "simlex999")]
    return [*found, analogy_accuracy(vectors)["accuracy"]]


def run_gensim(rows, kind, epochs, seed):
    options = {"vector_size": DIM, "window": WINDOW, "min_count": 5, "sample": 1e-3, "negative": NEGATIVES}
    model = Word2Vec(sg=int(kind == "skip-gram"), workers=1, seed=seed, **options)
    model.build_vocab(rows)
    start = time.process_time()
    model.train(rows, total_examples=len(rows), epochs=epochs)
    seconds = time.process_time() - start
    return seconds, quality(lambda path: model.wv.save_word2vec_format(path, binary=True))


def run_ours(train, kind, seed, settings):
    window, neighbors = (WINDOW, None) if kind == "cbow" else (None, WINDOW)
    noise = f"negatives={NEGATIVES}, shared={settings.shared}, group={settings.group}"
    model = rk.build(
        data=train,
        encoder=f"words(dim={DIM}, window={window}, sparse=True)",
        latent=f"continuous(dim={DIM})",
        decoder=f"words(dim=None, neighbors={neighbors}, {noise}, sparse=True)",
        objective="reconstruction",
        freeze=("adapters",),
        seed=seed,
    )
    steps, start = len(train) // settings.batch, 0.0
    options = {"optimizer": settings.optimizer, "lr": settings.lr, "schedule": "linear", "buckets": True}
    for step in rk.loop(
        model, train, steps=steps, batch=settings.batch, seed=seed, progress=False, **options
    ):
        if step.index == WARM_UP:  # libraries are imported in the first step
            start = time.process_time()
        step.backward(step.model(step.batch).total)
        step.update()
    seconds = (time.process_time() - start) * steps / (steps - WARM_UP)
    return seconds, quality(lambda path: word_vectors(model).save(path, binary=True))


def summarize(kind, rates, scores):
    for name, found in scores.items():
        figures = [
            f"{measure} {statistics.mean(each):.3f} (deviation {statistics.stdev(each) if len(each) > 1 else 0:.3f})"
            for measure, each in zip(MEASURES, zip(*found, strict=True), strict=True)
        ]
        print(
            f"{name} {kind}: median {statistics.median(rates[name]):,.0f} words a second; {'; '.join(figures)}"
        )
    if len(rates) == 2:
        ratio = statistics.median(rates["reprkit"]) / statistics.median(rates["gensim"])
        print(f"{kind}: reprkit has {ratio:.2f} of gensim's words a second", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?", help="folder of text; without it nothing is measured")
    parser.add_argument("--kind", nargs="+", choices=("cbow", "skip-gram"), default=["cbow", "skip-gram"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--shared", type=int, default=32, help="noise words of a group")
    parser.add_argument("--group", type=int, default=4, help="examples that share noise words")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--optimizer", default="row-adagrad")
    parser.add_argument("--only", choices=("gensim", "reprkit"))
    settings = parser.parse_args()
    if settings.path is None:
        print("bench_word2vec: not run, it needs a FOLDER of text")
        return
    torch.set_num_threads(1)
    full = Words(settings.path, "words(min_count=5)", subsample=0, length=10_000)
    symbols = full.vocabulary.symbols
    rows = [[symbols[i] for i in full[index]["x"].tolist()] for index in range(len(full))]
    train = Words(settings.path, full.vocabulary, subsample=1e-3, draws=settings.epochs)
    words = full.facts["words"] * settings.epochs
    print(f"{full.facts['words']:,} words, {len(symbols):,} in the vocabulary", flush=True)
    for kind in settings.kind:
        rates, scores = {}, {}
        for seed in range(settings.seeds):
            for name in ("gensim", "reprkit"):
                if settings.only not in (None, name):
                    continue
                given = (
                    (rows, kind, settings.epochs, seed) if name == "gensim" else (train, kind, seed, settings)
                )
                seconds, found = (run_gensim if name == "gensim" else run_ours)(*given)
                rates.setdefault(name, []).append(words / seconds)
                scores.setdefault(name, []).append(found)
                print(
                    f"{name} {kind} seed {seed}: {words / seconds:,.0f} words a second, {[round(x, 3) for x in found]}",
                    flush=True,
                )
        summarize(kind, rates, scores)


if __name__ == "__main__":
    main()
