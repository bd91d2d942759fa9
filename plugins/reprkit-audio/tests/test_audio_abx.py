import itertools

import numpy as np
import pytest
import torch
from reprkit_audio.distortion import dtw_path
from reprkit_audio.evaluators.phone_items import (
    Item,
    abx_error,
    angular,
    mismatch,
    phone_items,
    warped_distances,
)
from test_audio_speech_units import DATA, models, speech

import reprkit as rk
from reprkit.errors import BuildError, DataError
from reprkit.testing import EvaluatorConformance


class TestABX(EvaluatorConformance):
    part = "reprkit-audio/abx(units=4)"
    data = DATA

    def models(self, train):
        return models(train, self.latents)


def random_items(count=27, width=5, seed=0):
    """Items of three phones, three speakers and two contexts, of one to four random rows each."""
    generator = np.random.default_rng(seed)
    items, first = [], 0
    for number in range(count):
        length = int(generator.integers(1, 5))
        context = (number // 9 % 2, 0)
        items.append(Item(number % 3, number // 3 % 3, context, range(first, first + length)))
        first += length
    return generator.standard_normal((first, width)), items


def plain_distance(one, two):
    """Mean angle along the cheapest path, one pair at a time."""
    costs = np.array(
        [[np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / np.pi for b in two] for a in one]
    )
    path = dtw_path(costs)
    return costs[path[:, 0], path[:, 1]].mean()


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("same_context", [False, True])
def test_the_error_is_that_of_plain_loops(across, same_context):
    rows, items = random_items()
    cells = {}
    for a, b, x in itertools.permutations(range(len(items)), 3):
        one, two, three = items[a], items[b], items[x]
        if one.phone != three.phone or one.phone == two.phone or one.speaker != two.speaker:
            continue
        if (one.speaker != three.speaker) != across:
            continue
        if same_context and not one.context == two.context == three.context:
            continue
        near = plain_distance(rows[one.tokens], rows[three.tokens])
        far = plain_distance(rows[two.tokens], rows[three.tokens])
        context = one.context if same_context else None
        pair = cells.setdefault((one.phone, two.phone), {}).setdefault((one.speaker, three.speaker), {})
        pair.setdefault(context, []).append(float(near > far))
    expected = np.mean(
        [
            np.mean(
                [np.mean([np.mean(errors) for errors in contexts.values()]) for contexts in speakers.values()]
            )
            for speakers in cells.values()
        ]
    )
    found = abx_error(rows, items, angular, across=across, same_context=same_context, group=99, seed=0)
    assert found == pytest.approx(expected, abs=1e-12)


def test_distances_of_units_count_indices_and_ties_count_half():
    rows = np.array([[0, 1], [0, 1], [0, 2], [3, 3]])
    items = [Item(n % 2, 0, (0, 0), range(n, n + 1)) for n in range(4)]
    pairs = np.array([[0, 1], [0, 2], [0, 3]])
    assert warped_distances(rows, items, pairs, mismatch).tolist() == [0.0, 0.5, 1.0]
    same = [Item(n % 2, 0, (0, 0), range(1)) for n in range(4)]
    assert abx_error(rows, same, mismatch, across=False, same_context=False, group=9, seed=0) == 0.5
    assert abx_error(rows, same, mismatch, across=True, same_context=False, group=9, seed=0) is None
    zero = np.zeros((1, 2, 3))
    assert angular(zero, zero + 1).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]


def test_items_are_whole_runs_and_cover_at_least_one_token():
    phones = np.array([1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 3, 4, 4, 4, 4, 4])
    found = phone_items(phones, 7, 4, 5, 100, frozenset({0}))
    # phone 2 has frames 4 to 9: the center of token 1 (5.5) is inside, that of token 2 (9.5) is not
    assert found == [
        Item(2, 7, (1, 0), range(101, 102)),
        Item(3, 7, (0, 4), range(103, 104)),
    ]
    (fine, _) = phone_items(phones, 7, 1, 20, 0, frozenset({0}))
    assert fine.tokens == range(4, 10)


def test_a_code_of_phones_has_no_errors_unlike_the_k_means_baseline(monkeypatch):
    train, test = speech(), speech(seed=1)
    model = rk.build(data=train, encoder="gru(width=8)", latent="vq(codes=6, dim=4)", decoder="gru(width=8)")

    def encode(batch, factors=None):
        """A code that knows the phone and nothing of the speaker."""
        index = batch["x"][..., :3].argmax(-1, keepdim=True)
        return rk.Codes({"code": rk.Code(z=torch.eye(3)[index[..., 0]], indices=index)})

    monkeypatch.setattr(model, "encode", encode)
    found = rk.create("evaluator", "abx")(model.eval(), test, train)
    assert found["within"] == found["across"] == found["units.within"] == found["units.across"] == 0
    assert found["kmeans.units.within"] < 0.2
    assert found["kmeans.units.across"] > 0.2  # the clusters are speakers'
    assert found["frames.within"] < 0.05
    assert found["items"] > 20
    assert "milliseconds" not in found


def test_invalid_inputs_raise():
    data = speech(20)
    (_, model), *_ = models(data, ["vq(codes=4, dim=2)"])
    with pytest.raises(DataError, match="fit_on=train"):
        rk.create("evaluator", "abx")(model, data)
    with pytest.raises(DataError, match="no tokens field 'sound'"):
        rk.create("evaluator", "abx(phone='sound')")(model, data, data)
    one = rk.build(
        data=data, encoder="mlp(width=8)", latent="vq(codes=4, dim=2)", decoder="gru(width=8)"
    ).eval()
    with pytest.raises(BuildError, match="one token per example"):
        rk.create("evaluator", "abx")(one, data, data)
    silence = type(data)({**data.batch(range(20)), "phone": torch.zeros(20, 12, dtype=torch.int64)}, DATA)
    silence.facts = data.facts
    with pytest.raises(DataError, match="no two phones to compare"):
        rk.create("evaluator", "abx")(model, silence, data)
