import random
import subprocess
import sys
import time

import pytest
import torch

import reprkit as rk
from reprkit.data import CodesOf, Field, Signature, Tensors
from reprkit.errors import BuildError, CompressionError, DataError, PartArgumentError
from reprkit.models import coding_prior
from reprkit.models.code_header import close_string
from reprkit.models.coding_prior import CodingPrior
from reprkit.models.fingerprints import fingerprint
from reprkit.models.priors import code_to_batch, log_prob
from reprkit.testing.sample_data import SEQUENCES, random_batch
from reprkit.testing.small import small_references
from reprkit.types import Code, Codes
from reprkit.utils import symbol_coder
from reprkit.utils.symbol_coder import CHECKSUM
from reprkit.utils.varints import encode_varint

DISCRETE = [each for each in small_references("latent") if rk.create("latent", each).vocab is not None]


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def build(data, latent="vq(codes=32, dim=4, codebooks=2)", seed=0):
    return rk.build(data=data, encoder="conv(width=8)", latent=latent, decoder="conv(width=8)", seed=seed)


@pytest.fixture(scope="module")
def fitted(digits):
    model = build(digits)
    model(digits.batch(range(128)))  # k-means start of the codebooks
    model.fit_frequencies(digits)
    return model


def same_output(one, other, valid=...):
    return torch.equal(one.x[valid], other.x[valid]) and all(
        torch.equal(value.expand_as(one.x)[valid], other.params[name].expand_as(one.x)[valid])
        for name, value in one.params.items()
        if value.ndim == one.x.ndim
    )


@torch.no_grad()
@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("latent", DISCRETE)
def test_every_discrete_latent_decodes_bit_equal(digits, latent, tables):
    model = build(digits, latent).eval()
    if tables:
        assert model.fit_frequencies(digits.split(0)[1])["code"] > 0
    batch = digits.batch(range(5))
    strings = model.compress(batch)
    codes, again = model.encode(batch), model.decompress(strings)
    assert torch.equal(codes.indices, again.indices)
    assert torch.equal(codes.z, again.z)
    assert (codes.grid, codes.length, codes.mask) == (again.grid, again.length, again.mask)
    assert same_output(model.decode(codes), model.decode(again))


@torch.no_grad()
@pytest.mark.parametrize("latent", DISCRETE)
def test_codes_of_varying_length_and_several_factors(latent):
    model = rk.build(
        data=SEQUENCES,
        factors={
            "content": rk.factor("transformer(width=16, heads=2, depth=1)", latent),
            "speaker": rk.factor("gru(width=8)", "one-hot(classes=5)", pool=True),
        },
        decoder="gru(width=8, causal=False)",
    ).eval()
    batch = random_batch(SEQUENCES, 4, length=9)
    codes, strings = model.encode(batch), model.compress(batch)
    again = model.decompress(strings)
    mask = codes["content"].mask
    assert mask.equal(again["content"].mask)
    assert codes["content"].indices[mask].equal(again["content"].indices[mask])
    assert codes["speaker"].indices.equal(again["speaker"].indices)
    one, two = model.decode(codes), model.decode(again)
    valid = ... if one.mask is None else one.mask
    assert same_output(one, two, valid)
    # The second example has one step: its string is short, and can be read alone.
    assert len(strings[1]) < len(strings[0])
    alone = model.decompress(strings[1:2])
    assert alone["content"].indices[0, 0].equal(codes["content"].indices[1, 0])


def test_examples_of_different_batches_are_padded_to_one():
    model = rk.build(
        data=SEQUENCES, encoder="gru(width=8)", latent="vq(codes=4, dim=3)", decoder="gru(width=8)"
    )
    model.eval()
    short, long = (model.compress(random_batch(SEQUENCES, 1, length=length))[0] for length in (4, 7))
    joined = model.decompress([short, long])
    assert joined.indices.shape == (2, 7, 1)
    assert joined.mask.sum(1).tolist() == [4, 7]
    assert joined.grid == (7,)


def test_masks_with_holes_positions_and_length_survive(fitted):
    indices = torch.randint(32, (2, 11, 2))
    mask = torch.tensor([[True, False] * 5 + [True], [True] * 11])
    code = Code(
        z=fitted.latent().embed(indices), indices=indices, mask=mask, positions=torch.arange(22).view(2, 11) * 99,
        length=3000, grid=(),
    )  # fmt: skip
    again = fitted.decompress(fitted.compress(Codes({"code": code})))
    assert again.mask.equal(mask)
    assert again.indices[mask].equal(indices[mask])
    assert again["code"].positions.equal(code.positions)
    assert (again["code"].length, again.grid) == (3000, ())


