"""Encoders and decoders of transformers: conformance, and equality with transformers' own networks."""

import pytest
import torch
from reprkit_text.decoders.bart import BartDecoder
from reprkit_text.decoders.bert import BertDecoder
from reprkit_text.decoders.t5 import T5Decoder
from reprkit_text.encoders.bart import BartEncoder
from reprkit_text.encoders.bert import BertEncoder
from reprkit_text.encoders.t5 import T5Encoder
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import DecoderConformance, EncoderConformance
from reprkit.testing.sample_data import IMAGES, TOKENS

SMALL = "width=8, depth=1, heads=2"


class TestBertEncoder(EncoderConformance):
    part, data = f"reprkit-text/bert({SMALL}, dropout=0.1)", TOKENS


class TestBartEncoder(EncoderConformance):
    part, data = f"reprkit-text/bart({SMALL})", TOKENS


class TestT5Encoder(EncoderConformance):
    part, data = f"reprkit-text/t5({SMALL}, dropout=0.1)", TOKENS


class TestBertDecoder(DecoderConformance):
    part, data = "reprkit-text/bert(width=8)", TOKENS


class TestBertDecoderWithBlocks(DecoderConformance):
    part, data = "reprkit-text/bert(width=8, depth=1, heads=2, positions=8, dropout=0.1)", TOKENS


class TestBartDecoder(DecoderConformance):
    part, data = f"reprkit-text/bart({SMALL})", TOKENS


class TestT5Decoder(DecoderConformance):
    part, data = f"reprkit-text/t5({SMALL}, dropout=0.1)", TOKENS


# ------------------------------------------------------------------ transformers' own checkpoints

VOCAB = 40
SIZES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    "bart": {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24,
             "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_position_embeddings": 64, "scale_embedding": True},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2},
    "t5-1.1": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2,
               "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0},
}  # fmt: skip
WHOLE = {
    "bert": (BertConfig, BertForMaskedLM),
    "bart": (BartConfig, BartForConditionalGeneration),
    "t5": (T5Config, T5ForConditionalGeneration),
    "t5-1.1": (T5Config, T5ForConditionalGeneration),
}
FIELDS = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=VOCAB)})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    saved_models = {}
    for name, (config, cls) in WHOLE.items():
        torch.manual_seed(1)
        sizes = dict(SIZES[name])
        if name.startswith("t5"):
            sizes["decoder_start_token_id"] = 0
        theirs = cls(config(vocab_size=VOCAB, **sizes)).eval()
        with torch.no_grad():
            for value in theirs.parameters():  # biases start at zero and norms at one: make them distinct
                value.add_(0.1 * torch.randn_like(value))
            if name == "bart":
                theirs.final_logits_bias.normal_()
        theirs.tie_weights()
        theirs.save_pretrained(folder := tmp_path_factory.mktemp(name))
        saved_models[name] = (str(folder), cls.from_pretrained(folder).eval())
    return saved_models


def texts(seed=0):
    mask = torch.arange(7)[None] < torch.tensor([[7], [3], [1]])
    x = torch.randint(VOCAB, (3, 7), generator=torch.Generator().manual_seed(seed))
    return {"x": x * mask, "x_mask": mask}


@pytest.mark.parametrize(
    ("name", "ours"), [("bert", BertEncoder), ("bart", BartEncoder), ("t5", T5Encoder), ("t5-1.1", T5Encoder)]
)
def test_an_encoder_of_a_checkpoint_equals_transformers(saved, name, ours, tmp_path):
    folder, theirs = saved[name]
    encoder = ours(folder=folder, data=FIELDS).eval()
    batch = texts()
    inside = {"bert": lambda: theirs.bert, "bart": lambda: theirs.model.encoder}.get(
        name, lambda: theirs.encoder
    )()
    with torch.no_grad():
        there = inside(input_ids=batch["x"], attention_mask=batch["x_mask"].long()).last_hidden_state
        here = encoder(batch).x
    mask = batch["x_mask"]
    torch.testing.assert_close(here[mask], there[mask])
    hidden = {**batch, "x": torch.where(batch["x"] == batch["x"][0, 0], VOCAB, batch["x"])}
    assert not torch.equal(encoder(hidden).x[0, 0], here[0, 0]), "the mask symbol has a row of its own"
    encoder.save_pretrained(tmp_path)
    again = ours(folder=str(tmp_path), data=FIELDS).eval()
    torch.testing.assert_close(again(hidden).x[mask], encoder(hidden).x[mask])


