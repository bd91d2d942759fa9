"""Critics, rewards and pre-training of latents of words: conformance, and values computed by hand."""

import pytest
import torch
from reprkit_text.objectives.critic import TokenCritic
from reprkit_text.objectives.noising import append_random_words, sample_windows, shuffle_phrases
from reprkit_text.objectives.self_critic import SelfCritic

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.testing import ObjectiveConformance
from reprkit.testing.sample_data import random_batch

WORDS = Signature(
    {
        "x": Field(kind="tokens", shape=(None,), vocab=9),
        "summary": Field(kind="tokens", shape=(None,), vocab=9),
    }
)
TEXT = "text(vocab=9, width=8, length=4)"


class OfTexts(ObjectiveConformance):
    data = WORDS
    encoder = "gru(width=16)"
    latent = TEXT
    decoder = "gru(width=16)"


class TestCritic(OfTexts):
    part = "reprkit-text/critic(real='summary', width=8, depth=2)"


class TestCriticOnVectors(ObjectiveConformance):
    part = "reprkit-text/critic(width=8, depth=1)"


class TestCriticOnEncodedTexts(OfTexts):
    part = "reprkit-text/critic(real='summary', width=8)"
    latent = "continuous(dim=4)"


class TestSelfCritic(OfTexts):
    part = "reprkit-text/self-critic(width=8)"
    skips = {
        "test_loss_can_be_minimized": "the value of a REINFORCE loss has no meaning; its gradient is tested below"
    }


class TestSelfCritical(OfTexts):
    part = "reprkit-text/self-critical"


class TestSummary(OfTexts):
    part = "reprkit-text/summary(low=2, high=4, language=0.5)"


class TestSummaryWithoutWords(OfTexts):
    part = "reprkit-text/summary(low=2, high=4)"
    latent = "vq(codes=6, dim=4)"
    steps = 80


def build_model(objective, latent=TEXT, decoder="gru(width=16)", data=WORDS):
    return rk.build(data=data, encoder="gru(width=16)", latent=latent, decoder=decoder, objective=objective)


def test_the_critic_loss_is_the_distance_plus_the_penalty():
    model = build_model("reconstruction + critic(real='summary', width=8, depth=1, penalty=7)").eval()
    batch = random_batch(WORDS, 4)
    loss = model(batch, "critic").terms["critic"]
    critic = next(each for each in model.objective.members if hasattr(each, "critic")).critic
    made, real = model.encode(batch), model.latent().code_of(batch["summary"], batch["summary_mask"])
    zs = [code.z.masked_fill(~code.mask.unsqueeze(-1), 0) for code in (made, real)]
    both = made.mask | real.mask
    middle = ((zs[0] + zs[1]) / 2).detach().requires_grad_()
    slope = torch.autograd.grad(critic(middle, both).sum(), middle)[0].flatten(1).norm(dim=1)
    expected = critic(made.z, made.mask) - critic(real.z, real.mask) + 7 * (slope - 1) ** 2
    torch.testing.assert_close(loss, expected.mean().detach(), atol=1e-5, rtol=1e-4)


