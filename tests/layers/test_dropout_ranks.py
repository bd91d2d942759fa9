"""Two processes with dropout train like one on the global batch."""

import pytest
import torch

from reprkit.data.signature import Field, Signature
from reprkit.encoders.transformer import TransformerEncoder
from reprkit.testing.pool import together
from reprkit.utils import collectives

pytestmark = pytest.mark.ranks


def gradients(rank: int) -> dict[str, torch.Tensor]:
    size = collectives.world_size()
    torch.manual_seed(0)
    data = Signature({"x": Field(kind="sequence", shape=(None, 3))})
    encoder = TransformerEncoder(width=8, depth=2, heads=2, dropout=0.3, data=data)
    x, mask = torch.randn(4, 5, 3), torch.arange(5) < torch.tensor([[5], [2], [4], [1]])
    rows = slice(rank * 4 // size, (rank + 1) * 4 // size)
    out = encoder({"x": x[rows], "x_mask": mask[rows]}).x
    (out.square() * mask[rows].unsqueeze(-1)).sum().div(len(out)).backward()
    return {name: collectives.sum_over_ranks(value.grad) / size for name, value in encoder.named_parameters()}


def test_dropout_noise_is_that_of_the_global_batch():
    whole = gradients(0)
    assert whole["blocks.blocks.0.feed.1.weight"].abs().max() > 0
    for part in together(2, gradients):
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, atol=1e-5, rtol=1e-4)
