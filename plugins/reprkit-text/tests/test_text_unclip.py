"""The stages of unCLIP, judges of attributes, McNemar's test, and drawn scenes of one object."""

import math

import pytest
import torch
from reprkit_text.attribute_judges import AttributeJudges, mcnemar
from reprkit_text.data.drawn_scenes import COLORS, PLACES, DrawnScenes
from reprkit_text.picture_codes import (
    Stage,
    diffusion_stage,
    draw_nearest,
    slerp,
    symbol_stage,
    text_difference,
)

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import DataError


@pytest.fixture(scope="module")
def scenes():
    return DrawnScenes(size=16, objects=1, copies=2)


# ------------------------------------------------------------------ drawn scenes of one object


def test_one_object_stands_where_the_sentence_says(scenes):
    assert len(scenes) == 2 * 720
    assert len(set(scenes.texts)) == 720
    rows = torch.arange(0, len(scenes), 37)
    batch, colors = scenes.batch(rows), torch.tensor(list(COLORS.values()))
    line = (torch.arange(16) + 0.5) / 16
    for row, picture in zip(rows.tolist(), batch["x"], strict=True):
        weight = (picture - picture[:2, :2].amin((0, 1))).clamp(min=0).sum(-1)
        weight = weight * (weight > 0.3)
        center = torch.stack([(weight.sum(axis) @ line) / weight.sum() for axis in (0, 1)])
        column, line_ = ((center - 0.26) / 0.24).round().long().clamp(0, 2).tolist()
        pixel = picture.reshape(-1, 3)[weight.reshape(-1).argmax()]
        color = list(COLORS)[int(torch.cosine_similarity(pixel[None], colors).argmax())]
        words = scenes.texts[row].split(" ", 4)
        assert words[4] == PLACES[3 * line_ + column]
        assert words[2] == color


def test_copies_of_a_sentence_stay_in_one_part(scenes):
    train, valid, test = scenes.split(valid=True)
    texts = [{scenes.texts[row] for row in part.indices.tolist()} for part in (train, valid, test)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert (
        len(test) == 2 * 2 * 5 * 9
    )  # two copies and sizes of the five pairs that are held out, in nine places
    assert all("red circle" not in text for text in texts[0] | texts[1])
    one, other = scenes.batch([0, 1])["x"]
    assert scenes.texts[0] == scenes.texts[1]
    assert not torch.equal(one, other)


# ------------------------------------------------------------------ judges


def test_mcnemar_is_the_binomial_of_the_pairs_that_differ():
    one = torch.tensor([True] * 8 + [False] * 2 + [True] * 5 + [False] * 3)
    other = torch.tensor([False] * 8 + [True] * 2 + [True] * 5 + [False] * 3)
    found = mcnemar(one, other)
    assert (found["won"], found["lost"]) == (8, 2)
    assert found["p"] == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)
    assert mcnemar(one, one)["p"] == 1


def test_judges_see_what_they_were_taught():
    """Pictures of one color a class: right on them, wrong on others."""
    picture = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]).repeat(40, 1)
    x = picture[:, None, None].expand(-1, 8, 8, -1) * 0.5 + 0.5 * torch.rand(
        120, 8, 8, 3, generator=torch.Generator().manual_seed(0)
    )
    fields = {
        "x": rk.Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0)),
        "color": rk.Field(kind="label", shape=(), vocab=3),
        "warm": rk.Field(kind="label", shape=(), vocab=2),
    }
    color = torch.arange(3).repeat(40)
    data = Tensors({"x": x, "color": color, "warm": (color == 0).long()}, rk.Signature(fields))
    judges = AttributeJudges(data, ("color", "warm"), encoder="conv(width=8, depth=1)", steps=60, batch=32)
    right = judges.right(x, data)
    assert judges.shares(right)["all"] > 0.95
    moved = judges.shares(judges.right(x.roll(1, 0), data))
    assert moved["color"] < 0.05
    assert moved["warm"] == pytest.approx(1 / 3, abs=0.05)
    with pytest.raises(DataError, match="119 pictures for 120 examples"):
        judges.right(x[1:], data)
    with pytest.raises(DataError, match="the data has color, warm"):
        AttributeJudges(data, ("colour",))


