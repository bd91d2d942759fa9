"""Copying: the position after the last copied word, and a pointer that names words before any training."""

import pytest
import torch
from reprkit_text.generator import Generator, Memory
from reprkit_text.pointer_start import start_pointer

import reprkit as rk
from reprkit.errors import PartArgumentError

FIELDS = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=50)})


def test_attention_is_drawn_to_the_position_after_the_last_word():
    torch.manual_seed(0)
    one = Generator(6, 8, kind="gru", depth=1, heads=2, copy=True, dropout=0.0, follow=True)
    other = Generator(6, 8, kind="gru", depth=1, heads=2, copy=True, dropout=0.0)
    other.load_state_dict({name: value for name, value in one.state_dict().items() if name != "follow"})
    x, words = torch.randn(2, 4, 8), torch.tensor([[1, 2, 2], [5, 0, 3]])
    memory = one.memory(x, None)
    hidden = torch.randn(2, 3, 8)
    with torch.no_grad():
        one.follow.fill_(3.0)
        before = torch.cat([torch.full((2, 1), 6), words[:, :-1]], 1)
        got = one._log_probs(hidden, memory, before)
        scores = one.query(hidden) @ memory.keys.mT / 8**0.5
        for b in range(2):
            for step in range(1, 3):
                for position in range(1, 4):
                    scores[b, step, position] += 3 * memory.copied[b, position - 1, words[b, step - 1]]
        attention = scores.softmax(-1)
        both = torch.cat([hidden, attention @ x], -1)
        own = one.out(one.mix(both).tanh()).softmax(-1)
        gate = one.gate(both).sigmoid()
        torch.testing.assert_close(got.exp(), gate * own + (1 - gate) * (attention @ memory.copied))
        one.follow.fill_(0.0)
        torch.testing.assert_close(one.all_steps(words, memory), other.all_steps(words, memory))
    assert isinstance(memory, Memory)
    with pytest.raises(PartArgumentError, match="copy"):
        rk.create("latent", "reprkit-text/text(vocab=6, width=8, copy=False, follow=True)")


@pytest.mark.parametrize("encoder", ["transformer(width=64, depth=2, heads=4)", "gru(width=64)"])
def test_a_started_pointer_names_the_words_of_new_texts(encoder):
    latent = "reprkit-text/text(vocab=50, width=64, length=4)"
    model = rk.build(data=FIELDS, encoder=encoder, latent=latent, decoder="gru(width=8)", seed=0)
    x = torch.randint(50, (40, 20), generator=torch.Generator().manual_seed(7))

    def accuracy():
        latent = model.latent()
        with torch.no_grad():
            copied = latent.memory_of(model.factors["code"].features({"x": x})).copied
        return float((copied.argmax(-1) == x).float().mean())

    assert accuracy() < 0.2
    start_pointer(model)
    assert accuracy() > 0.95
    weights = model.latent().generator.spoken.weight.clone()
    start_pointer(model)
    assert torch.equal(weights, model.latent().generator.spoken.weight), "the same texts each time"


@pytest.mark.parametrize("latent", ["continuous(dim=8)", "reprkit-text/text(vocab=50, width=64, copy=False)"])
def test_a_latent_without_a_pointer_is_left_as_it_is(latent):
    model = rk.build(data=FIELDS, encoder="gru(width=64)", latent=latent, decoder="gru(width=8)", seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start_pointer(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