def test_the_critic_score_ignores_masked_tokens():
    torch.manual_seed(0)
    critic, z = TokenCritic(3, 8, 2, 3), torch.randn(2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    other = torch.where(mask.unsqueeze(-1), z, torch.full_like(z, 9.0))
    torch.testing.assert_close(critic(z, mask), critic(other, mask))
    torch.testing.assert_close(critic(z, mask)[0], critic(z[:1, :3], None)[0], atol=1e-5, rtol=1e-5)


def test_the_critic_gradient_reaches_the_choice_of_words_but_not_their_embeddings():
    model = build_model("critic(real='summary', width=8)", decoder=None)
    model(random_batch(WORDS, 4)).total.backward()
    generator = model.latent().generator
    # The generator also reads the embeddings as inputs: only that path may reach them.
    generator.embedding.weight.grad = None
    code = model.encode(random_batch(WORDS, 4))
    z = model.objective._without_entry_gradient(model, "code", code)
    assert torch.equal(z, code.z)
    through = torch.autograd.grad(
        z.sum(), [generator.out.bias, generator.embedding.weight], retain_graph=True
    )
    direct = torch.autograd.grad(code.z.sum(), generator.embedding.weight)[0]
    counts = torch.bincount(code.indices.flatten(), minlength=9).float().unsqueeze(-1).expand(9, 8)
    assert through[0].abs().sum() > 0
    torch.testing.assert_close(direct - through[1], counts)


@pytest.mark.slow
def test_an_adversarial_autoencoder_moves_codes_to_the_prior():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 4, generator=generator)
    data = Signature({"x": Field(kind="vector", shape=(4,))})
    model = rk.build(
        data=data,
        encoder="mlp(widths=(32,))",
        latent="continuous(dim=2)",
        objective="critic(width=32, depth=1)",
    )
    with torch.no_grad():
        model.factors["code"].adapter.bias.fill_(3.0)  # codes start far from N(0, I)
    critic = list(model.objective.critic.parameters())
    slow = torch.optim.Adam(model.factors.parameters(), lr=3e-3, betas=(0.5, 0.9))
    fast = torch.optim.Adam(critic, lr=3e-3, betas=(0.5, 0.9))
    torch.manual_seed(0)
    for step in range(600):
        batch = {"x": x[torch.randint(512, (64,))]}
        turn, optimizer = ("main", slow) if step % 4 == 3 else ("critic", fast)
        model.zero_grad()
        model(batch, turn).total.backward()
        optimizer.step()
        model.update()
    with torch.no_grad():
        z = model.eval().encode({"x": x}).z[:, 0]
    assert z.mean(0).norm() < 1.0, z.mean(0)
    assert 0.3 < float(z.std(0).mean()) < 2.0, z.std(0)


