"""Evaluators of summaries: ROUGE, readability, compression; each against independent computations."""

import math
import random

import pytest
import torch
from reprkit_text import decoded_text
from reprkit_text.data.debian import Debian
from reprkit_text.evaluators.rouge import Rouge
from reprkit_text.lead_baselines import baseline_summaries, first_words, split_sentences
from reprkit_text.ngrams import Ngrams

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import EvaluatorConformance
from reprkit.testing.sample_data import IMAGES, TOKENS

WORDS = "text(vocab=500, width=16, length=8, end=0, never=(1, 2, 3))"


class TestRouge(EvaluatorConformance):
    part, data = "reprkit-text/rouge", TOKENS
    latents = ("vq(codes=8, dim=4)", "continuous(dim=4)")


class TestReadability(EvaluatorConformance):
    part, data = "reprkit-text/readability(order=2)", TOKENS


class TestCompression(EvaluatorConformance):
    part, data = "reprkit-text/compression", TOKENS
    latents = (*EvaluatorConformance.latents, "text(vocab=7, width=8, length=4)")


@pytest.fixture(scope="module")
def parts():
    data = Debian(tokenizer="byte-pair(vocab=500, lower=True)", length=30, summary_length=15)
    train, test = data.split()
    return train.subset(range(200)), test.subset(range(40), "test")


def build_model(data, latent=WORDS, decoder="gru(width=16)", objective="reconstruction"):
    model = rk.build(
        data=data, encoder="gru(width=16)", latent=latent, decoder=decoder, objective=objective, seed=1
    )
    return model.eval()


def test_rouge_equals_counting_by_hand():
    reference, summaries = "a small tool that draws lines", "tool that draws small circles"
    found = Rouge(stem=False).mean_scores([reference, reference], [summaries, ""])
    # Shared: tool, that, draws, small of 6 and 5 words; pairs "tool that", "that draws" of 5 and 4; in order: tool that draws.
    expected = {
        "rouge1": 2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5),
        "rouge2": 2 * (2 / 5) * (2 / 4) / (2 / 5 + 2 / 4),
        "rougeL": 2 * (3 / 6) * (3 / 5) / (3 / 6 + 3 / 5),
    }
    assert found == pytest.approx({kind: value / 2 for kind, value in expected.items()})
    assert Rouge().mean_scores(["drawing tools"], ["draws a tool"])["rouge1"] == pytest.approx(0.8)


def test_rouge_compares_with_human_summaries_and_includes_baselines(parts):
    train, test = parts
    model = build_model(train)
    found = rk.evaluate(model, test, "rouge(stem=False)", examples=0)["rouge"]
    pairs = test.pairs()
    scorer = Rouge(stem=False)
    human, documents = [s for _, s in pairs], [d for d, _ in pairs]
    assert found["lead-8"] == pytest.approx(
        scorer.mean_scores(human, [first_words(document, 8) for document in documents])
    )
    assert found["n"] == len(pairs) == 40
    summaries = decoded_text.to_text(decoded_text.write_summaries(model, test), test.vocabulary)
    assert found["summary"] == pytest.approx(scorer.mean_scores(human, summaries))
    assert found["lead-10"]["rouge1"] > found["random-words"]["rouge1"]
    assert set(found) == {
        "summary", "lead-8", "lead-10", "lead-sentence", "random-words", "random-sentence", "n", "reconstruction",
    }  # fmt: skip
    fewer = rk.evaluate(model, test, "rouge(limit=7)", examples=0)["rouge"]
    assert fewer["n"] == 7
    other = rk.evaluate(build_model(train, "vq(codes=4, dim=4)"), test, "rouge(stem=False)", examples=0)[
        "rouge"
    ]
    assert "summary" not in other, "a latent without words is evaluated by its reconstruction alone"
    assert other["lead-8"] == found["lead-8"]


def test_summaries_are_in_the_order_of_the_data(parts):
    _, test = parts
    model = build_model(test)
    made = decoded_text.write_summaries(model, test)
    with torch.no_grad():
        alone = [
            model.encode(test.batch([place])).indices[0, :, 0].tolist() for place in range(0, len(test), 9)
        ]
    assert made[::9] == [[word for word in row if word != 0] for row in alone]


def test_evaluators_reject_unsuitable_models_and_data(parts):
    train, test = parts
    with pytest.raises(DataError, match="valid or test part"):
        Rouge()(build_model(train), train)
    with pytest.raises(BuildError, match="no latent of words"):
        Rouge()(build_model(train, "vq(codes=4, dim=4)", None, "contrastive"), test)
    tokens = rk.data.Arrays({"x": torch.randint(7, (4, 5))}, vocabs={"x": 7})
    with pytest.raises(DataError, match="human summaries"):
        Rouge()(build_model(tokens, "text(vocab=7, width=8, length=4)", None, "contrastive"), tokens)
    pictures = rk.build(data=IMAGES, encoder="mlp", latent="continuous(dim=4)", decoder="mlp")
    for name in ("rouge", "readability", "compression"):
        with pytest.raises(BuildError, match="image data"):
            rk.create("evaluator", name)(pictures, test, fit_on=train)
    with pytest.raises(PartArgumentError, match="limit"):
        Rouge(limit=0)


