"""Decoders of sequences: causality, teachers, step by step, lengths, padding."""

import pytest
import torch
from torch.utils import _pytree as pytree

from reprkit.data.signature import Field, Signature
from reprkit.decoders.gru import GRUDecoder
from reprkit.decoders.lstm import LSTMDecoder
from reprkit.decoders.transformer import TransformerDecoder
from reprkit.errors import BuildError, PartArgumentError
from reprkit.types import Features

FIELDS = {
    "frames": Field(kind="sequence", shape=(None, 3), range=(-5, 5)),
    "text": Field(kind="tokens", shape=(None,), vocab=11),
    "rows": Field(kind="image", shape=(7, 4, 2)),
    "vector": Field(kind="vector", shape=(5,)),
}
CLASSES = [
    pytest.param(GRUDecoder, {"width": 6, "depth": 2}, id="gru"),
    pytest.param(LSTMDecoder, {"width": 6, "depth": 2}, id="lstm"),
    pytest.param(LSTMDecoder, {"width": 6, "depth": 2, "embedding": 4}, id="lstm-narrow"),
    pytest.param(GRUDecoder, {"width": 6, "depth": 1, "embedding": 9}, id="gru-wide"),
    pytest.param(TransformerDecoder, {"width": 16, "depth": 2, "heads": 2}, id="transformer"),
]


def make_decoder(cls, options, field, causal=True, tokens=None):
    torch.manual_seed(0)
    return cls(**options, causal=causal, data=Signature({"x": FIELDS[field]}), tokens=tokens).eval()


def teacher_for(field, size=3, length=7):
    if field == "text":
        return torch.randint(11, (size, length, 1))
    return torch.randn(size, *{"frames": (length, 3), "rows": (7, 8), "vector": (1, 5)}[field])


def code_for(decoder, kind, size=3, length=7):
    """No code, a pooled one, one a step, or one a step with padding."""
    if kind == "none":
        return None
    x = torch.randn(size, 1 if kind == "pooled" else length, decoder.in_dim)
    mask = torch.arange(length) < torch.tensor([[length], [1], [length - 1]]) if kind == "padded" else None
    return Features(x=x, mask=mask, grid=(x.shape[1],))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("cls", "options"), CLASSES)
@pytest.mark.parametrize("kind", ["none", "pooled", "each", "padded"])
def test_step_by_step_equals_the_teacher_forced_pass(cls, options, field, kind):
    decoder, teacher = make_decoder(cls, options, field), teacher_for(field)
    if field == "vector" and kind in ("each", "padded"):
        pytest.skip("a vector is one step, and the code has one a step")
    length = teacher.shape[1]
    features = code_for(decoder, kind, length=length)
    forced = decoder(features, teacher=teacher)
    state = decoder.start(features, size=3, length=length)
    assert all(isinstance(leaf, torch.Tensor | int | None) for leaf in pytree.tree_leaves(state))
    for position in range(length):
        decoded, state = decoder.step(teacher[:, position - 1 : position] if position else None, state)
        assert decoded.x.shape == (3, 1, teacher.shape[-1])
        for name, value in decoded.params.items():
            expected = forced.params[name]
            expected = expected[:, position : position + 1] if expected.shape[1] > 1 else expected
            valid = slice(None) if forced.mask is None else forced.mask[:, position]
            if expected.shape[0] == 1:
                valid = slice(None)
            torch.testing.assert_close(value[valid], expected[valid], atol=1e-5, rtol=1e-5)
    with pytest.raises(BuildError, match="all"):
        decoder.step(teacher[:, -1:], state)