@pytest.mark.parametrize("cls", [BertEncoder, BertDecoder])
def test_a_new_bert_initializes_positions_with_sines_and_learns_them(cls):
    part = cls(width=8, depth=1, heads=2, positions=6, data=FIELDS)
    positions = part.body.embeddings.position_embeddings.weight
    rates = 10_000 ** (-torch.arange(4) / 4)
    angles = torch.arange(6)[:, None] * rates
    assert torch.allclose(positions, 0.1 * torch.cat([angles.sin(), angles.cos()], 1), atol=1e-6)
    assert positions.requires_grad


@pytest.mark.parametrize(("name", "ours"), [("bart", BartDecoder), ("t5", T5Decoder), ("t5-1.1", T5Decoder)])
def test_a_decoder_of_a_checkpoint_equals_transformers(saved, name, ours):
    folder, theirs = saved[name]
    decoder = ours(folder=folder, data=FIELDS).eval()
    source, target = texts(), texts(1)["x"]
    encoder = {"bart": BartEncoder}.get(name, T5Encoder)(folder=folder, data=FIELDS).eval()
    with torch.no_grad():
        there = theirs(input_ids=source["x"], attention_mask=source["x_mask"].long(), labels=target).logits
        features = encoder(source)
        here = decoder(features, teacher=target.unsqueeze(-1)).params["logits"][:, :, 0]
        torch.testing.assert_close(here, there)
        state, previous = decoder.start(features, size=3, length=7), None
        for place in range(7):
            step, state = decoder.step(previous, state)
            torch.testing.assert_close(step.params["logits"][:, 0, 0], there[:, place], atol=1e-5, rtol=1e-4)
            previous = target[:, place : place + 1, None]
        with pytest.raises(BuildError, match="all 7 steps"):
            decoder.step(previous, state)


def test_the_head_of_a_checkpoint_equals_transformers(saved):
    folder, theirs = saved["bert"]
    encoder, decoder = BertEncoder(folder=folder, data=FIELDS), BertDecoder(folder=folder, data=FIELDS)
    batch = texts()
    with torch.no_grad():
        there = theirs(input_ids=batch["x"], attention_mask=batch["x_mask"].long()).logits
        here = decoder.eval()(encoder.eval()(batch)).params["logits"][:, :, 0]
    torch.testing.assert_close(here[batch["x_mask"]], there[batch["x_mask"]])


def test_a_saved_model_of_a_checkpoint_loads_without_its_folder(saved, tmp_path):
    import shutil

    folder = tmp_path / "bart"
    shutil.copytree(saved["bart"][0], folder)
    model = rk.build(
        data=FIELDS,
        encoder=f"bart(folder={str(folder)!r}, freeze=1)",
        latent="continuous(dim=16)",
        decoder=f"bart(folder={str(folder)!r})",
        objective="autoregressive",
    ).eval()
    model.save(tmp_path / "model")
    shutil.rmtree(folder)
    again = rk.load(tmp_path / "model")
    batch = texts()
    for one, two in zip(model(batch).terms.values(), again(batch).terms.values(), strict=True):
        torch.testing.assert_close(one, two)
    frozen = [name for name, value in again.named_parameters() if not value.requires_grad]
    assert any("layers.0" in name for name in frozen)
    assert not any("layers.1" in name for name in frozen)


def test_pooled_codes_and_texts_of_other_lengths_are_decoded(saved):
    for decoder in (f"bart({SMALL})", f"t5({SMALL})"):
        for latent in ("continuous(dim=4)", "vq(codes=8, dim=4)", f"text(vocab={VOCAB}, width=8, length=5)"):
            model = rk.build(
                data=FIELDS,
                encoder=f"t5({SMALL})",
                latent=latent,
                decoder=decoder,
                objective="autoregressive",
            )
            total = model(texts()).total
            total.backward()
            assert torch.isfinite(total)
        pooled = rk.build(
            data=FIELDS, factors={"whole": rk.factor(f"t5({SMALL})", "continuous(dim=4)", pool=True)},
            decoder=decoder, objective="autoregressive",
        )  # fmt: skip
        assert torch.isfinite(pooled(texts()).total)
        codes = pooled.eval().encode(texts())
        made = pooled.generate(codes, length=4, temperature=0)
        assert torch.equal(made.x, pooled.generate(codes, length=4, temperature=0).x)
        alone = rk.build(data=FIELDS, decoder=decoder, objective="autoregressive").eval()
        assert alone.generate(length=4, size=2, seed=0).x.shape == (2, 4, 1)


