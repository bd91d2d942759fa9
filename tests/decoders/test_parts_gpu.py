"""Encoders and decoders on a CUDA device: as on the CPU, and under bf16 autocast."""

import pytest
import torch

from reprkit.data.signature import Field, Signature
from reprkit.decoders.conv import ConvDecoder
from reprkit.decoders.gru import GRUDecoder
from reprkit.decoders.lstm import LSTMDecoder
from reprkit.decoders.mlp import MLPDecoder
from reprkit.decoders.transformer import TransformerDecoder
from reprkit.decoders.vit import ViTDecoder
from reprkit.encoders.conv import ConvEncoder
from reprkit.encoders.gru import GRUEncoder
from reprkit.encoders.mlp import MLPEncoder
from reprkit.encoders.transformer import TransformerEncoder
from reprkit.encoders.vit import ViTEncoder
from reprkit.models.grid import to_tokens
from reprkit.types import Features, replace

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

IMAGES = Signature({"x": Field(kind="image", shape=(16, 16, 3), range=(0, 1))})
FRAMES = Signature({"x": Field(kind="sequence", shape=(None, 3))})
PAIRS = [
    (MLPEncoder, {}, MLPDecoder, {}, IMAGES),
    (ConvEncoder, {}, ConvDecoder, {}, IMAGES),
    (ViTEncoder, {}, ViTDecoder, {}, IMAGES),
    (GRUEncoder, {"causal": False}, GRUDecoder, {"causal": True}, FRAMES),
    (GRUEncoder, {"causal": True}, GRUDecoder, {"causal": False}, FRAMES),
    (TransformerEncoder, {"causal": False}, TransformerDecoder, {"causal": True}, FRAMES),
    (TransformerEncoder, {"causal": True}, TransformerDecoder, {"causal": False}, FRAMES),
]


def batch_of(data):
    if data is IMAGES:
        return {"x": torch.rand(4, 16, 16, 3)}
    return {"x": torch.randn(4, 9, 3), "x_mask": torch.arange(9) < torch.tensor([[9], [4], [1], [7]])}


def nats(encoder, adapter, decoder, batch, data):
    features = encoder(batch)
    features = replace(features, x=adapter(features.x))
    teacher = batch["x"] if "causal" in decoder.provides else None
    decoded = decoder(features, teacher=teacher)
    return decoded.nll(to_tokens(batch["x"], decoded.grid, data["x"].kind))


@pytest.mark.parametrize(("encoder_cls", "encoding", "decoder_cls", "decoding", "data"), PAIRS)
def test_the_gpu_equals_the_cpu(encoder_cls, encoding, decoder_cls, decoding, data):
    torch.manual_seed(0)
    batch = batch_of(data)
    encoder = encoder_cls(**encoding, data=data)
    tokens = encoder.count(batch) if data is IMAGES else None
    decoder = decoder_cls(**decoding, data=data, tokens=tokens)
    parts = torch.nn.ModuleList([encoder, torch.nn.Linear(encoder.out_dim, decoder.in_dim), decoder])
    valid = batch.get("x_mask")
    here = nats(*parts, batch, data)
    parts.cuda()
    there = {name: value.cuda() for name, value in batch.items()}
    found = nats(*parts, there, data)
    valid = slice(None) if valid is None else valid
    torch.testing.assert_close(found.cpu()[valid], here[valid], atol=1e-2, rtol=1e-2)
    with torch.autocast("cuda", torch.bfloat16):
        low = nats(*parts, there, data)
    low.sum().backward()
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.cpu()[valid], here[valid], atol=1.0, rtol=0.1)
    for name, parameter in parts.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("cls", [GRUDecoder, LSTMDecoder, TransformerDecoder])
@pytest.mark.parametrize("low", [False, True])
def test_step_by_step_equals_the_whole_pass(cls, low):
    torch.manual_seed(0)
    decoder = cls(causal=True, data=FRAMES).cuda().eval()
    teacher = torch.randn(3, 6, 3, device="cuda")
    features = Features(x=torch.randn(3, 1, decoder.in_dim, device="cuda"), grid=(1,))
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=low):
        whole = decoder(features, teacher=teacher).x
        state = decoder.start(features, size=3, length=6)
        for position in range(6):
            decoded, state = decoder.step(teacher[:, position - 1 : position] if position else None, state)
            close = {"atol": 0.1, "rtol": 0.1} if low else {"atol": 1e-3, "rtol": 1e-3}
            torch.testing.assert_close(decoded.x[:, 0], whole[:, position], **close)
