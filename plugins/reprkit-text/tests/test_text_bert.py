"""Uses of a trained BERT: saving for transformers, embedding texts; and the TF-IDF baseline."""

import numpy as np
import pytest
import torch
from reprkit_text import embed, save_pretrained
from reprkit_text.data.debian import Debian
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer, BertForMaskedLM, BertModel, pipeline

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import EvaluatorConformance
from reprkit.testing.sample_data import IMAGES, TOKENS


class TestTfIdf(EvaluatorConformance):
    part, data = "reprkit-text/tf-idf(C=1.0)", TOKENS


@pytest.fixture(scope="module")
def debian():
    return Debian(tokenizer="byte-pair(vocab=500, lower=True)", sections=4, length=40)


def build_model(data, latent="continuous(dim=12)", decoder="bert(width=16)"):
    model = rk.build(
        data=data,
        encoder="bert(width=16, depth=1, heads=2, positions=40, dropout=0.1)",
        latent=latent,
        decoder=decoder,
        objective="denoising(corruption='whole-words', on='hit')",
    )
    with torch.no_grad():
        for value in model.parameters():  # adapters are initialized as identities
            value.add_(0.05 * torch.randn_like(value))
    return model


def test_a_saved_model_equals_bert_of_transformers_and_fills_masks(debian, tmp_path):
    model = build_model(debian).train()
    folder = save_pretrained(model, tmp_path / "bert")
    assert model.training
    assert all(module.training for module in model.modules())
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    alone, whole = (each.from_pretrained(folder).eval() for each in (BertModel, BertForMaskedLM))
    batch = debian.batch(range(4))
    hidden = {
        **batch,
        "x": torch.where(torch.arange(batch["x"].shape[1]) == 2, debian.signature["x"].vocab, batch["x"]),
    }
    ids = hidden["x"]
    assert tokenizer.mask_token_id == int(ids[0, 2])
    with torch.no_grad():
        codes = model.encode(hidden, in_range=False)
        ours = model.decode(codes, length=ids.shape[1]).params["logits"][:, :, 0]
        features = model.factors["code"].encoder(hidden).x
        mask = batch["x_mask"]
        torch.testing.assert_close(alone(ids, mask.long()).last_hidden_state[mask], features[mask])
        logits = whole(ids, mask.long()).logits
        torch.testing.assert_close(logits[..., :-1][mask], ours[mask], atol=1e-4, rtol=1e-4)
        assert (logits[..., -1] < -1000).all(), "the mask itself is never predicted"
    filled = pipeline("fill-mask", model=whole, tokenizer=tokenizer)("a library for [MASK] files", top_k=1)
    best = model.decode(
        model.encode(
            {"x": tokenizer("a library for [MASK] files", return_tensors="pt")["input_ids"]}, in_range=False
        ),
        length=None,
    )
    position = tokenizer("a library for [MASK] files")["input_ids"].index(tokenizer.mask_token_id)
    assert filled[0]["token"] == int(best.x[0, position, 0])


def test_only_what_transformers_can_represent_is_saved(debian, tmp_path):
    for latent, decoder in (
        ("vq(codes=8, dim=4)", "bert(width=16)"),
        ("continuous(dim=8)", "transformer(width=8, depth=1)"),
    ):
        model = build_model(debian, latent, decoder)
        folder = save_pretrained(model, tmp_path / latent[:2])
        assert BertModel.from_pretrained(folder).config.vocab_size == debian.signature["x"].vocab + 1
        assert '"BertModel"' in (folder / "config.json").read_text()
    model = rk.build(
        data=debian, encoder="gru(width=8)", decoder="gru(width=8, causal=True)", objective="autoregressive"
    )
    with pytest.raises(BuildError, match="not one of transformers"):
        save_pretrained(model, tmp_path / "gru")
    two = rk.build(
        data=debian,
        factors={
            name: rk.factor("bert(width=16, depth=1, heads=2)", "continuous(dim=4)") for name in ("a", "b")
        },
        decoder="bert(width=16)",
    )
    with pytest.raises(BuildError, match="say which: factor=; there are: a, b"):
        save_pretrained(two, tmp_path / "two")
    assert (
        BertModel.from_pretrained(save_pretrained(two, tmp_path / "two", factor="b")).config.hidden_size == 16
    )


def test_embeddings_equal_those_of_the_data_in_order(debian, tmp_path):
    model = build_model(debian).eval()
    texts = debian.documents[:10]
    with torch.no_grad():
        expected = torch.cat([model.represent(debian.batch([index])) for index in range(10)])
    vectors = embed(model, texts, batch=3)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)
    model.save(tmp_path / "model")
    torch.testing.assert_close(embed(str(tmp_path / "model"), texts), expected, atol=1e-5, rtol=1e-4)
    assert embed(model.train(), ["one", "word " * 100_000, "日本語"]).isfinite().all()
    assert model.training
    for bad, message in (
        (["fine", " "], "text 1 is empty"),
        ([None], "text 0 is NoneType"),
        ([], "no texts"),
    ):
        with pytest.raises(DataError, match=message):
            embed(model, bad)
    other = rk.build(
        data=TOKENS, encoder="gru(width=8)", decoder="gru(width=8, causal=True)", objective="autoregressive"
    )
    with pytest.raises(BuildError, match="has no vocabulary"):
        embed(other, texts)
    with pytest.raises(PartArgumentError, match="embed: batch=0 must be an integer of at least 1"):
        embed(model, texts, batch=0)
    with pytest.raises(BuildError, match="embed: no factor named 'codes'.*Did you mean 'code'"):
        embed(model, texts, factor="codes")


def test_tf_idf_equals_scikit_learn(debian):
    train, test = debian.split()
    model = build_model(debian).eval()
    found = rk.evaluate(model, test, "tf-idf(C=3.0, ngrams=2)", fit_on=train, examples=0)["tf-idf"]
    texts, labels = (
        [[part.vocabulary.decode(each["x"]) for each in part] for part in (train, test)],
        [np.array([int(each["label"]) for each in part]) for part in (train, test)],
    )
    terms = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    x = terms.fit_transform(texts[0])
    reference = LogisticRegression(C=3.0, max_iter=2000).fit(x, labels[0])
    assert found == {"accuracy": float(reference.score(terms.transform(texts[1]), labels[1])), "n": len(test)}
    assert found["accuracy"] > 0.6, "four sections can be distinguished"
    few = rk.evaluate(model, test, "tf-idf(labels=40)", fit_on=train, examples=0)["tf-idf"]["accuracy"]
    assert 0.3 < few < found["accuracy"]


def test_tf_idf_rejects_unsuitable_data(debian):
    with pytest.raises(PartArgumentError, match="C=0 must be a number above 0"):
        rk.create("evaluator", "tf-idf(C=0)")
    pictures = rk.data.Tensors({"x": torch.rand(8, 8, 8, 1), "label": torch.arange(8) % 3}, IMAGES)
    evaluator = rk.create("evaluator", "tf-idf")
    with pytest.raises(DataError, match="image data"):
        evaluator(None, pictures, fit_on=pictures)
    with pytest.raises(DataError, match="fit_on"):
        evaluator(None, debian)
