"""Fast steps against torch's own GRU and LSTM, run over the whole sequence."""

import pytest
import torch
from torch import nn

from reprkit.data.signature import Field
from reprkit.kernels import recurrent_step
from reprkit.kernels.recurrent_step import advance, initial_state, pack_weights
from reprkit.layers.recurrent import Recurrent
from reprkit.layers.value_embedding import ValueEmbedding

SIZE, STEPS, WIDTH = 3, 9, 7
FIELDS = {
    "symbols": Field(kind="tokens", shape=(None,), vocab=5),
    "frames": Field(kind="sequence", shape=(None, 2), range=(-4, 2)),
}


def make_recurrent(cell, depth, field, size=SIZE):
    torch.manual_seed(0)
    net = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](WIDTH, WIDTH, num_layers=depth, batch_first=True).eval()
    values = ValueEmbedding(FIELDS[field], FIELDS[field].channels, WIDTH, feedback=True)
    shape = (size, STEPS, FIELDS[field].channels)
    return net, values, torch.randint(5, shape) if field == "symbols" else torch.randn(shape)


def run_steps(net, values, x, context=None, mask=None):
    pack, state, outs = pack_weights(net, values, len(x)), initial_state(net, len(x)), []
    assert pack["alone"] == (len(x) == 1)
    for t in range(STEPS):
        vector = None if context is None else context[:, t]
        valid = None if mask is None else mask[:, t]
        out, state = advance(pack, values, x[:, t - 1 : t] if t else None, state, vector, valid)
        outs.append(out)
    return torch.stack(outs, 1), state


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("coded", [True, False])
@pytest.mark.parametrize("size", [1, SIZE])
@torch.no_grad()
def test_steps_equal_torch(cell, depth, field, table, coded, size, monkeypatch):
    monkeypatch.setattr(recurrent_step, "TABLE", 4096 if table else 2)
    net, values, x = make_recurrent(cell, depth, field, size)
    before = [each.clone() for each in net.parameters()]
    assert ("table" in pack_weights(net, values)) == (table and field == "symbols")
    fed = torch.cat([values.start(size), values(x[:, :-1])], 1)
    context = torch.randn(size, STEPS, WIDTH) if coded else None
    expected, last = net(fed if context is None else fed + context)
    found, state = run_steps(net, values, x, context)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))  # packing copies
    final = [*last] if cell == "gru" else [*last[0], *last[1]]
    for mine, theirs in zip(state, final, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@torch.no_grad()
def test_invalid_tokens_leave_the_state(cell):
    net, values, x = make_recurrent(cell, 2, "symbols")
    mask = torch.ones(SIZE, STEPS, dtype=torch.bool)
    mask[1, 3:6] = False
    found, _ = run_steps(net, values, x, mask=mask)
    # The second example without its gap: the step after it reads the token before that step, after the state before the gap.
    fed = torch.cat([values.start(SIZE), values(x[:, :-1])], 1)[1:2, mask[1]]
    torch.testing.assert_close(found[1:2, mask[1]], net(fed)[0], atol=1e-6, rtol=1e-5)
    assert not found[1, 3:6].any()
    assert found[0].abs().sum(-1).min() > 0


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@torch.no_grad()
def test_an_invalid_token_of_a_single_sequence_leaves_the_state(cell):
    net, values, x = make_recurrent(cell, 2, "symbols", 1)
    mask = torch.ones(1, STEPS, dtype=torch.bool)
    mask[0, 3:6] = False
    found, _ = run_steps(net, values, x, mask=mask)
    fed = torch.cat([values.start(1), values(x[:, :-1])], 1)[:, mask[0]]
    torch.testing.assert_close(found[:, mask[0]], net(fed)[0], atol=1e-6, rtol=1e-5)
    assert not found[0, 3:6].any()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@torch.no_grad()
def test_a_state_can_be_continued_twice(cell):
    for size in (1, SIZE):
        net, values, x = make_recurrent(cell, 2, "symbols", size)
        pack, state = pack_weights(net, values, size), initial_state(net, size)
        _, state = advance(pack, values, None, state)
        once, after = advance(pack, values, x[:, :1], state)
        kept = [each.clone() for each in after]
        advance(pack, values, x[:, 1:2], after)
        again, _ = advance(pack, values, x[:, :1], state)
        assert torch.equal(once, again)
        assert all(torch.equal(*pair) for pair in zip(kept, after, strict=True))


@torch.no_grad()
def test_under_autocast_steps_keep_their_precision():
    net, values, x = make_recurrent("lstm", 2, "symbols")
    expected, _ = run_steps(net, values, x)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = run_steps(net, values, x)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("causal", [True, False])
def test_steps_with_gradients_equal_the_whole_pass(cell, causal):
    torch.manual_seed(0)
    net = Recurrent(6, depth=2, causal=causal, cell=cell)
    x = torch.randn(2, 5, 6)
    whole = net(x)
    assert whole.shape == (2, 5, net.out_dim)
    if not causal:
        return
    state, outs = net.state(2), []
    for t in range(5):
        out, state = net.step(x[:, t : t + 1], state)
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, 1), whole)
    valid = torch.tensor([True, False])
    out, after = net.step(x[:, :1], state, valid)
    assert not out[1].any()
    pairs = [(after, state)] if cell == "gru" else list(zip(after, state, strict=True))
    for new, old in pairs:
        assert torch.equal(new[:, 1], old[:, 1])
        assert not torch.equal(new[:, 0], old[:, 0])


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    net, plain = Recurrent(6, depth=1, causal=True, dropout=0.5), Recurrent(6, depth=1, causal=True)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(4, 50, 6)
    assert float((net(x) == 0).float().mean()) == pytest.approx(0.5, abs=0.06)
    assert torch.equal(net.eval()(x), plain(x))


def test_an_lstm_s_forget_gates_start_open():
    net = Recurrent(6, depth=2, causal=False, cell="lstm").net
    for _, _, one, other in net.all_weights:
        assert torch.equal((one + other)[6:12], torch.ones(6))
        assert not torch.equal((one + other)[:6], torch.ones(6))
