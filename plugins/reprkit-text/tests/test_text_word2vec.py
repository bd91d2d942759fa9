"""word2vec: vocabulary by count, subsampling, encoder and decoder, files of gensim, similarity and analogies."""

import math

import numpy as np
import pytest
import torch
from reprkit_text import WordVectors, word_vectors
from reprkit_text.data.words import Words, keep_chances
from reprkit_text.decoders.words import WordsDecoder
from reprkit_text.encoders.words import WordsEncoder
from reprkit_text.evaluators.analogies import Analogies
from reprkit_text.evaluators.word_similarity import WordSimilarity
from reprkit_text.negative_sampling import SparseSampledLoss, sampled_loss
from reprkit_text.table_rows import LookUp, distinct_rows
from reprkit_text.vocabulary import vocabulary
from reprkit_text.word_tests import find_file, read_analogies, read_pairs

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import DatasetConformance, DecoderConformance, EncoderConformance
from reprkit.testing.pool import together
from reprkit.testing.sample_data import IMAGES, TOKENS

LINES = (
    "the cat sat on the mat and the dog sat on the rug",
    "the dog and the cat sat on the mat",
    "the king and the queen sat on the throne of gold",
    "a queen and a king of the gold throne",
    "it's 42 cats!",
) * 4
POOL = sorted({word for line in LINES for word in line.split() if word.isalpha()})
MANY = tuple(" ".join(POOL[(start + step) % len(POOL)] for step in range(9)) for start in range(len(POOL)))


class TestEncoder(EncoderConformance):
    part, data = "reprkit-text/words(dim=8)", TOKENS


class TestEncoderOfContexts(EncoderConformance):
    part, data = "reprkit-text/words(dim=8, window=2)", TOKENS


class TestDecoder(DecoderConformance):
    part, data = "reprkit-text/words(dim=8)", TOKENS


class TestDecoderOfSparseGroups(DecoderConformance):
    part, data = "reprkit-text/words(dim=8, sparse=True, group=2)", TOKENS


class TestDecoderOfNeighbors(DecoderConformance):
    part, data = "reprkit-text/words(dim=8, neighbors=2)", TOKENS


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES + MANY) + "\n")
    return path


class TestWords(DatasetConformance):
    @pytest.fixture(autouse=True)
    def _file(self, file):
        self.path = file

    def make(self):
        return Words(self.path, "words(min_count=1)", subsample=0.02, draws=2, length=6)


def build(data, window=2, neighbors=None, latent="continuous(dim=8)", **options):
    return rk.build(
        data=data,
        encoder=f"words(dim=8, window={window})",
        latent=latent,
        decoder=f"words(dim=8, neighbors={neighbors})",
        objective="reconstruction",
        **options,
    )


def test_the_vocabulary_is_sorted_by_count_and_keeps_apostrophes():
    words = vocabulary("words(min_count=4)", LINES)
    assert words.symbols[4] == "the"
    assert "it's" in words.symbols
    assert "42" not in words.symbols
    assert words.symbols[:4] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    assert words.decode(words.encode("The CAT sat, twice.")) == "the cat sat [UNK]"
    assert set(vocabulary("words(min_count=1, most=2)", LINES).symbols[4:]) < {"the", "and", "sat", "on"}
    with pytest.raises(DataError, match="occurs 1000 times"):
        vocabulary("words(min_count=1000)", LINES)


def test_rows_hold_known_words_and_counts_are_those_before_subsampling(file):
    data = Words(file, "words(min_count=1)", subsample=0, length=6)
    texts = [data.vocabulary.decode(data[i]["x"]) for i in range(4)]
    assert texts[:2] == ["the cat sat on the mat", "and the dog sat on the"]
    assert (
        sum(data.signature["x"].counts) == data.facts["words"] == int(data.lengths()["x"].sum()) + 4
    )  # rows of one word
    thinned = Words(file, "words(min_count=1)", subsample=1e-2, draws=3)
    assert thinned.signature["x"].counts == data.signature["x"].counts
    assert 0.2 < thinned.facts["subsampled_share"] < 1
    train, test = thinned.split(0)
    lines = [{thinned.identities()[i] for i in part.indices.tolist()} for part in (train, test)]
    assert not lines[0] & lines[1]


def test_subsampling_is_that_of_word2vec():
    counts = torch.tensor([0, 10, 990])
    chances = keep_chances(counts, 1e-3)
    assert chances[2].item() == pytest.approx(math.sqrt(1e-3 / 0.99) + 1e-3 / 0.99)
    assert keep_chances(counts, 0).tolist() == [1, 1, 1]