def test_lead_baselines_are_first_words_and_sentences():
    document = "A tool, e.g. for 3.5 lines. It draws!\n\nMore"
    assert split_sentences(document) == ["A tool, e.g.", "for 3.5 lines.", "It draws!", "More"]
    made = baseline_summaries(document, random.Random(0), words=3)
    assert made["lead-8"] == "A tool, e.g. for 3.5 lines. It draws!"
    all_words, chosen = document.split(), made["random-words"].split()
    assert len(chosen) == 3
    assert sorted(map(all_words.index, chosen)) == [all_words.index(word) for word in chosen]
    assert made["random-sentence"] in split_sentences(document)
    assert baseline_summaries("word", random.Random(0)) == dict.fromkeys(made, "word")


def test_the_language_model_equals_witten_bell_by_hand():
    texts = [[0, 1, 2], [0, 1], [1, 1, 0]]
    model = Ngrams(texts, vocab=4, order=2)
    unigrams = {0: 3, 1: 4, 2: 1, 3: 0, -2: 3}
    total = sum(count + 1 for count in unigrams.values())
    after = {-1: [0, 0, 1], 0: [1, 1, -2], 1: [2, -2, 1, 0], 2: [-2]}
    for before, seen in after.items():
        kinds = len(set(seen))
        for word, count in unigrams.items():
            likely = (seen.count(word) + kinds * (count + 1) / total) / (len(seen) + kinds)
            assert model.cost((before, word)) == pytest.approx(-math.log(likely)), (before, word)
    assert sum(math.exp(-model.cost((3, word))) for word in unigrams) == pytest.approx(1), "an unseen context"
    costs = model.nats([1, 0])
    assert costs == [model.cost((-1, 1)), model.cost((1, 0)), model.cost((0, -2))]
    assert model.perplexity([[1, 0]]) == pytest.approx(math.exp(sum(costs) / 3))
    with pytest.raises(DataError, match="none"):
        Ngrams([], vocab=4)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_add_up_to_one_in_any_context(order):
    draw = random.Random(0)
    texts = [[draw.randrange(6) for _ in range(draw.randrange(1, 9))] for _ in range(30)]
    model = Ngrams(texts, vocab=8, order=order)
    for context in ((-1, -1), (-1, 3), (3, 4), (7, 7)):
        prefix = context[2 - order + 1 :] if order > 1 else ()
        total = sum(math.exp(-model.cost((*prefix, word))) for word in (*range(8), -2))
        assert total == pytest.approx(1)


def test_readability_ranks_human_summaries_above_lead_words(parts):
    train, test = parts
    model = build_model(train)
    found = rk.evaluate(model, test, "readability", fit_on=train, examples=0)["readability"]
    human = Ngrams(decoded_text.field_symbols(train, "summary"), 500)
    assert found["human"] == pytest.approx(human.perplexity(decoded_text.field_symbols(test, "summary")))
    assert found["perplexity"] == pytest.approx(human.perplexity(decoded_text.write_summaries(model, test)))
    assert found["human"] < found["lead-10"] < 500
    assert found["n"] == 40
    with pytest.raises(DataError, match="fit_on"):
        rk.evaluate(model, test, "readability", examples=0)
    with pytest.raises(rk.ReprkitError, match="abstract"):
        rk.evaluate(model, test, "readability(field='abstract')", fit_on=train, examples=0)


def test_distinct_is_zero_when_all_texts_are_equal(parts):
    train, test = parts
    model = build_model(train)
    with torch.no_grad():
        model.latent().generator.out.weight.zero_()
        model.latent().generator.out.bias.copy_(torch.arange(500.0))
        model.latent().generator.gate.bias.fill_(50.0)
    assert rk.evaluate(model, test, "readability", fit_on=train, examples=0)["readability"]["distinct"] == 0.0


def test_compression_counts_words_and_nats(parts):
    train, test = parts
    model = build_model(train)
    found = rk.evaluate(model, test, "compression", examples=0)["compression"]
    summaries = decoded_text.to_text(decoded_text.write_summaries(model, test), test.vocabulary)
    read = decoded_text.to_text(decoded_text.field_symbols(test, "x"), test.vocabulary)
    counts = [sum(len(text.split()) for text in texts) for texts in (summaries, read)]
    assert found["ratio"] == pytest.approx(counts[0] / counts[1])
    whole = rk.evaluate(model, test, "reconstruction", examples=0)["reconstruction"]
    assert found["nats"] == pytest.approx(whole["nll"] * len(test) / counts[1], rel=1e-5)
    other = rk.evaluate(build_model(train, "vq(codes=4, dim=4)"), test, "compression", examples=0)[
        "compression"
    ]
    assert "ratio" not in other
    assert other["bits"] > 0


@pytest.mark.slow
def test_nats_are_lower_with_the_own_code_than_with_another():
    x = torch.arange(1, 7)[:, None].expand(-1, 5).repeat(20, 1)
    data = rk.data.Arrays({"x": x}, vocabs={"x": 7})
    model = build_model(data, "continuous(dim=8)")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model.train()({"x": x}).total.backward()
        optimizer.step()
    found = rk.evaluate(model, data, "compression", examples=0)["compression"]
    assert found["nats"] < 0.1 < 1 < found["nats_of_another"]
