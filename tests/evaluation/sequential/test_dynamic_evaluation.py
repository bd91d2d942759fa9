"""Dynamic evaluation compared with the paper's update rule, segment by segment."""

import math

import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, DataError, TrainingError
from reprkit.evaluation.sequential.dynamic_evaluation import dynamic_evaluation
from reprkit.evaluation.sequential.next_step import one_step_ahead

TEXT = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=5)})
FRAMES = rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 2))})


def built(data=TEXT, decoder="lstm(width=8)"):
    return rk.build(data=data, decoder=decoder, objective="autoregressive", seed=0)


def gradients(model, x, begin, end, context):
    model.zero_grad()
    piece = x[begin - context : end].view(1, context + end - begin, -1)
    nats = model.decode(teacher=piece).nll(piece)[0, context:]
    nats.mean().backward()
    return nats.detach(), {name: each.grad.clone() for name, each in model.named_parameters()}


@pytest.mark.parametrize("data", [TEXT, FRAMES], ids=["tokens", "frames"])
@pytest.mark.parametrize("decay", [0.0, 0.02, 1.0])
def test_the_update_rule_matches_the_paper(data, decay):
    torch.manual_seed(0)
    x = torch.randint(5, (41,)) if data is TEXT else torch.randn(41, 2)
    model, first, segment, context, lr, epsilon = built(data), 24, 5, 6, 0.01, 1e-4
    found = dynamic_evaluation(
        model, x, first, segment=segment, context=context, lr=lr, decay=decay, epsilon=epsilon, pieces=100
    )
    assert model.training
    other = built(data).eval()  # the same weights
    start = {name: each.detach().clone() for name, each in other.named_parameters()}
    assert all(torch.equal(start[name], each) for name, each in model.named_parameters())
    seen = [
        gradients(other, x, begin, begin + segment, context)[1]
        for begin in range(context, first - segment + 1)
    ]
    root = {name: (sum(each[name] ** 2 for each in seen) / len(seen)).sqrt() for name in start}
    mean = torch.cat([each.flatten() for each in root.values()]).mean()
    expected = []
    for begin in range(first, 41, segment):
        nats, grads = gradients(other, x, begin, min(begin + segment, 41), context)
        expected.append(nats)
        with torch.no_grad():
            for name, weight in other.named_parameters():
                pull = torch.clamp(decay * root[name] / mean, max=1)
                weight += pull * (start[name] - weight) - lr * grads[name] / (root[name] + epsilon)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_the_first_segment_is_scored_by_the_trained_weights():
    torch.manual_seed(0)
    x, model = torch.randint(5, (40,)), built()
    found = dynamic_evaluation(model, x, 20, segment=4, context=4, lr=0.5)
    still, _ = one_step_ahead(model, x, 20, 8)
    torch.testing.assert_close(found[:4], still[:4], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[4:8], still[4:8])


def test_a_new_pattern_is_learned():
    torch.manual_seed(0)
    new = torch.tensor([0, 3, 1, 4]).repeat(100)
    x = torch.cat([torch.randint(5, (200,)), new])
    found = dynamic_evaluation(built(), x, 200, segment=8, context=8, lr=0.01, decay=0.0)
    assert found[:40].mean() > 0.9 * math.log(5)
    assert found[-40:].mean() < 0.5


@pytest.mark.parametrize("name", ["segment", "context", "pieces", "lr", "epsilon"])
def test_values_out_of_range_are_refused(name):
    with pytest.raises(DataError, match="decay from 0 to 1"):
        dynamic_evaluation(built(), torch.zeros(300).long(), 200, **{name: 0})


@pytest.mark.parametrize("first", [35, 300])
def test_too_few_tokens_before_or_after_are_refused(first):
    with pytest.raises(DataError, match="must precede it"):
        dynamic_evaluation(built(), torch.zeros(300).long(), first, segment=16, context=20)


def test_a_decoder_that_is_not_causal_is_refused():
    data = rk.Signature({"x": rk.Field(kind="tokens", shape=(8,), vocab=5)})
    model = rk.build(data=data, encoder="gru(width=8)", decoder="gru(width=8, causal=False)")
    with pytest.raises(BuildError, match="causal"):
        dynamic_evaluation(model, torch.zeros(300).long(), 200)


@pytest.mark.parametrize("decoder", ["lstm(width=8)", "transformer(width=8, heads=2, depth=1, causal=True)"])
def test_a_diverging_learning_rate_is_named(decoder):
    torch.manual_seed(0)
    with pytest.raises(TrainingError, match=r"lr=1e\+38 is too large .* try 1e\+37"):
        dynamic_evaluation(
            built(decoder=decoder), torch.randint(5, (300,)), 200, segment=8, context=8, lr=1e38, decay=0.0
        )
