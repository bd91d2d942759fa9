"""Recurrent networks run under autocast on every CPU."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from reprkit.layers import recurrent
from reprkit.layers.recurrent import run_recurrent


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_recurrent_network_runs_under_autocast(kind, dtype):
    net, x = kind(8, 8, batch_first=True), torch.randn(2, 3, 8)
    with torch.autocast("cpu", dtype=dtype):
        out = run_recurrent(net, x.to(dtype))[0]
        packed = run_recurrent(
            net, pack_padded_sequence(x.to(dtype), torch.tensor([3, 2]), batch_first=True)
        )[0]
    out.float().sum().backward()
    torch.testing.assert_close(out.float(), net(x)[0], atol=0.05, rtol=0.05)
    torch.testing.assert_close(packed.data.float()[0], out.float()[0, 0], atol=0.05, rtol=0.05)


def test_an_lstm_keeps_the_precision_of_its_weights_where_the_cpu_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(recurrent, "_BFLOAT16_LSTM", False)
    net, x = nn.LSTM(8, 8), torch.randn(3, 2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, state = run_recurrent(net, x)
        again = run_recurrent(net, x, state)[0]
    expected, after = net(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(again, net(x, after)[0])
