"""Evaluators of pictures with texts: classification by prompts, and texts that are written exactly."""

import pytest
import torch
from reprkit_text.data.drawn_scenes import DrawnScenes
from reprkit_text.evaluators.exact_text import _compare, until_end, written_texts
from reprkit_text.evaluators.zero_shot import ZeroShot

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError

PROMPTS = ("a small {} ring above a large white circle", "a large {} cross left of a small red ring")


def zero_shot(label, **options):
    return rk.create("evaluator", "zero-shot", label=label, prompts=PROMPTS, **options)


@pytest.fixture(scope="module")
def scenes():
    data = DrawnScenes(16)
    return data.subset(range(0, len(data), 120))


@pytest.fixture(scope="module")
def pair(scenes):
    factors = {
        "image": rk.factor("mlp(widths=(64,))", "continuous(dim=16)"),
        "text": rk.factor("transformer(width=16, depth=1, heads=2)", "continuous(dim=16)", input="text"),
    }
    return rk.build(data=scenes, factors=factors, objective="across(dim=8)", seed=0)


def test_pictures_get_the_class_of_the_nearest_prompts(pair, scenes):
    found = rk.evaluate(pair, scenes, zero_shot("color_1"))["zero-shot"]
    model, names = pair.eval(), scenes.signature["color_1"].classes
    with torch.no_grad():
        texts = [[prompt.replace("{}", name) for prompt in PROMPTS] for name in names]
        classes = torch.stack([model.joint_vectors({"text": each}, "text").mean(0) for each in texts])
        batch = scenes.batch(range(len(scenes)))
        images = model.joint_vectors(batch, "image")
    similarity = torch.cosine_similarity(images[:, None], classes[None], dim=-1)
    expected = (similarity.argmax(1) == batch["color_1"]).double().mean()
    assert found["accuracy"] == pytest.approx(float(expected), abs=0.011)  # one example, at a tie by rounding
    assert found["chance"] == pytest.approx(float(batch["color_1"].bincount().max() / len(scenes)))
    assert found["classes"] == 8


def test_unusable_prompts_and_models(pair, scenes):
    with pytest.raises(PartArgumentError, match="has no {}, where the class stands"):
        ZeroShot("color_1", ("a red circle",))
    with pytest.raises(DataError, match="no label field 'colour'"):
        rk.evaluate(pair, scenes, zero_shot("colour"))
    with pytest.raises(BuildError, match="no factor named 'words'"):
        rk.evaluate(pair, scenes, zero_shot("color_1", text="words"))


def test_metrics_of_written_texts():
    found = _compare(["a red ring", "a cross", ""], ["a red ring", "a blue cross", "a"])
    assert found == pytest.approx({"exact": 1 / 3, "words": 4 / 7})


def test_texts_are_written_from_the_picture_alone(scenes):
    same = scenes.subset([5] * 8)
    parts = {
        "encoder": "mlp(widths=(16,))",
        "latent": "continuous(dim=8)",
        "decoder": "gru(width=32, causal=True)",
    }
    model = rk.build(data=scenes, objective="reconstruction", output="text", seed=0, **parts).eval()
    found = rk.evaluate(model, scenes, "exact-text", fit_on=same)["exact-text"]
    texts = [scenes.data.texts[row] for row in scenes.indices.tolist()]
    assert found["constant.exact"] == pytest.approx(texts.count(texts[5]) / len(texts))
    assert found["n"] == len(texts)
    pairs = written_texts(model, scenes)
    assert [text for text, _ in pairs] == texts
    batch = scenes.batch(range(4))
    length = int(scenes.lengths()["text"].max())
    with torch.no_grad():
        symbols = (
            model.generate(model.encode({"x": batch["x"]}), length=length, temperature=0.0).x[..., 0].long()
        )
    vocabulary = scenes.data.vocabulary
    expected = [vocabulary.decode(until_end(row, vocabulary)) for row in symbols.tolist()]
    assert [" ".join(text.split()) for text in expected] == [written for _, written in pairs[:4]]


def test_texts_end_at_the_end_symbol(scenes):
    vocabulary = scenes.data.vocabulary
    end = vocabulary.end
    assert until_end([7, 8, end, 9, end], vocabulary) == [7, 8]
    assert until_end([7, 8], vocabulary) == [7, 8]
    assert until_end([7, 8], None) == [7, 8]


def test_what_writes_no_text_is_refused(pair, scenes):
    with pytest.raises(BuildError, match="this model has no decoder"):
        rk.evaluate(pair, scenes, "exact-text")