# ------------------------------------------------------------------ codes


def test_slerp_walks_the_arc():
    one, other = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]]), torch.tensor([[0, 1.0, 0], [1.0, 0, 0]])
    third = slerp(one, other, 1 / 3)
    torch.testing.assert_close(third[0], torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6), 0]))
    torch.testing.assert_close(third[1], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(slerp(one, other, 0.0)[0], one[0])
    torch.testing.assert_close(slerp(one, other, 1.0)[0], other[0])


def test_a_text_difference_turns_towards_the_new_text():
    code, old, new = torch.eye(3).unsqueeze(1)
    found = text_difference(code, old, new, 0.5)
    direction = (new - old) / math.sqrt(2)
    torch.testing.assert_close(found, (code + direction) / math.sqrt(2))


def points(count=192):
    """A vector condition (n 2), and a value (n 2) near it, of unit length."""
    angle = 2 * math.pi * torch.rand(count, generator=torch.Generator().manual_seed(1))
    given = torch.stack([angle.cos(), angle.sin()], 1)
    fields = {name: rk.Field(kind="vector", shape=(2,), range=(-1.5, 1.5)) for name in ("image", "text")}
    return Tensors({"image": given, "text": given}, rk.Signature(fields))


def fit(steps):
    def train(model, data, name):
        for step in rk.loop(model, data, steps=steps, batch=64, lr=5e-3, log_every=0):
            step.backward(step.model(step.batch).total)
            step.update()
        return model.eval()

    return train


def stages(steps):
    data, parts = points(), {"encoder": "mlp(width=32)", "fit": fit(steps)}
    diffusion = diffusion_stage(
        data,
        "image",
        "text",
        latent="continuous(dim=32)",
        decoder="mlp(width=64, scale=1.0)",
        prediction="data",
        steps=20,
        guidance=1.0,
        **parts,
    )
    symbols = symbol_stage(
        data,
        "image",
        "text",
        latent="residual-vq(codes=16, layers=2, dim=8)",
        decoder="mlp(width=32)",
        writer="gru(width=32, causal=True)",
        **parts,
    )
    return data, diffusion, symbols


def test_both_kinds_of_a_stage_draw_by_one_call():
    data, *both = stages(2)
    vectors = data.batch(range(5))["text"]
    for stage in both:
        drawn = stage.draw(vectors, seed=3)
        assert drawn.shape == (5, 2)
        assert torch.equal(drawn, stage.draw(vectors, seed=3))
        assert not torch.equal(drawn, stage.draw(vectors, seed=4))
    assert not torch.equal(both[0].draw(vectors, steps=5), both[0].draw(vectors))


@pytest.mark.slow
def test_stages_learn_the_condition():
    data, *both = stages(250)
    vectors = data.batch(range(64))["text"]
    for stage in both:
        error = (stage.draw(vectors) - vectors).square().sum(1)
        assert float(error.mean()) < 0.3, (
            stage.model.objective.title
        )  # 2 for a draw that ignores the condition


def test_draw_nearest_returns_the_code_with_the_largest_cosine():
    class Drawer(Stage):
        def draw(self, vectors, *, seed=0, **options):
            angle = torch.full((len(vectors),), 0.5 if seed == 8 else 1.0)
            angle[0] = 0.2 if seed == 7 else 0.9
            return torch.stack([angle.cos(), angle.sin()], 1)

    found = draw_nearest(Drawer(None, "image", "text"), torch.tensor([[1.0, 0.0]] * 3), count=2, seed=7)
    torch.testing.assert_close(found[:, 0].acos(), torch.tensor([0.2, 0.5, 0.5]))
