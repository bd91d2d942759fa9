"""Sampling of sequences: the distribution of samples, with temperature, top-k and top-p, and after a prime."""

import itertools
import math

import pytest
import torch
from scipy import stats

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.likelihoods.categorical import Categorical

SYMBOLS, LENGTH = 4, 3
DECODERS = {
    "gru": "gru(width=12, depth=2)",
    "lstm": "lstm(width=12, depth=2)",
    "transformer": "transformer(width=12, heads=2, depth=1, causal=True)",
}
TEXT = rk.Signature({"x": rk.Field(kind="tokens", shape=(LENGTH,), vocab=SYMBOLS)})
ANY = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=SYMBOLS)})
FRAMES = rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 2), range=(-3, 5))})


def make_model(data, decoder="lstm"):
    model = rk.build(data=data, decoder=DECODERS[decoder], objective="autoregressive", seed=1).eval()
    if data["x"].discrete:
        with torch.no_grad():
            model.decoder.head.linear.weight.mul_(
                30 if decoder == "lstm" else 6
            )  # far from uniform, so that a wrong distribution shows
    return model


@torch.no_grad()
def sequence_probabilities(model, temperature=1.0, allowed=None):
    """Return the probability of every sequence, by teacher forcing; ``allowed(p) -> p`` filters the probabilities of a symbol."""
    every = torch.tensor(list(itertools.product(range(SYMBOLS), repeat=LENGTH)))
    logits = model.decode(teacher=every.unsqueeze(-1)).params["logits"][:, :, 0].double() / temperature
    p = torch.softmax(logits, -1)
    if allowed is not None:
        p = allowed(p)
    return p.gather(-1, every.unsqueeze(-1)).squeeze(-1).prod(-1)


def sequence_index(drawn):
    return (drawn[..., 0] * SYMBOLS ** torch.arange(LENGTH - 1, -1, -1)).sum(1)


def count_sequences(drawn):
    return torch.bincount(sequence_index(drawn), minlength=SYMBOLS**LENGTH)


def assert_distribution(counts, expected):
    """Assert agreement by a chi-squared test over the cells with at least five expected counts, the rest merged."""
    assert int(counts[expected == 0].sum()) == 0
    want = (expected / expected.sum() * counts.sum()).numpy()
    big = want >= 5
    rest = [[counts.numpy()[~big].sum()], [want[~big].sum()]]
    seen, hoped = [*counts.numpy()[big], *rest[0]], [*want[big], *rest[1]]
    if hoped[-1] == 0:
        seen, hoped = seen[:-1], hoped[:-1]
    assert stats.chisquare(seen, hoped).pvalue > 1e-3


def keep_top_k(k):
    """Keep the k largest probabilities; straight from the definition."""
    return lambda p: _keep_symbols(
        p, [sorted(range(SYMBOLS), key=lambda s, row=row: -row[s])[:k] for row in rows(p)]
    )


def keep_nucleus(q):
    """Keep the fewest of the largest whose sum reaches q; straight from the definition."""

    def one(row):
        kept, total = [], 0.0
        for symbol in sorted(range(SYMBOLS), key=lambda s: -row[s]):
            if total >= q:
                break
            kept.append(symbol)
            total += row[symbol]
        return kept

    return lambda p: _keep_symbols(p, [one(row) for row in rows(p)])


def rows(p):
    return p.view(-1, SYMBOLS).tolist()


def _keep_symbols(p, lists):
    mask = torch.zeros_like(p.view(-1, SYMBOLS))
    for row, kept in zip(mask, lists, strict=True):
        row[kept] = 1
    narrowed = p * mask.view(p.shape)
    return narrowed / narrowed.sum(-1, keepdim=True)