def test_the_context_is_the_expected_mean_over_windows():
    encoder = WordsEncoder(4, window=3, data=TOKENS)
    x = torch.randint(0, TOKENS["x"].vocab, (1, 7))
    vectors, expected = encoder.table(x)[0], torch.zeros(4)
    for size in (1, 2, 3):  # at word 3, no window leaves the row
        around = [i for i in range(3 - size, 4 + size) if i != 3]
        expected = expected + vectors[around].mean(0) / 3
    torch.testing.assert_close(encoder({"x": x}).x[0, 3], expected)
    mask = torch.tensor([[True] * 4 + [False] * 3])
    torch.testing.assert_close(encoder({"x": x, "x_mask": mask}).x[:, :4], encoder({"x": x[:, :4]}).x)


def test_the_loss_of_negative_sampling_equals_a_loop():
    torch.manual_seed(0)
    decoder = WordsDecoder(4, neighbors=2, negatives=3.0, shared=5, data=TOKENS).train()
    torch.nn.init.normal_(decoder.table.weight)
    code, target = torch.randn(2, 6, 4), torch.randint(0, TOKENS["x"].vocab, (2, 6, 1))
    weight = torch.ones(2, 6, 1)
    weight[1, 4:] = 0
    torch.manual_seed(1)
    noise = decoder.table(decoder.draw_noise(code))
    torch.manual_seed(1)
    found = decoder(rk.Features(x=code)).nll(target, weight)
    log_s, words = torch.nn.functional.logsigmoid, decoder.table(target[..., 0])
    expected = torch.zeros(2, 6)
    for b in range(2):
        for i in range(6):
            for j in range(6):
                if i == j or abs(i - j) > 2 or not weight[b, i] * weight[b, j]:
                    continue
                chance = (3 - abs(i - j)) / 2
                negative = log_s(-(noise[b] @ code[b, i])).mean()
                expected[b, i] -= chance * (log_s(code[b, i] @ words[b, j]) + 3 * negative)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("examples", "group"), [(6, 1), (7, 3), (2, 4), (8, 4)])
