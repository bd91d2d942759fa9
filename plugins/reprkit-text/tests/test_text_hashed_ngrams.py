import numpy as np
import pytest
import torch
from reprkit_text.encoders.hashed_ngrams import HashedNgrams
from sklearn.feature_extraction.text import CountVectorizer

from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import EncoderConformance
from reprkit.testing.sample_data import IMAGES, TOKENS


class TestHashedNgrams(EncoderConformance):
    part, data = "reprkit-text/hashed-ngrams(dim=8, buckets=64)", TOKENS


class TestHashedNgramsOfOneSymbol(EncoderConformance):
    part, data = "reprkit-text/hashed-ngrams(dim=8, shortest=1, longest=1, buckets=16, sparse=True)", TOKENS


LETTERS = "abcdefgh"


def rows(texts):
    """Return texts of the first letters as symbols, padded, with their mask."""
    longest = max(map(len, texts))
    x = torch.tensor([[LETTERS.index(letter) for letter in text.ljust(longest, "a")] for text in texts])
    return {"x": x, "x_mask": torch.tensor([[i < len(text) for i in range(longest)] for text in texts])}


def test_the_sum_over_tokens_is_that_of_scikit_learn_s_counts():
    texts = ["abcabd", "hag", "cabab", "f"]
    counter = CountVectorizer(analyzer="char", ngram_range=(2, 4)).fit(texts)
    encoder = HashedNgrams(5, buckets=2**20, data=TOKENS)
    grams = counter.get_feature_names_out()

    def first(text):
        """Return the sum of the vectors of all beginnings of a text, of two letters and more."""
        return encoder(rows([text])).x[0, 0].detach() * 3

    alone = {gram: first(gram) - first(gram[:-1]) if len(gram) > 2 else first(gram) for gram in grams}
    assert len({tuple(vector.tolist()) for vector in alone.values()}) == len(grams)
    expected = counter.transform(texts).toarray() @ np.stack([alone[gram].numpy() for gram in grams])
    found = encoder(rows(texts)).x.sum(1) * 3
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-5)


def test_padding_is_not_read():
    encoder = HashedNgrams(4, shortest=1, longest=3, data=TOKENS)
    alone, padded = encoder(rows(["bad"])).x, encoder(rows(["bad", "abcdefgh"])).x
    torch.testing.assert_close(padded[0, :3], alone[0])
    assert not padded[0, 3:].any()


def test_a_text_shorter_than_the_shortest_ngram_gives_zeros():
    assert not HashedNgrams(4, shortest=3, longest=5, data=TOKENS)(rows(["ab"])).x.any()


@pytest.mark.parametrize("sparse", [False, True])
def test_only_the_rows_of_the_text_s_ngrams_learn(sparse):
    encoder = HashedNgrams(4, shortest=2, longest=3, buckets=2**12, sparse=sparse, data=TOKENS)
    encoder(rows(["abab"])).x.sum().backward()
    gradient = encoder.table.weight.grad
    assert gradient.is_sparse == sparse
    sums = gradient.to_dense().sum(1)
    assert sorted(sums[sums != 0].tolist()) == pytest.approx([2.0, 2.0, 2.0, 4.0])  # ba, aba, bab, twice ab


def test_vectors_start_as_small_as_fasttext_s_or_as_asked():
    weight = HashedNgrams(50, buckets=4096, data=TOKENS).table.weight
    assert weight.abs().max().item() == pytest.approx(1 / 50, rel=1e-3)
    assert weight.std().item() == pytest.approx(1 / 50 / 3**0.5, rel=0.02)
    assert HashedNgrams(50, buckets=4096, std=0.3, data=TOKENS).table.weight.std().item() == pytest.approx(
        0.3, rel=0.02
    )
    for std in (0, 1.5):
        with pytest.raises(PartArgumentError, match="std"):
            HashedNgrams(std=std, data=TOKENS)


def test_what_it_cannot_read_is_refused():
    with pytest.raises(BuildError, match="tokens"):
        HashedNgrams(data=IMAGES)
    with pytest.raises(PartArgumentError, match=r"hashed-ngrams\(shortest=4\) is above longest=3"):
        HashedNgrams(shortest=4, longest=3, data=TOKENS)
    with pytest.raises(BuildError, match="use encoder transformer"):
        HashedNgrams(data=TOKENS)(rows(["abc"]), keep=torch.zeros(1, 1, dtype=torch.int64))
