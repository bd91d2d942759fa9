"""``recipes/word2vec.py``: words of one topic become neighbors, and gensim reads what it writes."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from reprkit_text import WordVectors

RECIPE = Path(__file__).parents[2] / "recipes/word2vec.py"
TOPICS = ("cat dog cow hen goat", "red blue green pink gray", "one two four nine ten")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cbow", "skip-gram"])
def test_words_of_one_topic_become_neighbors(tmp_path, kind):
    draw = random.Random(0)
    lines = [" ".join(draw.choices(draw.choice(TOPICS).split(), k=8)) for _ in range(1_000)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    options = [
        "--data",
        "text.txt",
        "--kind",
        kind,
        "--dim",
        "16",
        "--subsample",
        "0",
    ]
    options += ["--passes", "2", "--batch", "16", "--lr", "0.1", "--words", "cat,red,one", "--min-count", "1"]
    done = subprocess.run([sys.executable, RECIPE, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    vectors = WordVectors.load(tmp_path / "runs/word2vec/vectors.txt")
    for topic in TOPICS:
        for word in topic.split():
            assert {name for name, _ in vectors.neighbors(word, 4)} == set(topic.split()) - {word}
    page = (tmp_path / "runs/word2vec/report.html").read_text()
    assert "Nearest neighbors" in page
    wrong = subprocess.run(
        [sys.executable, RECIPE, *options, "--words", "wolf", "--overwrite"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode
    assert "wolf" in wrong.stderr