@pytest.mark.parametrize("neighbors", [False, True])
def test_gradients_in_closed_form_are_those_of_autograd(examples, group, neighbors):
    torch.manual_seed(0)
    doubles = {"dtype": torch.float64}
    vectors = torch.randn(examples, 5, 4, **doubles, requires_grad=True)
    table = torch.randn(30, 4, **doubles, requires_grad=True)
    words, noise = torch.randint(30, (examples, 5)), torch.randint(30, (-(-examples // group), 3))
    pairs = torch.rand((examples, 5, 5) if neighbors else (examples, 5), **doubles)
    share = torch.rand(examples, 5, **doubles)
    given = (vectors, table, words, noise, pairs)
    expected = sampled_loss(*given, negatives=5.0, group=group)
    found = SparseSampledLoss.apply(*given, 5.0, group)
    torch.testing.assert_close(found, expected)
    of_vectors, of_table = torch.autograd.grad((found * share).sum(), (vectors, table))
    assert of_table.is_coalesced()
    theirs = torch.autograd.grad((expected * share).sum(), (vectors, table))
    torch.testing.assert_close((of_vectors, of_table.to_dense()), theirs)


@pytest.mark.parametrize("size", [40, 10**6])
def test_rows_that_are_looked_up_have_one_gradient_each(size):
    index = torch.randint(40, (3, 50))
    rows, inverse = distinct_rows(index.flatten(), size)
    assert torch.equal(rows, index.unique())
    assert torch.equal(rows[inverse], index.flatten())
    table = torch.randn(size, 2, requires_grad=True)
    weight = torch.randn(3, 50, 2)
    found = LookUp.apply(table, index)
    assert torch.equal(found, table[index])
    gradient = torch.autograd.grad((found * weight).sum(), table)[0]
    assert gradient.is_coalesced()
    torch.testing.assert_close(
        gradient.to_dense()[:40], torch.zeros(40, 2).index_put((index,), weight, accumulate=True)
    )


def test_groups_share_their_noise():
    decoder = WordsDecoder(4, shared=5, group=3, data=TOKENS)
    like = torch.zeros(7, 6, 4)
    torch.manual_seed(0)
    noise = decoder.draw_noise(like)
    assert noise.shape == (3, 5)
    torch.manual_seed(0)
    decoder.group = 1
    assert torch.equal(decoder.draw_noise(like)[::3], noise)


def test_nats_in_evaluation_are_those_of_a_distribution():
    decoder = WordsDecoder(4, data=TOKENS).eval()
    vocab, code = TOKENS["x"].vocab, torch.randn(1, 1, 4).expand(TOKENS["x"].vocab, 1, 4)
    nats = decoder(rk.Features(x=code)).nll(torch.arange(vocab).view(-1, 1, 1), torch.ones(vocab, 1, 1))
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("latent", ["continuous(dim=8)", "gaussian(dim=4)", "vq(codes=16, dim=4)"])
def test_any_latent_trains_and_gives_word_vectors(file, latent, tmp_path):
    data = Words(file, "words(min_count=1)", subsample=0)
    model = build(data, latent=latent)
    losses = []
    for step in rk.loop(model, data, steps=3, batch=8, lr=0.01, buckets=True):
        loss = step.model(step.batch)
        losses.append(loss.total)
        step.backward(loss.total)
        step.update()
    assert all(torch.isfinite(loss) for loss in losses)
    found = word_vectors(model.eval())
    assert found.words == data.vocabulary.symbols[4:]
    model.save(tmp_path / "model")
    torch.testing.assert_close(word_vectors(rk.load(tmp_path / "model")).vectors, found.vectors)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_vectors_are_those_of_the_table_where_the_maps_are_frozen(file, sparse):
    data = Words(file, "words(min_count=1)", subsample=0)
    model = rk.build(
        data=data,
        encoder=f"words(dim=8, window=2, sparse={sparse})",
        latent="continuous(dim=8)",
        decoder=f"words(dim=8, sparse={sparse})",
        objective="reconstruction",
        freeze=("adapters",),
    )
    before = word_vectors(model).vectors
    for step in rk.loop(model, data, steps=2, batch=8, lr=0.05, optimizer="adagrad"):
        step.backward(step.model(step.batch).total)
        step.update()
    found = word_vectors(model).vectors
    torch.testing.assert_close(found, model.factors["code"].encoder.table.weight[4:-1].detach())
    assert not torch.equal(found, before)


def test_without_a_width_the_decoder_reads_the_code_as_it_is(file, tmp_path):
    data = Words(file, "words(min_count=1)", subsample=0)
    parts = {"encoder": "words(dim=8, window=2)", "decoder": "words(dim=None)", "objective": "reconstruction"}
    model = rk.build(data=data, latent="vq(codes=16, dim=6)", **parts).eval()
    assert model.decoder.table.weight.shape == (data.signature["x"].vocab, 6)
    assert isinstance(model.adapters["code"], torch.nn.Identity)
    model.save(tmp_path / "model")
    batch = data.batch(range(4))
    torch.testing.assert_close(rk.load(tmp_path / "model").score(batch).nats, model.score(batch).nats)
    factors = {"a": rk.factor("words(dim=4)"), "b": rk.factor("words(dim=4)", "continuous(dim=5)")}
    with pytest.raises(BuildError, match="b of 5"):
        rk.build(data=data, factors=factors, decoder="words(dim=None)", objective="reconstruction")


def train_words(rank, path, neighbors=None, out=None, **options):
    torch.set_num_threads(1)
    data = Words(path, "words(min_count=1)", subsample=0.05)
    window = None if neighbors else 2
    model = rk.build(
        data=data,
        encoder=f"words(dim=8, window={window}, sparse=True)",
        latent="continuous(dim=8)",
        decoder=f"words(dim=None, neighbors={neighbors}, shared=4, group=2, sparse=True)",
        objective="reconstruction",
        freeze=("adapters",),
        seed=0,
    )
    settings = {
        "steps": 6,
        "batch": 8,
        "lr": 0.05,
        "optimizer": "row-adagrad",
        "buckets": True,
        "device": "cpu",
    }
    for step in rk.loop(model, data, out=out, progress=False, **{**settings, **options}):
        step.backward(step.model(step.batch).total)
        step.update()
    return word_vectors(model).vectors


@pytest.mark.parametrize("neighbors", [None, 2])
def test_a_resumed_run_of_words_is_bit_equal(file, tmp_path, neighbors):
    whole = train_words(0, file, neighbors, tmp_path / "whole")
    train_words(0, file, neighbors, tmp_path / "part", steps=3)
    assert torch.equal(train_words(0, file, neighbors, tmp_path / "part", resume=True), whole)


@pytest.mark.ranks
@pytest.mark.parametrize("neighbors", [None, 2])
def test_two_processes_train_words_as_one(file, neighbors):
    whole = train_words(0, file, neighbors)
    for found in together(2, train_words, file, neighbors):
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("binary", [False, True])
def test_files_are_read_back_by_gensim_and_here(tmp_path, binary):
    gensim = pytest.importorskip("gensim.models")
    words = WordVectors(("cat", "dog", "naïve"), torch.randn(3, 5))
    path = words.save(tmp_path / "vectors", binary=binary)
    other = gensim.KeyedVectors.load_word2vec_format(str(path), binary=binary)
    assert other.index_to_key == list(words.words)
    np.testing.assert_array_equal(other.vectors, words.vectors.numpy())
    other.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
    for each in (path, tmp_path / "theirs"):
        ours = WordVectors.load(each, binary=binary)
        assert ours.words == words.words
        torch.testing.assert_close(ours.vectors, words.vectors)
    assert words.neighbors("cat", 2)[0][1] == pytest.approx(other.most_similar("cat")[0][1], abs=1e-6)
    with pytest.raises(DataError, match="binary="):
        WordVectors.load(path, binary=not binary)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match="cut short"):
        WordVectors.load(path, binary=binary)


def test_unknown_words_and_words_that_are_none_are_refused():
    words = WordVectors(("king", "queen"), torch.eye(2))
    with pytest.raises(DataError, match="'queen'"):
        words.neighbors("quen")
    with pytest.raises(PartArgumentError, match="most=0"):
        words.neighbors("queen", 0)
    with pytest.raises(DataError, match="one vector a word"):
        WordVectors(("king", "queen"), torch.ones(2))
    for wrong in (("a", "a"), ("a b", "c"), ("", "c"), ("a",)):
        with pytest.raises(DataError):
            WordVectors(wrong, torch.eye(2))


@pytest.mark.parametrize("text", ["", "one\n", "a b\nc d\n"])
def test_texts_without_rows_of_words_are_refused(tmp_path, text):
    path = tmp_path / "lines.txt"
    path.write_text(text)
    with pytest.raises(DataError):
        Words(path, "words(min_count=2)" if len(text) > 5 else "words(min_count=1)")


def trained(file):
    model = build(Words(file, "words(min_count=1)", subsample=0))
    torch.nn.init.normal_(model.factors["code"].encoder.table.weight)
    return model


def test_similarity_and_analogies_equal_gensim(file, tmp_path):
    models = pytest.importorskip("gensim.models")
    model, vectors = trained(file), tmp_path / "vectors"
    word_vectors(model).save(vectors)
    theirs = models.KeyedVectors.load_word2vec_format(str(vectors))
    pairs, questions = tmp_path / "pairs.tsv", tmp_path / "questions.txt"
    pairs.write_text(
        "# a\tb\tscore\ncat\tdog\t8\nKing\tqueen\t9\ncat\tthrone\t1\nmat\trug\t6\nwolf\tdog\t7\n"
    )
    ours = WordSimilarity(str(pairs))(model, None)
    expected = theirs.evaluate_word_pairs(str(pairs))[1].statistic
    assert ours["spearman"] == pytest.approx(expected, abs=1e-6)
    assert (ours["pairs"], ours["unknown"]) == (4, 1)
    words = [word for word in word_vectors(model).words if "'" not in word]
    lines = [f"{a} {b} {c} {d}" for a, b, c, d in zip(words, words[1:], words[2:], words[3:], strict=False)]
    questions.write_text(
        ": one\n" + "\n".join(lines[:6]) + "\n: two\n" + "\n".join(lines[6:]) + "\nwolf a b c\n"
    )
    found = Analogies(str(questions))(model, None)
    sections = theirs.evaluate_word_analogies(str(questions))[1]
    for section in sections[:-1]:
        share = len(section["correct"]) / (len(section["correct"]) + len(section["incorrect"]))
        assert found[f"{section['section']}.accuracy"] == pytest.approx(share)
    assert found["unknown"] == 1


def test_tests_of_gensim_are_found_and_read():
    pytest.importorskip("gensim")
    assert len(read_pairs(find_file("wordsim353"))) == 353
    assert len(read_pairs(find_file("simlex999"))) == 999
    assert sum(map(len, read_analogies(find_file("questions-words")).values())) == 19544


def test_damaged_tests_and_vocabularies_without_their_words_are_refused(file, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("cat dog 8\n")
    with pytest.raises(DataError, match="line 1"):
        read_pairs(path)
    path.write_text("cat dog mat rug\n")
    with pytest.raises(DataError, match="line 1"):
        read_analogies(path)
    path.write_text("wolf\tbear\t3\ncat\tdog\t8\n")
    with pytest.raises(DataError, match="has both words of 1"):
        WordSimilarity(str(path))(trained(file), None)
    with pytest.raises(DataError, match="no file"):
        find_file("wordsim")


def test_other_data_is_refused():
    for part in (WordsEncoder, WordsDecoder):
        with pytest.raises(BuildError, match="tokens"):
            part(data=IMAGES)