def test_returns_are_discounted_and_centered_over_the_batch():
    score = torch.tensor([[0.5, 0.8, 0.6], [0.4, 0.2, 0.9]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    found = SelfCritic(discount=0.5)._returns(score, mask)
    one = [0.0 + 0.5 * (0.3 + 0.5 * -0.2), 0.3 + 0.5 * -0.2, -0.2]
    two = [-0.1 + 0.5 * -0.2, -0.2]
    means = [(one[0] + two[0]) / 2, (one[1] + two[1]) / 2, one[2]]
    expected = [[one[0] - means[0], one[1] - means[1], 0.0], [two[0] - means[0], two[1] - means[1], 0.0]]
    torch.testing.assert_close(found, torch.tensor(expected))
    from_scores = SelfCritic(discount=0.0, reward="score")._returns(score, mask)
    torch.testing.assert_close(from_scores[:, 0], torch.tensor([0.1, -0.1]))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["self-critic(width=16)", "critic(real='summary', width=32, depth=2)"])
def test_a_critic_makes_texts_like_human_ones(objective):
    """Human texts here are always `3 4`; documents do not determine them."""
    batch = random_batch(WORDS, 32, seed=3)
    batch["summary"] = torch.tensor([[3, 4]]).expand(32, -1).clone()
    batch["summary_mask"] = torch.ones(32, 2, dtype=torch.bool)
    model = build_model(objective, latent="text(vocab=9, width=16, length=4)", decoder=None)
    slow = torch.optim.Adam(model.factors.parameters(), lr=3e-3, betas=(0.5, 0.9))
    fast = torch.optim.Adam(model.objective.parameters(), lr=3e-3, betas=(0.5, 0.9))
    torch.manual_seed(0)

    def share():
        with torch.no_grad():
            words = model.encode(batch).indices[..., 0]
        return float(((words[:, 0] == 3) & (words[:, 1] == 4)).float().mean())

    before = sum(share() for _ in range(5)) / 5
    for step in range(480):
        turn, optimizer = ("main", slow) if step % 3 == 2 else ("critic", fast)
        model.zero_grad()
        model(batch, turn).total.backward()
        optimizer.step()
        model.update()
    after = sum(share() for _ in range(5)) / 5
    assert before < 0.1 < 0.5 < after, (before, after)


@pytest.mark.slow
def test_self_critical_learns_to_identify_documents():
    """Documents of one word each: the code must identify it with one written word, without a gradient through it."""
    data = Signature({"x": Field(kind="tokens", shape=(3,), vocab=5)})
    x = torch.arange(1, 5).repeat(8)[:, None].expand(-1, 3).contiguous()
    model = rk.build(
        data=data,
        encoder="gru(width=16)",
        latent="text(vocab=5, width=16, length=2, least=1, gradient='policy')",
        decoder="gru(width=16, causal=False)",
        objective="self-critical",
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(0)
    start = float(model({"x": x}).terms["reconstruction"])
    for _ in range(250):
        model.zero_grad()
        model({"x": x}).total.backward()
        optimizer.step()
        model.update()
    nats = float(model.eval()({"x": x}).terms["reconstruction"])
    # Three or four of the four documents are distinguished: two that share a word cost 3 log 2 nats each.
    assert nats < 1.5 < 4 < start, (start, nats)


def test_shuffling_keeps_phrases_and_all_words():
    torch.manual_seed(0)
    words = torch.arange(1, 13)[None].repeat(50, 1)
    mask = torch.arange(12)[None] < torch.arange(1, 51)[:, None].clamp(max=12)
    made, valid = shuffle_phrases((words, mask), boundary=0.33, drop=0.0)
    assert torch.equal(valid.sum(1), mask.sum(1))
    assert all(
        set(m[v].tolist()) == set(w[k].tolist()) for m, v, w, k in zip(made, valid, words, mask, strict=True)
    )
    full = made[12:]
    adjacent = (full[:, 1:] == full[:, :-1] + 1).float().mean()
    assert 0.5 < adjacent < 0.85, "about two of three neighbors stay together"
    assert torch.equal(shuffle_phrases((words, mask), boundary=0.0, drop=0.0)[0][20], words[20])
    dropped = shuffle_phrases((words, mask), boundary=0.3, drop=0.9)[1].sum(1)
    assert dropped.min() >= 1
    some = dropped[12:][dropped[12:] < 12]  # a text that would lose all words keeps them
    assert 1 <= some.float().mean() < 2.5


def test_random_words_are_added_in_proportion():
    torch.manual_seed(0)
    ones, twos = torch.ones(200, 4, dtype=torch.long), torch.full((200, 40), 2)
    words, mask = append_random_words((ones, ones.bool()), (twos, twos.bool()), added=0.5)
    assert words.shape == (200, 44)
    assert mask[:, :4].all()
    assert 1.7 < mask[:, 4:].sum(1).float().mean() < 2.3


def test_windows_start_near_the_front():
    torch.manual_seed(0)
    words = torch.arange(1, 21)[None].repeat(300, 1)
    mask = torch.ones_like(words, dtype=torch.bool)
    mask[0, 3:] = False
    taken, valid = sample_windows((words, mask), low=4, high=7, start=5, draw=True)
    assert taken[0, :3].tolist() == [1, 2, 3]
    assert valid[0].sum() == 3
    sizes, firsts = valid[1:].sum(1), taken[1:, 0]
    assert sorted(set(sizes.tolist())) == [4, 5, 6, 7]
    assert sorted(set(firsts.tolist())) == [1, 2, 3, 4, 5, 6]
    fixed, valid = sample_windows((words, mask), low=4, high=7, start=5, draw=False)
    assert fixed[1].tolist() == [1, 2, 3, 4, 5, 0, 0]


def test_unsuitable_models_are_rejected_with_advice():
    for objective, latent, says in [
        ("critic(real='sumary')", TEXT, "summary"),
        ("critic", "vq(codes=4, dim=4)", "real="),
        ("self-critic", "vq(codes=4, dim=4)", "needs a latent of words"),
        ("self-critical", "vq(codes=4, dim=4)", "a latent that provides log_prob, and reprkit/vq does not"),
        ("summary(summary='abstract')", TEXT, "abstract"),
        ("summary(lead=0, denoise=0, reconstructor=0)", TEXT, "weight above 0"),
        ("critic(factor='content')", TEXT, "content"),
    ]:
        decoder = "gru(width=16)" if objective.startswith(("summary(", "self-critical")) else None
        with pytest.raises(rk.ReprkitError, match=says):
            build_model(objective, latent=latent, decoder=decoder)
