"""The choice of the most likely symbols, top-k and top-p, and the refusal of what does not apply."""

import math

import pytest
import torch

from reprkit.errors import PartArgumentError
from reprkit.likelihoods.categorical import Categorical
from reprkit.likelihoods.gaussian import Gaussian
from reprkit.models.token_sampler import TokenSampler, filter_top_k_top_p


def test_top_k_and_top_p_keep_the_most_likely_in_proportion():
    logits = torch.tensor([[[[0.1, 0.4, 0.2, 0.3], [0.97, 0.01, 0.01, 0.01]]]]).log()

    def left(**options):
        return torch.softmax(filter_top_k_top_p(Categorical(), {"logits": logits}, **options)["logits"], -1)[
            0, 0
        ]

    torch.testing.assert_close(left(top_k=2), torch.tensor([[0, 4 / 7, 0, 3 / 7], [97 / 98, 1 / 98, 0, 0]]))
    torch.testing.assert_close(left(top_p=0.75), torch.tensor([[0, 4 / 9, 2 / 9, 3 / 9], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(left(top_p=1e-9), torch.tensor([[0, 1.0, 0, 0], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(left(top_k=3, top_p=0.5), torch.tensor([[0, 4 / 7, 0, 3 / 7], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(left(top_k=9, top_p=1.0), torch.softmax(logits, -1)[0, 0])
    assert filter_top_k_top_p(Gaussian(), {"mean": logits}) == {"mean": logits}


@pytest.mark.parametrize("options", [{"top_k": True}, {"top_k": -2}, {"top_p": "most"}, {"top_p": math.nan}])
def test_invalid_top_k_and_top_p_raise(options):
    with pytest.raises(PartArgumentError, match="must be"):
        filter_top_k_top_p(Categorical(), {"logits": torch.zeros(1, 1, 1, 3)}, **options)
    with pytest.raises(PartArgumentError, match="Gaussian"):
        filter_top_k_top_p(Gaussian(), {"mean": torch.zeros(1)}, top_k=2)


@pytest.mark.parametrize("temperature", [-1, math.nan, math.inf])
def test_invalid_temperatures_raise(temperature):
    with pytest.raises(PartArgumentError, match="temperature"):
        TokenSampler(temperature=temperature, device=torch.device("cpu"))
