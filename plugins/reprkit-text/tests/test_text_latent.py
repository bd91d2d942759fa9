"""Latent text: conformance, likelihood, gradients, length, copying."""

import pytest
import torch
from reprkit_text.latents.text import Text
from reprkit_text.latents.words import cut_and_end, mask_until_end
from torch.nn import functional as F

import reprkit as rk
from reprkit.testing import LatentConformance


class TestText(LatentConformance):
    part = "reprkit-text/text(vocab=11, width=8, length=5)"


class TestTextByPolicy(LatentConformance):
    part = "reprkit-text/text(vocab=11, width=8, length=5, gradient='policy', least=2, never=(1, 2), goal=3.0, copy=False)"


class TestTextByTransformer(LatentConformance):
    part = "reprkit-text/text(vocab=11, width=8, length=5, kind='transformer', heads=2, depth=2, entropy=0.1, follow=True)"


def features(b=3, n=4, width=8, seed=0):
    x = torch.randn(b, n, width, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(n)[None] < torch.tensor([n, 1, max(1, n - 1)])[:b, None]
    return rk.Features(x=x, mask=mask)


def text(**arguments):
    torch.manual_seed(0)
    return Text(**{"vocab": 6, "width": 8, "length": 4, "least": 0, **arguments})


def test_the_mask_ends_with_the_first_end_word():
    words = torch.tensor([[3, 0, 4, 0], [1, 2, 3, 4], [0, 1, 1, 1]])
    assert mask_until_end(words, 0).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_given_texts_are_cut_and_ended_like_written_ones():
    words = torch.tensor([[5, 1, 2, 3, 4], [1, 2, 9, 9, 9], [2, 0, 3, 0, 0], [9, 1, 9, 2, 9]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0]]).bool()
    indices, valid = cut_and_end(words, mask, end=0, length=4)
    assert indices.tolist() == [[5, 1, 2, 3], [1, 2, 0, 0], [2, 0, 0, 0], [1, 2, 0, 0]]
    assert valid.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert cut_and_end(torch.tensor([[7]]), None, end=0, length=3)[0].tolist() == [[7, 0, 0]]


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_log_prob_equals_teacher_forcing_and_evaluation_is_greedy(kind):
    latent = text(kind=kind, depth=2).eval()
    with torch.no_grad():
        code = latent(features())
        log_p = latent.generator.all_steps(code.indices[..., 0], latent.memory_of(features()))
        forced = latent.log_prob_of(features(), code.indices[..., 0], code.mask)
    torch.testing.assert_close(forced, code.log_prob, atol=1e-5, rtol=1e-5)
    likeliest = log_p.argmax(-1)
    assert torch.equal(likeliest[code.mask], code.indices[..., 0][code.mask])
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, 4))


@pytest.mark.parametrize("copy", [True, False])
def test_probabilities_of_all_texts_add_up_to_one_and_samples_follow_them(copy):
    latent = text(vocab=3, length=2, copy=copy).train()
    one = rk.Features(x=features(1).x)
    texts = torch.tensor([[0, 0], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]])
    with torch.no_grad():
        many = rk.Features(x=one.x.expand(7, -1, -1))
        probs = latent.log_prob_of(many, texts).sum(1).exp()
        torch.testing.assert_close(probs.sum(), torch.tensor(1.0))
        torch.manual_seed(1)
        code = latent(rk.Features(x=one.x.expand(20_000, -1, -1)))
    drawn = code.indices[..., 0]
    share = (drawn[:, None] == texts[None]).all(-1).float().mean(0)
    torch.testing.assert_close(share, probs, atol=0.015, rtol=0)
    torch.testing.assert_close(
        code.log_prob.sum(1).exp(), probs[(drawn[:, None] == texts[None]).all(-1).long().argmax(1)]
    )


def test_the_policy_gradient_estimates_the_gradient_of_the_expected_reward():
    latent = text(vocab=3, length=2, gradient="policy").train()
    x = features(1, 2).x.clone()
    texts = torch.tensor([[0, 0], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]])
    reward = torch.tensor([0.0, 1.0, 3.0, -1.0, 2.0, 0.5, -2.0])
    exact = torch.autograd.grad(
        (latent.log_prob_of(rk.Features(x=x.expand(7, -1, -1)), texts).sum(1).exp() * reward).sum(),
        latent.generator.out.bias,
    )[0]
    torch.manual_seed(0)
    code = latent(rk.Features(x=x.expand(40_000, -1, -1)))
    which = (code.indices[:, None, :, 0] == texts[None]).all(-1).long().argmax(1)
    estimate = torch.autograd.grad(
        (code.log_prob.sum(1) * (reward[which] - reward.mean())).mean(), latent.generator.out.bias
    )[0]
    torch.testing.assert_close(estimate, exact, atol=0.02, rtol=0.05)
    assert not torch.autograd.grad(code.z.sum(), x.requires_grad_(), allow_unused=True, retain_graph=True)[0]


