import itertools

import pytest
import torch

import reprkit as rk
from reprkit import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.types import Features

WORDS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=3)})


@pytest.fixture
def decoded():
    torch.manual_seed(0)
    decoder = rk.create("decoder", "pcfg(nonterminals=3, preterminals=2, width=4, depth=1)", data=WORDS)
    return decoder.eval()(Features(x=3 * torch.randn(1, 1, 4)), length=3)


def every_sentence(count):
    return torch.tensor(list(itertools.product(range(3), repeat=count))).unsqueeze(-1)


def nats(decoded, target, weight=None):
    many = rk.types.replace(
        decoded, params={k: v.expand(len(target), *v.shape[1:]) for k, v in decoded.params.items()}
    )
    return many.nll(target, weight).sum(1)


def test_words_of_weight_zero_are_summed_over(decoded):
    target = torch.tensor([[[1], [0], [2], [0]]])
    weight = torch.tensor([[[1.0], [0.0], [1.0], [0.0]]])
    known = torch.cat([target[:, :3]] * 3)
    known[:, 1, 0] = torch.arange(3)
    expected = -(-nats(decoded, known)).logsumexp(0)
    torch.testing.assert_close(nats(decoded, target, weight)[0], expected)
    shares = decoded.nll(target, weight)[0]
    torch.testing.assert_close(shares, expected / 2 * weight[0, :, 0])
    assert decoded.nll(target, 0 * weight).sum().item() == 0
    with pytest.raises(PartArgumentError, match="whole sentences"):
        decoded.nll(target, 0.5 * weight)


def test_sentences_of_one_word_have_probabilities(decoded):
    torch.testing.assert_close((-nats(decoded, every_sentence(1))).exp().sum(), torch.ones(()))


def test_longer_sentences_have_less_than_all_probability(decoded):
    total = sum(float((-nats(decoded, every_sentence(count))).exp().sum()) for count in (2, 3, 4, 5))
    assert 0.001 < total < 1


@pytest.mark.parametrize("count", [1, 3])
def test_samples_follow_the_grammar(decoded, count):
    sentences = every_sentence(count)
    p = (-nats(decoded, sentences)).softmax(0)
    many = rk.types.replace(
        decoded, params={k: v.expand(20_000, *v.shape[1:]) for k, v in decoded.params.items()}, grid=(count,)
    )
    drawn = many.sample(torch.Generator().manual_seed(1)).squeeze(-1)
    number = (drawn * 3 ** torch.arange(count).flip(0)).sum(1)
    share = number.bincount(minlength=len(sentences)) / len(drawn)
    assert float((share - p).abs().max()) < 0.012  # three deviations of a share of one half
    assert float((share - p).abs().sum()) < 0.05


def test_a_model_samples_and_a_latent_is_swapped():
    data = rk.dataset("expressions(kind='arithmetic', size=60, longest=9)")
    for latent in ("gaussian(dim=2)", "vq(codes=4, dim=2)"):
        model = rk.build(
            data=data,
            factors={"code": rk.factor("gru(width=8)", latent=latent, pool=True)},
            decoder="pcfg(nonterminals=2, preterminals=3, width=8)",
        )
        model(data.batch(range(8))).total.backward()
        found = rk.evaluate(model, data, "reconstruction", "bracket-f1", examples=0)
        assert 0 <= found["bracket-f1"]["f1"] <= found["bracket-f1"]["f1_best"]
        assert "accuracy" not in found["reconstruction"]


def test_what_does_not_fit_is_refused():
    images = Signature({"x": Field(kind="image", shape=(4, 4, 1), range=(0.0, 1.0))})
    for name in ("pcfg", "stack"):
        with pytest.raises(BuildError, match="use it with tokens"):
            rk.create("decoder", name, data=images)
    with pytest.raises(BuildError, match="there is none"):
        rk.create("decoder", "pcfg", data=WORDS)(None)


def test_the_likelihood_rises_in_training():
    data = rk.dataset("sentences(size=20, longest=8)")
    factors = {"code": rk.factor("gru(width=8)", latent="gaussian(dim=2)", pool=True)}
    decoder = "pcfg(nonterminals=4, preterminals=6, width=16)"
    model = rk.build(data=data, factors=factors, decoder=decoder)
    batch, optimizer, losses = data.batch(range(20)), torch.optim.Adam(model.parameters(), 0.02), []
    for _ in range(20):
        losses.append(model(batch).total)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.85 * losses[0].item()
