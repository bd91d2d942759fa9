"""Representations of data with varying lengths are in the data's order."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError
from reprkit.evaluation.encoding import (
    Session,
    by_length,
    draw_examples,
    encoded,
    label_if_any,
    use_session,
)
from reprkit.evaluation.finetune import fine_tune, predict


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Lines of Python's own reference, 60 of them."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("lines") / "topics.txt"
    path.write_text("\n".join([each for each in topics["numeric-types"].splitlines() if each.strip()][:60]))
    return rk.dataset(f"lines(path={str(path)!r})")


class Marked(rk.data.Subset):
    """The lines, and beside each whether it is a long one."""

    def __init__(self, data):
        super().__init__(data, range(len(data)), part="marked")
        self.long = (data.lengths()["x"] > 60).long()
        field = rk.Field(kind="label", shape=(), vocab=2)
        self.signature = rk.Signature({**data.signature, "label": field})

    def batch(self, indices):
        return {**self.data.batch(indices), "label": self.long[torch.as_tensor(indices)]}


def built(data):
    return rk.build(
        data=data, encoder="gru(width=16)", decoder="gru(width=16)", latent="continuous(dim=8)"
    ).eval()


def test_by_length_yields_every_example_once_shortest_first(lines):
    lengths, whole = lines.lengths()["x"], torch.arange(len(lines))
    with use_session(Session(batch=8)):
        read = list(by_length(lines))
    assert torch.equal(torch.cat([rows for rows, _ in read]).sort().values, whole)
    longest = [int(lengths[rows].max()) for rows, _ in read]
    assert longest == sorted(longest)
    assert [batch["x"].shape[1] for _, batch in read] == longest
    held = sum(batch["x"].numel() for _, batch in read)
    assert held < 0.85 * sum(batch["x"].numel() for batch in lines.batches(8))


def test_representations_are_in_the_data_s_order(lines):
    model = built(lines)
    with use_session(Session(batch=8)), torch.no_grad():
        found = encoded(model, lines).x
        alone = [model.represent(lines.batch([place])).numpy()[0] for place in range(len(lines))]
    np.testing.assert_allclose(found, np.stack(alone), atol=1e-5)


@pytest.mark.slow
def test_predictions_of_a_fine_tuned_model_are_in_the_data_s_order(lines):
    data = Marked(lines)
    assert 10 < int(data.long.sum()) < 50
    model = fine_tune(built(lines), data, steps=60, lr=1e-2, batch=16)
    with use_session(Session(batch=8)):
        guess, truth = predict(model, data)
    assert truth.tolist() == data.long.tolist()
    with torch.no_grad():
        alone = [
            int(model.objective.logits(model, data.batch([place])).argmax(-1)) for place in range(len(data))
        ]
    assert guess.tolist() == alone
    assert (guess == truth).mean() > 0.8


def test_data_of_one_length_is_read_in_order():
    digits = rk.dataset("digits").subset(range(20))
    with use_session(Session(batch=8)):
        assert torch.cat([rows for rows, _ in by_length(digits)]).tolist() == list(range(20))


def test_a_label_that_is_named_must_exist(table):
    """Evaluators whose labels are optional take "label" where there is one, and refuse another that is missing."""
    labeled, bare = table(torch.randn(6, 3), np.arange(6) % 2), table(torch.randn(6, 3))
    assert label_if_any(labeled, None, "units") == label_if_any(labeled, "label", "units") == "label"
    assert label_if_any(bare, None, "units") is None
    with pytest.raises(DataError, match="units needs labels, and the data has no label field 'color'"):
        label_if_any(labeled, "color", "units")


def test_drawn_examples_keep_their_order(table):
    data = table(torch.arange(20.0).view(20, 1).repeat(1, 2))
    assert draw_examples(data, 20, 0) is data
    assert draw_examples(data, None, 0) is data
    drawn = [draw_examples(data, 8, seed).batch(range(8))["x"][:, 0].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == sorted(set(drawn[0]))
    assert drawn[0] != drawn[2]