@pytest.mark.parametrize("decoder", DECODERS)
def test_samples_follow_the_model_distribution(decoder):
    model = make_model(TEXT, decoder)
    expected = sequence_probabilities(model)
    assert float(expected.max()) > 3 / SYMBOLS**LENGTH  # not uniform
    drawn = model.generate(size=8_000, seed=0)
    assert_distribution(count_sequences(drawn.x), expected)
    with pytest.raises(AssertionError):
        assert_distribution(count_sequences(drawn.x), torch.full_like(expected, SYMBOLS**-LENGTH))
    log_likelihood = -drawn.nll(drawn.x).sum(1)
    torch.testing.assert_close(
        log_likelihood.exp().double(), expected[sequence_index(drawn.x)], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "temperature", "allowed"),
    [
        ({"temperature": 0.5}, 0.5, None),
        ({"temperature": 2.0}, 2.0, None),
        ({"top_k": 2}, 1.0, keep_top_k(2)),
        ({"top_p": 0.7}, 1.0, keep_nucleus(0.7)),
        ({"top_k": 3, "temperature": 1.5}, 1.5, keep_top_k(3)),
        ({"top_p": 0.6, "temperature": 0.8}, 0.8, keep_nucleus(0.6)),
        ({"top_k": 3, "top_p": 0.8}, 1.0, lambda p: keep_nucleus(0.8)(keep_top_k(3)(p))),
    ],
)
def test_options_change_the_distribution_as_documented(options, temperature, allowed):
    model = make_model(TEXT)
    drawn = model.generate(size=8_000, seed=3, **options)
    assert_distribution(count_sequences(drawn.x), sequence_probabilities(model, temperature, allowed))
    plain = sequence_probabilities(model)
    with pytest.raises(AssertionError):
        assert_distribution(count_sequences(drawn.x), plain)


def test_noise_drawn_in_blocks_is_independent_between_steps():
    """More steps than one block of noise: each symbol still has its own draw."""
    model = make_model(ANY)
    with torch.no_grad():
        model.decoder.head.linear.weight.zero_()
        model.decoder.head.linear.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    drawn = model.generate(size=20, length=400, seed=0).x
    counts = torch.bincount(drawn.flatten(), minlength=4)
    assert stats.chisquare(counts, 8_000 * torch.tensor([0.1, 0.2, 0.3, 0.4])).pvalue > 1e-3
    pairs = torch.bincount(drawn[:, 1:, 0].flatten() * 4 + drawn[:, :-1, 0].flatten(), minlength=16)
    assert stats.chi2_contingency(pairs.view(4, 4)).pvalue > 1e-3  # steps are independent
    assert len({tuple(row) for row in drawn[:, :, 0].tolist()}) == 20


@pytest.mark.parametrize("data", [ANY, FRAMES], ids=["tokens", "frames"])
def test_equal_seeds_give_equal_samples(data):
    model = make_model(data)

    def drawn(length=70, **options):
        return model.generate(size=2, length=length, **options).x

    assert torch.equal(drawn(seed=5), drawn(seed=5))
    assert not torch.equal(drawn(seed=5), drawn(seed=6))
    assert torch.equal(drawn(seed=5), drawn(generator=torch.Generator().manual_seed(5)))
    torch.manual_seed(0)
    first = drawn()
    torch.manual_seed(0)
    assert torch.equal(first, drawn())
    if data is ANY:  # a longer sequence begins as the shorter one
        torch.testing.assert_close(drawn(length=20, seed=5), drawn(seed=5)[:, :20])


@pytest.mark.parametrize("decoder", DECODERS)
def test_temperature_0_takes_the_most_likely_value(decoder):
    model = make_model(ANY, decoder)
    drawn = model.generate(size=2, length=12, temperature=0)
    assert torch.equal(drawn.x, drawn.params["logits"].argmax(-1))
    assert torch.equal(drawn.x, model.generate(size=2, length=12, top_k=1).x)
    frames = make_model(FRAMES, decoder).generate(length=6, temperature=0)
    torch.testing.assert_close(frames.x, frames.params["mean"])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("data", [ANY, FRAMES], ids=["tokens", "frames"])
