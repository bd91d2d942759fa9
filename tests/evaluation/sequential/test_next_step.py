"""Next-step prediction along a long sequence, compared with an explicit loop over windows."""

import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError, DataError
from reprkit.evaluation.sequential.next_step import one_step_ahead

TEXT = rk.Signature({"x": rk.Field(kind="tokens", shape=(None,), vocab=5)})
FRAMES = rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 2))})


def built(data, decoder="lstm(width=8)"):
    return rk.build(data=data, decoder=decoder, objective="autoregressive", seed=0)


@pytest.mark.parametrize("data", [TEXT, FRAMES], ids=["tokens", "frames"])
@pytest.mark.parametrize("count", [1, 7, 8, 30])
@torch.no_grad()
def test_each_token_has_at_least_half_a_window_of_context(data, count):
    torch.manual_seed(0)
    x = torch.randint(5, (20 + count,)) if data is TEXT else torch.randn(20 + count, 2)
    model = built(data)
    model.decoder.eval()  # as a frozen part
    nats, points = one_step_ahead(model, x, 20, 8, batch=3)
    assert model.training
    assert not model.decoder.training
    assert points.shape == x[20:].shape
    model.eval()
    for place in range(count):
        begin = 20 + place // 4 * 4 - 4  # the window in whose second half the token lies
        piece = x[begin : 21 + place].view(1, 21 + place - begin, -1)
        decoded = model.decode(teacher=piece)
        torch.testing.assert_close(nats[place], decoded.nll(piece)[0, -1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            points[place], decoded.x[0, -1].view(points[place].shape), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"window": 7}, "even"),
        ({"window": 0}, "even"),
        ({"first": 3}, "half a window, 4"),
        ({"first": 30}, "one must follow"),
    ],
)
def test_invalid_windows_are_refused(options, word):
    with pytest.raises(DataError, match=word):
        one_step_ahead(built(TEXT), torch.zeros(30).long(), **{"first": 10, "window": 8, **options})


def test_a_decoder_that_is_not_causal_is_refused():
    data = rk.Signature({"x": rk.Field(kind="tokens", shape=(8,), vocab=5)})
    model = rk.build(data=data, encoder="gru(width=8)", decoder="gru(width=8, causal=False)")
    with pytest.raises(BuildError, match="causal"):
        one_step_ahead(model, torch.zeros(30).long(), 10, 8)
