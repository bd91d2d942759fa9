"""Span targets, replacing spans by human summaries, and learning from both."""

import math
from collections import Counter

import pytest
import torch
from reprkit_text.data.documents import Documents
from reprkit_text.data.span_targets import SpanTargets
from reprkit_text.decoded_text import field_symbols
from reprkit_text.evaluators.rouge import Rouge
from reprkit_text.ngrams import Ngrams
from reprkit_text.objectives.noising import insert_random_words, replace_spans, take_spans
from reprkit_text.span_finder import SpanFinder, SpanLimits, _symbol_before

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import PartArgumentError
from reprkit.testing import ObjectiveConformance

WORDS = Signature(
    {
        "x": Field(kind="tokens", shape=(None,), vocab=9),
        "summary": Field(kind="tokens", shape=(None,), vocab=9),
        "slot": Field(kind="tokens", shape=(2,), vocab=9),
    }
)


class TestSummaryOfSpans(ObjectiveConformance):
    part = "reprkit-text/summary(slot='slot', copy=0.5, paired=0.5)"
    data, encoder, latent, decoder = (
        WORDS,
        "gru(width=16)",
        "text(vocab=9, width=8, length=4)",
        "gru(width=16)",
    )


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Documents whose first sentence contains a phrase like the summaries of other documents."""
    path = tmp_path_factory.mktemp("documents") / "documents.jsonl"
    things = [
        "editor for text files",
        "viewer for large images",
        "player for old games",
        "reader for text files",
    ]
    lines = [
        f'{{"document": "Program{number} is an {things[number % 4]} since {number}. It was made in a {number} day.", '
        f'"summary": "{things[(number + 1) % 4]}"}}'
        for number in range(60)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return Documents(path, "byte-pair(vocab=400, lower=True)").split()[0]


def test_the_span_is_the_part_of_a_document_most_like_a_summary(documents):
    targets = SpanTargets(documents, low=3, high=12, start=20)
    assert len(targets) == len(documents)
    found = []
    for number in range(len(documents)):
        one = targets[number]
        first, count = one["slot"].tolist()
        assert 3 <= count <= 12
        found.append(documents.vocabulary.decode(one["x"][first : first + count]))
    right = [text for text in found if text.split()[0] in ("editor", "viewer", "player", "reader")]
    assert len(right) > 0.9 * len(found), found
    assert all("." not in text for text in found)
    batch = targets.batch([3, 1])
    assert torch.equal(batch["slot"], targets.spans[[3, 1]])
    assert torch.equal(batch["x"], documents.batch([3, 1])["x"])
    assert targets.lengths().keys() == {"x", "summary"}
    with pytest.raises(PartArgumentError, match="low"):
        SpanTargets(documents, low=0)
    with pytest.raises(rk.ReprkitError, match="abstract"):
        SpanTargets(documents, field="abstract")


def test_the_score_of_a_span_is_the_likelihood_ratio_and_a_bonus(documents):
    human, texts = field_symbols(documents, "summary"), field_symbols(documents, "x")
    vocabulary = documents.vocabulary
    finder = SpanFinder(human, texts, vocabulary, SpanLimits(3, 12, 20, bonus=0.4))
    ngrams, counts = Ngrams(human, vocabulary.size), Counter(symbol for row in texts for symbol in row)
    total = sum(counts.values()) + vocabulary.size / 2
    row = texts[0]
    scores = finder._scores(row)
    assert scores
    for (first, count), score in scores.items():
        span = row[first : first + count]
        in_documents = sum(math.log((counts[symbol] + 0.5) / total) for symbol in span)
        expected = -sum(ngrams.nats(span)) - in_documents + 0.4 * count
        assert score == pytest.approx(expected)
    assert finder.find(row) == max(scores, key=scores.get)
    longer = SpanFinder(human, texts, vocabulary, SpanLimits(3, 12, 20, bonus=9.0))
    assert sum(longer.find(row)[1] for row in texts) > sum(finder.find(row)[1] for row in texts)


def test_rounds_add_the_statistics_of_neighbors_and_position(documents):
    human, texts = field_symbols(documents, "summary"), field_symbols(documents, "x")
    limits = SpanLimits(3, 12, 20)
    before = SpanFinder(human, texts, documents.vocabulary, limits)
    after = SpanFinder(human, texts, documents.vocabulary, limits, rounds=2)
    sides = [Counter(_symbol_before(row, finder.find(row)) for row in texts) for finder in (before, after)]
    assert max(sides[1].values()) >= max(sides[0].values()), "the most frequent symbol before a span"
    ratio = after._neighbors
    best = max(range(len(texts)), key=lambda number: ratio(texts[number], after.find(texts[number])))
    assert ratio(texts[best], after.find(texts[best])) > 0
    with pytest.raises(rk.ReprkitError, match="documents"):
        SpanFinder(human, [], documents.vocabulary, limits)


def test_spans_of_a_test_part_are_compared_with_its_summaries(tmp_path):
    path = tmp_path / "documents.jsonl"
    lines = [
        f'{{"document": "It is a map of star {n}. New.", "summary": "map of star {n}"}}' for n in range(30)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    train, test = Documents(path, "byte-pair(vocab=300, lower=True)").split()
    targets = SpanTargets(train, low=3, high=20)
    spans = SpanTargets(test, finder=targets.finder).texts()
    human = [summary for _, summary in test.pairs()]
    assert targets.rouge(test) == Rouge().mean_scores(human, spans)
    assert targets.rouge(test)["rouge1"] > 0.5
    assert targets.rouge(test, limit=2) == Rouge().mean_scores(human[:2], spans[:2])
    with pytest.raises(rk.ReprkitError, match="pairs"):
        targets.rouge(train)


def test_a_document_without_a_long_enough_span_gives_its_beginning(tmp_path):
    path = tmp_path / "short.jsonl"
    path.write_text('{"document": "One.", "summary": "a b"}\n{"document": "Two three", "summary": "c"}\n')
    data = Documents(path, "byte-pair(vocab=300)")
    targets = SpanTargets(data, low=6, high=13)
    assert targets.spans.tolist() == [[0, min(13, len(data[place]["x"]))] for place in range(2)]


def test_spans_are_cut_out_and_replaced():
    words = torch.arange(10, 18)[None].repeat(2, 1)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3]).bool()
    slot = torch.tensor([[2, 3], [3, 4]])
    taken, valid = take_spans((words, mask), slot)
    assert [row[kept].tolist() for row, kept in zip(taken, valid, strict=True)] == [[12, 13, 14], [13, 14]]
    others = torch.tensor([[1, 2], [3, 0]]), torch.tensor([[1, 1], [1, 0]]).bool()
    made, valid = replace_spans((words, mask), slot, others)
    assert [row[kept].tolist() for row, kept in zip(made, valid, strict=True)] == [
        [10, 11, 1, 2, 15, 16, 17],
        [10, 11, 12, 3],
    ]
    assert all((row[: int(kept.sum())] != 0).all() for row, kept in zip(made, valid, strict=True))


def test_single_words_are_dropped_and_inserted_in_order():
    torch.manual_seed(0)
    words = torch.arange(1, 11)[None].repeat(400, 1)
    more = torch.full((400, 30), 99)
    made, valid = insert_random_words((words, words > 0), (more, more > 0), drop=0.1, added=0.2)
    rows = [row[kept].tolist() for row, kept in zip(made, valid, strict=True)]
    own = [[word for word in row if word != 99] for row in rows]
    assert all(row == sorted(row) for row in own)
    assert sum(map(len, own)) / 4000 == pytest.approx(0.9, abs=0.02)
    added = sum(map(len, rows)) - sum(map(len, own))
    assert added / sum(map(len, own)) == pytest.approx(0.2, abs=0.03)
    places = [row.index(99) / len(row) for row in rows if 99 in row]
    assert 0.2 < sum(places) / len(places) < 0.6, "anywhere, not only at an end"
    same, valid = insert_random_words((words, words > 0), (more, more > 0), drop=0.0, added=0.0)
    assert torch.equal(same[valid].view(400, 10), words)


def build_model(objective, latent="text(vocab=9, width=16, length=4)", decoder=None):
    return rk.build(data=WORDS, encoder="gru(width=16)", latent=latent, decoder=decoder, objective=objective)


def test_the_copy_loss_equals_the_pointer_probabilities():
    objective = "summary(lead=0, denoise=0, reconstructor=0, copy=2, slot='slot')"
    model = build_model(objective, decoder="gru(width=16)").eval()
    batch = {
        "x": torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]),
        "x_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool(),
        "summary": torch.tensor([[1], [2]]),
        "summary_mask": torch.ones(2, 1, dtype=torch.bool),
        "slot": torch.tensor([[0, 2], [0, 1]]),
    }
    loss = float(model(batch, "pretrain").terms["copy"])
    features = model.factors["code"].features(batch)
    log_p = model.latent().generator.memory(features.x, features.mask).copied.log().detach()
    total = sum(
        float(-log_p[row, position, batch["x"][row, position]])
        for row, position in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    )
    assert loss == pytest.approx(2 * total / 2, rel=1e-4)
    without = "text(vocab=9, width=16, length=4, copy=False)"
    with pytest.raises(PartArgumentError, match="pointer"):
        build_model(objective, without, "gru(width=16)")(batch, "pretrain")


def test_a_missing_slot_field_raises():
    with pytest.raises(rk.ReprkitError, match="slots"):
        build_model("summary(slot='slots')", decoder="gru(width=16)")


@pytest.mark.slow
def test_it_learns_to_find_inserted_summaries():
    """A summary is any three of the symbols 1 to 4, a document the symbols 5 to 8 around three of them; never the same three."""
    torch.manual_seed(0)
    model = build_model(
        "summary(slot='slot', lead=0, reconstructor=0, drop=0, turn='main')",
        "text(vocab=9, width=32, length=4, end=0)",
        "gru(width=16)",
    )

    def batch(size):
        x = torch.randint(5, 9, (size, 9))
        first = torch.randint(0, 7, (size, 1))
        own = torch.randint(1, 5, (size, 3))
        x.scatter_(1, first + torch.arange(3), own)
        made = {
            "x": x,
            "summary": torch.randint(1, 5, (size, 3)),
            "slot": torch.cat([first, torch.full_like(first, 3)], 1),
        }
        return made | {
            f"{name}_mask": torch.ones_like(made[name], dtype=torch.bool) for name in ("x", "summary")
        }, own

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(250):
        optimizer.zero_grad()
        model(batch(32)[0]).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    inputs, own = batch(200)
    with torch.no_grad():
        written = model.eval().encode(inputs).indices[:, :3, 0]
    right = float((written == own).all(1).float().mean())
    assert right > 0.8, right