@torch.no_grad()
def test_prime_is_continued(decoder, data):
    model = make_model(data, decoder)
    prime = torch.tensor([2, 0, 3]) if data is ANY else torch.randn(3, 2)
    drawn = model.generate(size=9, length=8, prime=prime, seed=0)
    assert drawn.x.shape == (9, 8, 1 if data is ANY else 2)
    begins = prime.view(1, 3, -1).expand(9, -1, -1)
    torch.testing.assert_close(drawn.x[:, :3], begins)
    assert len(drawn.x[:, 3:].unique(dim=0)) > 2
    forced = model.decode(teacher=drawn.x)
    torch.testing.assert_close(drawn.nll(drawn.x), forced.nll(drawn.x), rtol=1e-4, atol=1e-4)
    each = torch.stack([prime, prime.flip(0)])
    both = model.generate(length=8, prime=each, temperature=0)
    torch.testing.assert_close(both.x[1, :3], prime.flip(0).view(3, -1))
    alone = model.generate(length=8, prime=prime.flip(0), temperature=0)
    torch.testing.assert_close(both.x[1], alone.x[0])


def test_prime_conditions_the_continuation():
    model = make_model(TEXT)
    found = model.generate(size=6_000, prime=torch.tensor([1]), seed=0).x
    expected = sequence_probabilities(model).view(SYMBOLS, -1).clone()
    expected[[0, 2, 3]] = 0
    assert_distribution(count_sequences(found), expected.flatten() / expected.sum())


@pytest.mark.parametrize("prime", [torch.zeros(0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)])
def test_an_empty_prime_is_refused(prime):
    with pytest.raises(DataError, match="prime= is empty"):
        make_model(TEXT).generate(prime=prime)


def test_an_image_is_completed_from_its_first_rows():
    data = rk.Signature({"x": rk.Field(kind="image", shape=(6, 4, 1), range=(0, 1))})
    model = rk.build(data=data, decoder="gru(width=8)", objective="autoregressive").eval()
    prime = torch.rand(2, 2, 4, 1)
    completed = model.to_batch(model.generate(prime=prime, seed=0))["x"]
    assert completed.shape == (2, 6, 4, 1)
    torch.testing.assert_close(completed[:, :2], prime)


def test_real_values_are_drawn_with_the_predicted_deviation():
    model = make_model(FRAMES, "gru")
    for temperature in (1.0, 0.3):
        drawn = model.generate(size=4_000, length=2, temperature=temperature, seed=0)
        scale = drawn.params["log_scale"].exp() * temperature
        standard = ((drawn.x - drawn.params["mean"]) / scale).flatten()
        assert stats.kstest(standard.numpy(), "norm").pvalue > 1e-3


def test_the_gumbel_draw_and_the_multinomial_one_agree():
    logits = torch.tensor([1.5, -0.3, 0.4, -math.inf])
    model = make_model(ANY)
    with torch.no_grad():
        model.decoder.head.linear.weight.zero_()
        model.decoder.head.linear.bias.copy_(logits)
    ours = torch.bincount(model.generate(size=5_000, length=1, seed=0).x.flatten(), minlength=4)
    other = Categorical().sample({"logits": logits.expand(5_000, 1, 1, 4)}, torch.Generator().manual_seed(1))
    table = torch.stack([ours, torch.bincount(other.flatten(), minlength=4)])[:, :3]
    assert ours[3] == 0
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_codes_and_prime_together():
    model = rk.build(
        data=TEXT,
        encoder="gru(width=8)",
        latent="continuous(dim=3)",
        decoder="lstm(width=8)",
        objective="autoregressive",
    ).eval()
    codes = model.encode({"x": torch.randint(SYMBOLS, (3, LENGTH))})
    drawn = model.generate(codes, prime=torch.tensor([1]), seed=0)
    assert drawn.x.shape == (3, LENGTH, 1)
    assert drawn.x[:, 0, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"temperature": -1}, PartArgumentError, "temperature"),
        ({"temperature": "warm"}, PartArgumentError, "temperature"),
        ({"top_k": 0}, PartArgumentError, "top_k must be"),
        ({"top_k": 1.5}, PartArgumentError, "top_k must be"),
        ({"top_p": 0}, PartArgumentError, "top_p must be"),
        ({"top_p": 1.2}, PartArgumentError, "top_p must be"),
        ({"seed": 1, "generator": torch.Generator()}, PartArgumentError, "seed= and generator="),
        ({"length": 0}, PartArgumentError, "length must be"),
        ({"size": 0}, PartArgumentError, "size must be"),
        ({"prime": torch.tensor([0, 4])}, DataError, "symbols from 0 to 4, and the data has 0 to 3"),
        ({"prime": torch.tensor([-1])}, DataError, "symbols from -1"),
        ({"prime": torch.rand(2)}, DataError, "int64 symbols, not torch.float32"),
        ({"prime": torch.zeros(1, 2, 1).long()}, DataError, "beginning of tokens data"),
        ({"prime": "once"}, DataError, "not str"),
        ({"prime": torch.zeros(9).long()}, DataError, "prime= has 9 tokens"),
        ({"prime": torch.zeros(2, 1).long(), "size": 3}, DataError, "2 beginnings for 3 sequences"),
    ],
)
def test_invalid_options_raise(options, error, word):
    with pytest.raises(error, match=word):
        make_model(ANY).generate(**{"length": 9, **options})