def test_size_is_within_one_percent_of_the_entropy_under_the_tables(digits):
    model = build(digits, "vq(codes=64, dim=4, codebooks=4)")
    model(digits.batch(range(512)))
    model.fit_frequencies(digits)
    tables = model.latent().frequencies().double()
    indices = torch.stack(
        [row.multinomial(2**14, True, generator=torch.Generator().manual_seed(1)) for row in tables], -1
    )
    code = Code(z=torch.zeros(1, 2**14, 16), indices=indices.unsqueeze(0), grid=(128, 128))
    bits = float((16 - tables.log2()).gather(1, indices.T).sum())
    (string,) = model.compress(Codes({"code": code}))
    assert bits < 8 * len(string) < 1.01 * bits


def test_fitted_tables_are_smaller_than_none_and_predict_the_size(digits):
    model = build(digits, "binary(bits=24)").eval()
    train, test = digits.split(0)[:2]
    before = sum(map(len, model.compress(test.batch(range(64)))))
    expected = model.fit_frequencies(train)["code"]
    strings = model.compress(train.batch(range(len(train))))
    assert sum(map(len, model.compress(test.batch(range(64))))) < before
    payload = (
        sum(len(string) - 14 for string in strings) * 8 / len(strings)
    )  # 9, flags, count, grid 3, length... of the header
    assert expected - 16 < payload < expected + 40


def test_tables_are_counts_of_the_training_data(digits, fitted):
    with torch.no_grad():
        symbols = fitted.eval().encode(digits.batch(range(len(digits)))).indices[..., 1].flatten()
    expected = symbol_coder.to_frequencies(symbols.bincount(minlength=32).numpy())
    assert fitted.latent().frequencies()[1].tolist() == expected.tolist()


@pytest.mark.slow
def test_another_process_reads_them_after_save_and_load(digits, fitted, tmp_path):
    batch = digits.batch(range(4))
    fitted.save(tmp_path / "model")
    (tmp_path / "strings").write_bytes(
        b"".join(len(s).to_bytes(2, "big") + s for s in fitted.compress(batch))
    )
    code = f"""
import torch, reprkit as rk
raw, strings = open({str(tmp_path / "strings")!r}, "rb").read(), []
while raw:
    size = int.from_bytes(raw[:2], "big"); strings.append(raw[2:2 + size]); raw = raw[2 + size:]
model = rk.load({str(tmp_path / "model")!r})
with torch.no_grad():
    torch.save(model.decode(model.decompress(strings)).x, {str(tmp_path / "x.pt")!r})
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=200)
    fitted.eval()
    with torch.no_grad():
        expected = fitted.decode(fitted.encode(batch)).x
    assert torch.equal(torch.load(tmp_path / "x.pt"), expected)


def test_every_flipped_byte_and_every_cut_is_one_error(digits, fitted):
    (string,) = fitted.compress(digits.batch([3]))
    for place in range(len(string)):
        broken = bytearray(string)
        broken[place] ^= 0x10
        with pytest.raises(CompressionError, match="string 0 is damaged"):
            fitted.decompress([bytes(broken)])
        with pytest.raises(CompressionError, match="string 0 is damaged"):
            fitted.decompress([string[:place]])
    with pytest.raises(CompressionError, match="string 1 is damaged"):
        fitted.decompress([string, string + b"\\0"])


def test_another_model_or_other_tables_are_an_error(digits, fitted):
    strings = fitted.compress(digits.batch([0]))
    with pytest.raises(CompressionError, match="string 0 was written with another model"):
        build(digits, seed=1).decompress(strings)
    model = build(digits, "binary(bits=6)")
    strings = model.compress(digits.batch([0]))
    assert model.decompress(strings).indices.shape == (1, 4, 6)
    model.fit_frequencies(digits)
    with pytest.raises(CompressionError, match="before its weights or tables changed"):
        model.decompress(strings)


def test_the_fingerprint_ignores_encoder_and_objective(digits):
    model = build(digits)
    before = fingerprint(model)
    with torch.no_grad():
        next(model.factors["code"].encoder.parameters()).add_(1)
    assert fingerprint(model) == before
    with torch.no_grad():
        next(model.adapters.parameters()).add_(1)
    assert fingerprint(model) != before


def test_wrong_uses_are_one_sentence(digits, fitted):
    batch = digits.batch([0])
    continuous = build(digits, "gaussian(dim=4)")
    for refused in (lambda: continuous.compress(batch), lambda: continuous.decompress([b"x" * 20])):
        with pytest.raises(PartArgumentError, match="latent reprkit/gaussian of factor code is continuous"):
            refused()
    with pytest.raises(PartArgumentError, match="no discrete latent"):
        continuous.fit_frequencies(digits)
    with pytest.raises(PartArgumentError, match="Gaussian is continuous"):
        continuous.latent().write(Code(z=torch.zeros(1, 1, 4)))
    for strings in ([], b"abc", ["abc"]):
        with pytest.raises(DataError, match="takes a list of the strings"):
            fitted.decompress(strings)
    with pytest.raises(BuildError, match="no factor named 'cod'.*Did you mean 'code'"):
        fitted.compress(batch, priors={"cod": "nowhere"})


@pytest.fixture(scope="module")
def with_prior():
    """A model of long sequences, and a causal prior that was trained a little on their codes."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 300, 4, generator=generator)
    data = Tensors(
        {"x": noise + noise.cumsum(1) / 6}, Signature({"x": Field(kind="sequence", shape=(300, 4))})
    )
    model = rk.build(
        data=data,
        encoder="transformer(width=16, heads=2, depth=1)",
        latent="vq(codes=16, dim=4, codebooks=2)",
        decoder="gru(width=8)",
    )
    model(data.batch(range(4)))
    codes = CodesOf(model.eval(), data)
    prior = rk.build(data=codes, decoder="gru(width=16, causal=True)", objective="autoregressive")
    rk.fit(prior, codes, steps=12, batch=4, lr=2e-2, progress=False)
    return model, data, prior


