"""The core's linear map: where it starts, and that it is not computed while it is frozen at the identity."""

import pytest
import torch

from reprkit.layers.adapter import Adapter


def test_it_starts_as_the_identity_or_keeps_the_scale():
    x = torch.randn(2000, 64)
    torch.testing.assert_close(Adapter(64, 64)(x), x)
    assert Adapter(64, 256)(x).std().item() == pytest.approx(1, abs=0.1)


def test_frozen_at_the_identity_it_returns_its_input():
    adapter, x = Adapter(3, 3), torch.randn(5, 3)
    assert adapter(x) is not x
    adapter.requires_grad_(False)
    assert adapter(x) is x


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_other_frozen_maps_are_computed(name):
    adapter, x = Adapter(3, 3).requires_grad_(False), torch.randn(5, 3)
    assert adapter(x) is x
    getattr(adapter, name).data.add_(1.0)  # which no counter of versions sees
    torch.testing.assert_close(adapter(x), x @ adapter.weight.T + adapter.bias)
    assert not torch.equal(adapter(x), x)
    wider = Adapter(3, 4).requires_grad_(False)
    assert wider(x).shape == (5, 4)


def test_a_map_without_a_bias_is_computed_unless_it_is_the_identity():
    adapter, x = Adapter(3, 3).requires_grad_(False), torch.randn(5, 3)
    adapter.register_parameter("bias", None)
    assert adapter(x) is x
    adapter.weight.mul_(2.0)
    torch.testing.assert_close(adapter(x), 2 * x)