def test_options_for_symbols_raise_for_real_values():
    model = make_model(FRAMES)
    with pytest.raises(PartArgumentError, match="use temperature"):
        model.generate(length=3, top_p=0.9)
    with pytest.raises(DataError, match="not finite"):
        model.generate(length=3, prime=torch.full((1, 2), math.nan))
    with pytest.raises(DataError, match="one time step has the shape"):
        model.generate(length=3, prime=torch.zeros(1, 3))
    with pytest.raises(BuildError, match="give the number of tokens"):
        model.generate()


def conditional_prior():
    """A model of digits by symbols, a prior of its symbols given the label, and both kinds of conditions."""
    data = rk.dataset("digits").split()[0]
    model = rk.build(
        data=data, encoder="conv(width=8)", latent="vq(codes=4, dim=4)", decoder="conv(width=8)", seed=0
    ).eval()
    codes = rk.data.CodesOf(model, data)
    label = rk.factor("mlp(width=16)", "continuous(dim=16)", input="label", pool=True)
    prior = rk.build(
        data=codes,
        factors={"label": label},
        decoder="transformer(width=16, depth=1, heads=2, causal=True)",
        output="x",
        objective="autoregressive",
        seed=0,
    )
    return model, prior, {"label": torch.tensor([1, 7, 1])}


def test_a_prior_is_conditioned_on_the_fields_that_its_factors_read():
    model, prior, like = conditional_prior()
    found = model.sample(3, torch.Generator().manual_seed(0), prior=prior, like=like)
    prior.eval()
    with torch.no_grad():
        drawn = prior.generate(prior.encode(like), length=4, generator=torch.Generator().manual_seed(0)).x[
            ..., 0
        ]
        z = model.latent("code").embed(drawn.long().unsqueeze(-1))
        expected = model.decode({"code": rk.Code(z=z, grid=(2, 2), length=4)}).x
    torch.testing.assert_close(found.x, expected)


def test_conditions_of_a_prior_are_checked():
    model, prior, like = conditional_prior()
    with pytest.raises(BuildError, match="conditioned on label: give a batch with these fields, like="):
        model.sample(3, prior=prior)
    with pytest.raises(PartArgumentError, match="like= holds 3 examples, and size is 2"):
        model.sample(2, prior=prior, like=like)
    with pytest.raises(PartArgumentError, match="this model has neither: omit it"):
        rk.build(data=rk.dataset("digits"), encoder="mlp", latent="gaussian", decoder="mlp").sample(
            3, like=like
        )
    free = rk.build(data=prior.signature, decoder="gru(width=8, causal=True)", objective="autoregressive")
    with pytest.raises(PartArgumentError, match="this one has no factors: omit it"):
        model.sample(3, prior=free, like=like)