@pytest.mark.slow
def test_a_causal_prior_codes_at_its_likelihood(with_prior):
    model, data, prior = with_prior
    with torch.no_grad():
        codes = model.encode(data.batch(range(3)))
        nats = -log_prob(prior, code_to_batch(codes["code"], model.latent()))
    expected = (nats / torch.tensor(2.0).log()).tolist()
    payloads = CodingPrior(model, "code", prior).write(codes["code"])
    for payload, bits in zip(payloads, expected, strict=True):
        assert bits - 1 < 8 * (len(payload) - CHECKSUM) < 1.005 * bits + 40  # the coder ends with a word
    strings = model.compress(codes, priors={"code": prior})
    assert [len(string) - len(payload) for string, payload in zip(strings, payloads, strict=True)] == [21] * 3
    again = model.decompress(strings[1:], priors={"code": prior})
    assert torch.equal(again.indices, codes.indices[1:])


@pytest.mark.slow
def test_strings_under_a_prior_are_read_in_other_batches_threads_and_precisions(with_prior):
    model, data, prior = with_prior
    with torch.no_grad():
        codes = model.encode(data.batch(range(2)))
    strings = model.compress(codes, priors={"code": prior})
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        with torch.autocast("cpu", torch.bfloat16):
            assert model.compress(codes, priors={"code": prior}) == strings
            alone = [model.decompress([string], priors={"code": prior}).indices for string in strings]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.cat(alone), codes.indices)


def test_symbols_under_other_probabilities_are_refused(with_prior, monkeypatch):
    model, data, prior = with_prior
    with torch.no_grad():
        code = model.encode(data.batch([0]))["code"]
    short = Code(z=code.z[:, :20], indices=code.indices[:, :20])
    coding = CodingPrior(model, "code", prior)
    (string,) = coding.write(short)
    assert torch.equal(coding.read([string], short).indices, short.indices)
    exact = coding_prior.logits_to_edges
    monkeypatch.setattr(coding_prior, "logits_to_edges", lambda logits: exact(logits[:, ::-1]))
    with pytest.raises(CompressionError, match="does not decode to the symbols that were written"):
        coding.read([string], short)
    # Its checksum is compared even where the coder ends well.
    monkeypatch.setattr(coding_prior, "logits_to_edges", exact)
    with pytest.raises(CompressionError, match="does not decode to the symbols that were written"):
        coding.read([bytes(CHECKSUM) + string[CHECKSUM:]], short)


def test_a_prior_must_be_the_one_that_wrote_the_string(with_prior):
    model, data, prior = with_prior
    batch = data.batch([0])
    written, plain = model.compress(batch, priors={"code": prior}), model.compress(batch)
    with pytest.raises(
        CompressionError, match="priors= has no prior of factor code, and the strings were written with one"
    ):
        model.decompress(written)
    with pytest.raises(
        CompressionError, match="priors= has a prior of factor code, and the strings were written with none"
    ):
        model.decompress(plain, priors={"code": prior})
    other = rk.build(
        data=prior.signature, decoder="gru(width=24, causal=True)", objective="autoregressive", seed=5
    )
    with pytest.raises(CompressionError, match="another prior of factor code"):
        model.decompress(written, priors={"code": other})
    with pytest.raises(BuildError, match="a prior over codes is a causal decoder without an encoder"):
        model.compress(batch, priors={"code": model})


