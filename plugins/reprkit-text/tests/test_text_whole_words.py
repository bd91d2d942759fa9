"""Whole-word masking: which symbols are hit, and how they are corrupted."""

import pytest
import torch
from reprkit_text.corruptions.whole_words import WholeWords
from reprkit_text.data.debian import Debian

import reprkit as rk
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import CorruptionConformance
from reprkit.testing.sample_data import IMAGES, TOKENS


class TestWholeWords(CorruptionConformance):
    part, data = "reprkit-text/whole-words(ratio=0.4)", TOKENS


@pytest.fixture(scope="module")
def debian():
    return Debian(tokenizer="byte-pair(vocab=600, marks=True)", length=48)


def word_runs(vocabulary, ids):
    """Words of a text, as lists of positions, from its decoded pieces alone."""
    found, before = [], ""
    for place, each in enumerate(ids):
        piece = vocabulary._tokenizer.id_to_token(each)
        inner = (
            bool(found)
            and not piece.startswith(("Ġ", "["))
            and before != "Ġ"
            and before[-1].isalnum()
            and piece[0].isalnum()
        )
        (found[-1].append(place) if inner else found.append([place]))
        before = piece
    return found


def test_whole_words_are_hit_at_the_given_ratio_and_never_special_symbols(debian):
    corrupt, batch = WholeWords(0.15, data=debian.signature), debian.batch(range(200))
    torch.manual_seed(0)
    _, hit = corrupt(batch)
    counts, expected, tried = [], [], 0
    for ids, mask, hit_row in zip(batch["x"], batch["x_mask"], hit, strict=True):
        size = int(mask.sum())
        assert not hit_row[size:].any()
        assert not hit_row[0], "[CLS]"
        assert not hit_row[size - 1], "[SEP]"
        for run in word_runs(debian.vocabulary, ids[:size].tolist()):
            tried += 1
            assert len(set(hit_row[run].tolist())) == 1, "a word is hit whole or not at all"
        counts.append(int(hit_row.sum()))
        expected.append(max(1, round(0.15 * (size - 2))))
    assert tried > 1000
    assert all(count >= 1 for count in counts)
    assert all(abs(count - want) < 12 for count, want in zip(counts, expected, strict=True))
    assert 0.95 < sum(counts) / sum(expected) < 1.05


def test_of_hit_symbols_80_percent_are_masked_and_10_percent_replaced(debian):
    vocab = debian.signature["x"].vocab
    corrupt, batch = WholeWords(0.5, data=debian.signature), debian.batch(range(1000))
    torch.manual_seed(0)
    corrupted, hit = corrupt(batch)
    new, old = corrupted["x"][hit], batch["x"][hit]
    assert len(new) > 10_000
    masked, unchanged = (new == vocab).float().mean(), (new == old).float().mean()
    assert abs(masked - 0.8) < 0.02
    assert abs(unchanged - 0.1) < 0.02
    other = new[(new != vocab) & (new != old)]
    assert not torch.isin(other, torch.tensor(debian.vocabulary.specials)).any()
    assert len(other.unique()) > 0.5 * vocab
    assert torch.equal(corrupted["x"][~hit], batch["x"][~hit])
    all_masked = WholeWords(0.5, mask=1.0, random=0.0, data=debian.signature)(batch)
    assert (all_masked[0]["x"][all_masked[1]] == vocab).all()


def test_short_texts_have_one_hit_word_and_symbols_without_a_vocabulary_are_words():
    corrupt = WholeWords(0.15, data=TOKENS)
    torch.manual_seed(0)
    x = torch.randint(7, (2000, 4))
    mask = torch.arange(4)[None] < torch.tensor([4, 1])[torch.arange(2000) % 2, None]
    _, hit = corrupt({"x": x, "x_mask": mask})
    assert hit.sum(1).eq(1).all(), "a text of one word is hit as well"
    share = hit[::2].float().mean(0)
    assert (share - 0.25).abs().max() < 0.05, "every position equally often"


def test_invalid_arguments_are_rejected():
    for arguments in ({"ratio": 0.0}, {"ratio": 1.0}, {"mask": 0.8, "random": 0.3}, {"whole": 1}):
        with pytest.raises(PartArgumentError):
            WholeWords(**arguments)
    with pytest.raises(BuildError, match="corrupts tokens data, and x is image"):
        WholeWords(data=IMAGES)
    with pytest.raises(BuildError, match="pass data="):
        WholeWords()({"x": torch.zeros(1, 2, dtype=torch.int64)})


def test_it_trains_a_model(debian):
    train, _ = debian.split()
    model = rk.build(
        data=train, encoder="bert(width=16, depth=1, heads=2, positions=64)", latent="continuous(dim=16)",
        decoder="bert(width=16)", objective="denoising(corruption='whole-words', on='hit')",
    )  # fmt: skip
    first = []
    for step in rk.loop(model, train, steps=40, batch=32, lr=5e-3):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        first.append(float(losses.metrics["perplexity"]))
    assert sum(first[-5:]) < 0.75 * sum(first[:5]), first
