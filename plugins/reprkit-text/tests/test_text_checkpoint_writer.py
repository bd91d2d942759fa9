"""Latent text whose generator is the decoder of a local BART or T5: equal to transformers, trainable, saved without the folder."""

import shutil

import pytest
import torch
from reprkit_text.latents.text import Text
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError

WORDS = ["<s>", "<pad>", "</s>", "<unk>", *(f"word{n}" for n in range(36))]
END = 2
NETWORKS = {
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
                   decoder_attention_heads=2, decoder_ffn_dim=24, max_position_embeddings=32, scale_embedding=True,
                   pad_token_id=1, eos_token_id=END, decoder_start_token_id=END, forced_eos_token_id=None)
    ),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2,
                 pad_token_id=1, eos_token_id=END, decoder_start_token_id=1)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    for name, network in NETWORKS.items():
        torch.manual_seed(1)
        theirs = network().eval()
        with torch.no_grad():
            for value in theirs.parameters():
                value.add_(0.3 * torch.randn_like(value))
        theirs.tie_weights()
        folder = tmp_path_factory.mktemp(name)
        theirs.save_pretrained(folder)
        fast.save_pretrained(folder)
        found[name] = (str(folder), theirs)
    return found


@pytest.fixture(scope="module")
def data(folders, tmp_path_factory):
    lines = [" ".join(f"word{(n * k) % 36}" for k in range(1, 4 + n % 5)) for n in range(1, 41)]
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(lines))
    return {
        name: rk.dataset(f"text(path={str(path)!r}, tokenizer={folder!r})")
        for name, (folder, _) in folders.items()
    }


def build(data, name, folder, latent="length=6, least=0", **options):
    return rk.build(
        data=data, encoder=f"reprkit-text/{name}(folder={folder!r})", latent=f"text(folder={folder!r}, {latent})",
        decoder="pointer(width=16)", seed=0, **options,
    )  # fmt: skip


def their_log_probs(theirs, batch, words):
    """Log-probabilities of words by transformers' own forward, given the document."""
    first = torch.full_like(words[:, :1], theirs.config.decoder_start_token_id)
    inputs = {"input_ids": batch["x"], "attention_mask": batch["x_mask"].long()}
    logits = theirs(**inputs, decoder_input_ids=torch.cat([first, words[:, :-1]], 1)).logits
    return logits.log_softmax(-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_writes_what_transformers_writes(folders, data, name):
    folder, theirs = folders[name]
    model = build(data[name], name, folder).eval()
    latent, batch = model.latent(), data[name].batch(range(8))
    with torch.no_grad():
        code = model.encode(batch)["code"]
        written = theirs.generate(
            batch["x"], attention_mask=batch["x_mask"].long(), max_new_tokens=6, do_sample=False, num_beams=1
        )[:, 1:]
        for own, mask, other in zip(code.indices[..., 0], code.mask, written, strict=True):
            assert own[mask].tolist() == other[: int(mask.sum())].tolist()
        given = torch.randint(3, 40, (8, 6), generator=torch.Generator().manual_seed(3))
        features = model.factors["code"].features(batch)
        expected = their_log_probs(theirs, batch, given).gather(-1, given[..., None])[..., 0]
        torch.testing.assert_close(latent.log_prob_of(features, given), expected, atol=1e-4, rtol=1e-4)
        assert len({tuple(row.tolist()) for row in code.indices[..., 0]}) > 1, (
            "texts that depend on the document"
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_follow_the_distribution_of_transformers(folders, data, name):
    folder, theirs = folders[name]
    model = build(data[name], name, folder, "length=1, least=0").train()
    batch = {key: value[:1].expand(4000, *value.shape[1:]) for key, value in data[name].batch([5]).items()}
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = model.encode(batch)["code"].indices[:, 0, 0]
        one = {key: value[:1] for key, value in batch.items()}
        probs = their_log_probs(theirs, one, torch.zeros(1, 1, dtype=torch.long))[0, 0].exp()
    share = torch.bincount(drawn, minlength=40) / 4000
    torch.testing.assert_close(share, probs, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_encoder_and_writer(folders, data, name):
    folder, _ = folders[name]
    model = build(data[name], name, folder).train()
    batch = data[name].batch(range(4))
    model(batch).total.backward()
    by_sampling = {
        key
        for key, value in model.named_parameters()
        if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert any("latent.generator" in key for key in by_sampling)
    assert any(".encoder." in key for key in by_sampling)
    policy = build(data[name], name, folder, "length=6, gradient='policy'").train()
    policy.encode(batch)["code"].log_prob.sum().backward()
    assert any(
        "latent.generator" in key and value.grad is not None and value.grad.abs().sum() > 0
        for key, value in policy.named_parameters()
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_model_loads_without_the_folder(folders, data, name, tmp_path):
    folder = str(tmp_path / "checkpoint")
    shutil.copytree(folders[name][0], folder)
    model = build(data[name], name, folder).eval()
    batch = data[name].batch(range(4))
    with torch.no_grad():
        expected = model.encode(batch)["code"]
    model.save(str(tmp_path / "model"))
    shutil.rmtree(folder)
    with torch.no_grad():
        found = rk.load(str(tmp_path / "model")).eval().encode(batch)["code"]
    assert torch.equal(found.indices, expected.indices)
    torch.testing.assert_close(found.z, expected.z)


def test_unfit_folders_and_arguments_are_refused(folders, data, tmp_path):
    folder, _ = folders["bart"]
    fields = data["bart"].signature
    for arguments, message in (
        ({"width": 16}, "remove width"),
        ({"copy": True}, "remove copy"),
        ({"kind": "t5"}, "holds a bart"),
        ({"length": 64, "least": 65}, "least"),
    ):
        with pytest.raises(PartArgumentError, match=message):
            Text(folder=folder, data=fields, **arguments)
    with pytest.raises(PartArgumentError, match="folder"):
        Text(kind="bart")
    with pytest.raises(BuildError, match="data"):
        Text(folder=folder)
    with pytest.raises(DataError, match="no checkpoint"):
        Text(folder=str(tmp_path / "nothing"), data=fields)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=40, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(DataError, match="'bert'.*bart or t5"):
        Text(folder=str(tmp_path / "bert"), data=fields)
    shutil.copytree(folder, tmp_path / "untold")
    (tmp_path / "untold" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no tokenizer"):
        Text(folder=str(tmp_path / "untold"), data=fields)
    with pytest.raises(DataError, match="no tokenizer"):
        rk.dataset(f"debian(tokenizer={str(tmp_path / 'untold')!r})")
    (tmp_path / "other.txt").write_text("one two\nthree four\n" * 10)
    other = rk.dataset(f"text(path={str(tmp_path / 'other.txt')!r}, tokenizer='characters')")
    with pytest.raises(BuildError, match="tokenizer="):
        Text(folder=folder, data=other.signature)