def test_a_checkpoint_and_a_state_without_tables_still_load(digits, fitted, tmp_path):
    from safetensors.torch import load_file, save_file

    from reprkit.training.resume import state

    fitted.save(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(str(path))
    assert weights.pop("factors.code.latent.symbol_frequencies").sum() == 2 * 2**16
    save_file(weights, str(path), metadata={"format": "pt"})
    loaded = rk.load(tmp_path)
    assert not any("symbol_frequencies" in name for name in loaded.state_dict())
    assert loaded.latent().frequencies() is None
    old = state.capture(fitted, state.scalars_of(fitted))
    del old["tensors"]["factors.code.latent.symbol_frequencies"]
    state.restore(loaded, old)
    assert loaded.latent().frequencies() is None
    fitted_copy = rk.build(
        data=digits,
        encoder="conv(width=8)",
        latent="vq(codes=32, dim=4, codebooks=2)",
        decoder="conv(width=8)",
        start=fitted,
    )
    assert fitted_copy.latent().frequencies().equal(fitted.latent().frequencies())
    fitted_copy.load_state_dict(loaded.state_dict())
    assert fitted_copy.latent().frequencies() is None
    assert loaded.latent().codebook.table.equal(fitted.latent().codebook.table)


# ------------------------------------------------------------------ crafted strings: right checksum and fingerprint, wrong claims


def crafted(model, body):
    return close_string(fingerprint(model) + body)


CLAIMS = {
    "many tokens": b"\x00" + encode_varint(2**40) + b"\x00",
    "tokens beyond its bytes": b"\x00" + encode_varint(2**28) + b"\x00",
    "many masked tokens": b"\x03" + encode_varint(2**30) + b"\x01\x00",
    "mask beyond its end": b"\x01" + encode_varint(2**16) + b"\x00",
    "another grid": b"\x04" + encode_varint(16) + b"\x02\x02\x02\x00",
    "a large grid": b"\x04" + encode_varint(16) + b"\x02" + encode_varint(2**60) * 2 + b"\x00",
    "many axes": b"\x04" + encode_varint(16) + encode_varint(2**50) + b"\x00",
    "positions beyond its end": b"\x08" + encode_varint(2**16) + b"\x00",
    "a large position": b"\x08\x01" + encode_varint(2**62) + b"\x00",
    "a large length": b"\x10\x04" + encode_varint(2**62) + b"\x00",
    "a number without end": b"\x00" + b"\xff" * 5000,
    "a payload beyond its end": b"\x00\x04" + encode_varint(2**60),
    "too many symbols": b"\x00\x01" + encode_varint(4000) + b"\xff" * 4000,
    "nothing": b"",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_of_a_crafted_string_are_bounded(fitted, claim):
    began = time.process_time()
    with pytest.raises(CompressionError):
        fitted.decompress([crafted(fitted, CLAIMS[claim])])
    assert time.process_time() - began < 2


def test_any_bytes_after_the_fingerprint_end_in_one_sentence(fitted):
    rng = random.Random(0)
    string = fitted.compress(rk.dataset("digits").batch(range(1)))[0]
    fitted.decompress([crafted(fitted, string[9:])])
    for number in range(40):
        body = bytearray(string[9:])
        at = rng.randrange(6 if number % 2 else len(body))
        body[at] ^= rng.randrange(1, 256)
        with pytest.raises((CompressionError, DataError)):
            fitted.decompress([crafted(fitted, bytes(body))])


def test_a_batch_of_codes_is_bounded(fitted):
    claim = crafted(fitted, b"\x03" + encode_varint(2**18) + b"\x00\x00")
    with pytest.raises(DataError, match="decompress fewer at a time"):
        fitted.decompress([claim] * 100)


@torch.no_grad()
@pytest.mark.parametrize("tables", [False, True])
def test_fewer_slots_are_a_lower_rate(digits, tables):
    model = build(digits, "residual-vq(codes=16, dim=4, layers=4)")
    model(digits.batch(range(128)))
    model.eval()
    if tables:
        model.fit_frequencies(digits.split(0)[1])
    batch = digits.batch(range(3))
    codes, sizes = model.encode(batch), []
    for slots in range(1, 5):
        strings = model.compress(batch, slots=slots)
        again = model.decompress(strings)
        assert torch.equal(again.indices, codes.indices[..., :slots])
        assert torch.equal(again.z, model.latent().embed(codes.indices[..., :slots]))
        sizes.append(sum(map(len, strings)))
    assert sizes == sorted(set(sizes))
    assert model.compress(batch, slots=4) == model.compress(batch)
    with pytest.raises(DataError, match="separately"):
        model.decompress([*model.compress(batch, slots=1), *model.compress(batch, slots=2)])
    with pytest.raises(PartArgumentError, match="4 slots"):
        model.compress(batch, slots=5)


def test_a_latent_that_needs_all_slots_refuses_fewer(digits):
    with pytest.raises(PartArgumentError):
        build(digits).eval().compress(digits.batch(range(2)), slots=1)