def test_straight_through_has_the_value_of_the_words_and_the_gradient_of_the_relaxed_choice():
    latent = text(temperature=0.7).train()
    x = features(2).x.clone().requires_grad_()
    torch.manual_seed(3)
    code = latent(rk.Features(x=x))
    assert torch.equal(code.z, latent.embed(code.indices))
    weight = torch.randn_like(code.z)
    gradient = torch.autograd.grad((code.z * weight).sum(), x)[0]
    torch.manual_seed(3)
    noise = torch.empty(2, 4, 6).exponential_().log().neg()
    log_p = latent.generator.all_steps(code.indices[..., 0], latent.memory_of(rk.Features(x=x)))
    soft = F.softmax((log_p + noise) / 0.7, -1) @ latent.generator.embedding.weight.detach()
    torch.testing.assert_close(gradient, torch.autograd.grad((soft * weight).sum(), x)[0])


def test_least_length_and_never_are_respected():
    for training in (True, False):
        latent = text(vocab=4, length=5, least=3, never=(2,)).train(training)
        latent.generator.out.bias.data[0] = 30  # would end at once
        code = latent(features(3))
        assert code.mask.sum(1).tolist() == [4, 4, 4], "three words and the end"
        assert not (code.indices == 2).any()
        assert torch.isfinite(code.log_prob).all()
        assert torch.isfinite(code.losses["entropy"])


@pytest.mark.slow
def test_a_goal_controls_the_number_of_words():
    words = {}
    for goal in (1.0, 4.0):
        latent = text(vocab=8, length=6, goal=goal)
        optimizer = torch.optim.Adam(latent.parameters(), lr=0.05)
        for _ in range(60):
            code = latent(features(3))
            optimizer.zero_grad()
            code.losses["length"].backward()
            optimizer.step()
        words[goal] = float(sum(latent(features(3)).metrics["words"] for _ in range(40)) / 40)
    assert abs(words[1.0] - 1) < 0.4, words
    assert abs(words[4.0] - 4) < 0.6, words


@pytest.mark.slow
def test_it_learns_to_copy_the_words_in_the_features():
    torch.manual_seed(0)
    latent = text(vocab=12, length=5, width=32)
    table = torch.randn(12, 32)
    optimizer = torch.optim.Adam(latent.parameters(), lr=0.01)

    def example(size):
        words = torch.randint(1, 12, (size, 3))
        place = torch.arange(3)[:, None].expand(3, 32) * 0.5
        return words, rk.Features(x=table[words] + place)

    for _ in range(250):
        words, features_ = example(32)
        loss = -latent.log_prob_of(features_, words).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    words, features_ = example(100)
    code = latent.eval()(features_)
    right = (code.indices[:, :3, 0] == words).all(1) & (code.mask.sum(1) == 4)
    assert right.float().mean() > 0.9, f"{right.float().mean():.2f} of the texts were copied correctly"


def test_without_features_it_is_a_language_model():
    latent = text(vocab=5, length=3).eval()
    words = torch.tensor([[1, 2, 0], [3, 0, 0]])
    nats = latent.log_prob_of(None, words, mask_until_end(words, 0))
    nothing = rk.Features(x=torch.randn(2, 4, 8), mask=torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(nats, latent.log_prob_of(nothing, words, mask_until_end(words, 0)))
    assert (nats[1, 2:] == 0).all()
    assert (nats[1, :2] < 0).all()


def test_bad_arguments_are_rejected_by_name():
    for arguments, word in [
        ({"end": 6}, "end"),
        ({"least": 5}, "least"),
        ({"never": (0,)}, "never"),
        ({"kind": "lstm"}, "kind"),
        ({"gradient": "none"}, "gradient"),
        ({"goal": 9.0}, "goal"),
        ({"temperature": 0.0}, "temperature"),
    ]:
        with pytest.raises(rk.ReprkitError, match=word):
            text(**arguments)
    with pytest.raises(rk.ReprkitError, match="indices"):
        text().embed(torch.tensor([[[6]]]))


@pytest.mark.parametrize(
    "latent", ["text(vocab=7, width=8, length=3)", "vq(codes=4, dim=8)", "continuous(dim=8)"]
)
@pytest.mark.parametrize("objective", ["reconstruction", "autoregressive"])
def test_it_is_interchangeable_with_other_latents(latent, objective, tmp_path):
    from reprkit.testing.sample_data import TOKENS, random_batch

    decoder = "gru(width=8)" if objective == "autoregressive" else "transformer(width=8, depth=1, heads=2)"
    model = rk.build(data=TOKENS, encoder="gru(width=8)", latent=latent, decoder=decoder, objective=objective)
    batch = random_batch(TOKENS, 4)
    losses = model(batch)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    model.eval()
    again = rk.load(model.save(tmp_path / "model")).eval()
    torch.testing.assert_close(again.encode(batch).z, model.encode(batch).z)