@pytest.mark.parametrize("field", ["frames", "text", "rows"])
@pytest.mark.parametrize(("cls", "options"), CLASSES)
@pytest.mark.parametrize("padded", [False, True])
def test_a_step_depends_on_earlier_tokens_only(cls, options, field, padded):
    decoder, teacher = make_decoder(cls, options, field), teacher_for(field)
    features = code_for(decoder, "padded" if padded else "each")
    other = teacher.clone()
    other[:, 3:] = teacher_for(field)[:, 3:] if field != "text" else (teacher[:, 3:] + 1) % 11
    key = "logits" if field == "text" else "mean"
    one, two = decoder(features, teacher=teacher).params[key], decoder(features, teacher=other).params[key]
    torch.testing.assert_close(one[:, :4], two[:, :4], atol=1e-6, rtol=1e-6)
    assert (one[0, 4:6] - two[0, 4:6]).abs().flatten(1).amax(-1).min() > 1e-5


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("cls", "options"), CLASSES)
@pytest.mark.parametrize("teacher_forced", [True, False])
@pytest.mark.parametrize("coded", [True, False])
def test_every_parameter_gets_a_gradient_with_and_without_a_teacher(
    cls, options, field, teacher_forced, coded
):
    if not teacher_forced and not coded:
        pytest.skip("with neither code nor teacher only the bias of the head takes part")
    decoder, teacher = make_decoder(cls, options, field), teacher_for(field)
    features = code_for(decoder, "pooled") if coded else None
    decoded = decoder(features, teacher=teacher if teacher_forced else None, length=teacher.shape[1])
    decoded.nll(teacher).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize(("cls", "options"), CLASSES)
@pytest.mark.parametrize("causal", [True, False])
def test_padding_of_the_code_has_no_effect(cls, options, causal):
    decoder = make_decoder(cls, options, "frames", causal)
    x, lengths = torch.randn(3, 6, decoder.in_dim), torch.tensor([6, 3, 1])
    mask = torch.arange(6) < lengths[:, None]
    teacher = torch.randn(3, 6, 3) if causal else None
    padded = decoder(Features(x=x, mask=mask, grid=(6,)), teacher=teacher)
    assert torch.equal(padded.mask, mask)
    for row, length in enumerate(lengths):
        alone = decoder(
            Features(x=x[row : row + 1, :length], grid=(int(length),)),
            teacher=None if teacher is None else teacher[row : row + 1, :length],
            length=int(length),
        )
        torch.testing.assert_close(padded.x[row, :length], alone.x[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_lengths_come_from_the_teacher_then_the_call_then_the_data_then_the_code(cls, options):
    decoder = make_decoder(cls, options, "frames")
    features = code_for(decoder, "each", length=4)
    assert decoder(features, teacher=torch.randn(3, 9, 3), length=5).grid == (9,)
    assert decoder(features, length=5).grid == (5,)
    assert decoder(features).grid == (4,)
    assert make_decoder(cls, options, "rows")(code_for(decoder, "each", length=4)).grid == (7, 1)
    kept = Features(
        x=torch.randn(3, 2, 1).expand(-1, -1, decoder.in_dim), positions=torch.zeros(3, 2).long(), length=8
    )
    assert decoder(kept).grid == (8,)


@pytest.mark.parametrize(("cls", "options"), CLASSES)
@pytest.mark.parametrize("causal", [True, False])
def test_a_pooled_code_gives_steps_that_differ(cls, options, causal):
    decoder = make_decoder(cls, options, "frames", causal)
    x = decoder(code_for(decoder, "pooled"), length=5).x
    assert (x[:, 1:] - x[:, :-1]).abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_only_causal_decoders_provide_causal(cls, options):
    assert "causal" in make_decoder(cls, options, "text").provides
    other = make_decoder(cls, options, "text", causal=False)
    assert "causal" not in other.provides
    for call in (lambda: other.start(None, size=1, length=2), lambda: other.step(None, {})):
        with pytest.raises(PartArgumentError, match="not causal"):
            call()


@pytest.mark.parametrize(("cls", "options"), CLASSES)
def test_a_language_model_learns_a_cycle(cls, options):
    """Symbols that follow each other in a circle: after training the next is certain, step by step too."""
    torch.manual_seed(0)
    decoder = cls(**{**options, "width": 32}, causal=True, data=Signature({"x": FIELDS["text"]}))
    text = (torch.arange(11)[:, None] + torch.arange(12)) % 11
    teacher = text.unsqueeze(-1)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = decoder(None, teacher=teacher).nll(teacher)
        loss.mean().backward()
        optimizer.step()
    assert float(loss[:, 1:].detach().mean()) < 0.05
    assert abs(float(loss[:, 0].detach().mean()) - 2.398) < 0.1  # log 11: nothing tells the first
    decoder.eval()
    state, previous, drawn = decoder.start(None, size=1, length=12), torch.tensor([[[4]]]), [4]
    _, state = decoder.step(None, state)
    for _ in range(11):
        decoded, state = decoder.step(previous, state)
        previous = decoded.x
        drawn.append(previous.item())
    assert drawn == [(4 + position) % 11 for position in range(12)]
