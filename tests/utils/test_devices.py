"""Devices that are not here are refused by name."""

import pytest
import torch

from reprkit.errors import PartArgumentError
from reprkit.utils.devices import find_device


def test_what_is_here_is_found():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:x", "is not a device known to torch"),
        pytest.param(
            "mps",
            "cannot be used here: .*; leave device= out",
            marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="it is here"),
        ),
        ("cuda:99", "CUDA device"),
    ],
)
def test_what_is_not_here_is_named(device, words):
    with pytest.raises(PartArgumentError, match=f"device='{device}'.*{words}"):
        find_device(device)