def test_predicting_only_hit_symbols_gives_the_same_loss(monkeypatch):
    from reprkit.objectives import denoising

    model = rk.build(
        data=FIELDS,
        encoder=f"bert({SMALL})",
        latent="continuous(dim=8)",
        decoder="bert(width=8)",
        objective="denoising(corruption='whole-words(ratio=0.4)', on='hit')",
    ).train()
    batch, queries = texts(), []
    forward = type(model.decoder).forward

    def record_queries(self, features, **options):
        queries.append(options.get("queries"))
        return forward(self, features, **options)

    monkeypatch.setattr(type(model.decoder), "forward", record_queries)
    totals = []
    for some in (True, False):
        if not some:
            monkeypatch.setattr(denoising, "_queries", lambda *_: None)
        torch.manual_seed(2)
        total = model(batch).total
        model.zero_grad()
        total.backward()
        totals.append(
            [total, *(value.grad.clone() for value in model.parameters() if value.grad is not None)]
        )
    assert queries[0].shape == (3, 3)
    assert queries[1] is None
    for one, two in zip(*totals, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_an_encoder_is_exported(tmp_path):
    model = rk.build(
        data=FIELDS, encoder=f"bert({SMALL})", latent="continuous(dim=8)", decoder="bert(width=8)",
        objective="denoising(corruption='whole-words', on='hit')",
    ).eval()  # fmt: skip
    program = rk.export(model)
    batch = texts()
    with torch.no_grad():
        found = program.module()(batch)["representation"]
        torch.testing.assert_close(found, model.represent(batch))


def test_invalid_arguments_and_checkpoints_are_rejected(saved, tmp_path):
    folder = saved["bert"][0]
    with pytest.raises(PartArgumentError, match="remove width, depth"):
        BertEncoder(8, depth=2, folder=folder, data=FIELDS)
    with pytest.raises(PartArgumentError, match="Did you mean 'hidden_act'"):
        BertEncoder(8, heads=2, config={"hidden_akt": "relu"}, data=FIELDS)
    for activation, nearest in ((3, ""), ("gelo", "Did you mean 'gelu'")):
        with pytest.raises(PartArgumentError, match=f"rejects these settings: hidden_act=.*{nearest}"):
            BertEncoder(8, heads=2, config={"hidden_act": activation}, data=FIELDS)
    with pytest.raises(DataError, match="holds a network of type 'bert', not 't5'"):
        T5Encoder(folder=folder, data=FIELDS)
    with pytest.raises(DataError, match="nothing is downloaded"):
        BertEncoder(folder="bert-base-uncased", data=FIELDS)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="weights in"):
        BertEncoder(folder=str(tmp_path), data=FIELDS)
    big = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=VOCAB + 1)})
    for cls in (BertEncoder, BertDecoder):
        with pytest.raises(BuildError, match="knows 40"):
            cls(folder=folder, data=big)
    with pytest.raises(BuildError, match="knows 40"):
        BartDecoder(folder=saved["bart"][0], data=big)
    for cls in (BertEncoder, BertDecoder, BartEncoder, BartDecoder, T5Encoder, T5Decoder):
        with pytest.raises(BuildError, match="x is image data"):
            cls(8, data=IMAGES)
    for cls in (BertEncoder, BartEncoder):
        encoder = cls(8, depth=1, heads=2, positions=4, data=FIELDS)
        with pytest.raises(
            DataError, match=r"reads at most 4 symbols, and the longest text of the batch has 7\n.*length=4"
        ):
            encoder(texts())
    with pytest.raises(DataError, match="at most 4"):
        BartDecoder(8, depth=1, heads=2, positions=4, data=FIELDS).start(None, size=1, length=5)
    with pytest.raises(PartArgumentError, match="freeze must be 'none', 'all' or a number of blocks"):
        BertEncoder(folder=folder, freeze=3, data=FIELDS)
    for freeze, count in (("all", 0), (2, 0), (1, 16), (0, 32)):
        encoder = BertEncoder(folder=folder, freeze=freeze, data=FIELDS)
        assert sum(value.requires_grad for value in encoder.parameters()) == count
    lost = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    with pytest.raises(DataError, match="it lacks"):
        BertEncoder(folder=folder, config=lost, data=FIELDS)
    assert (
        len(BertEncoder(folder=folder, config={"num_hidden_layers": 1}, data=FIELDS).body.encoder.layer) == 1
    )
