import math

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import BuildError
from reprkit.models.factor import FactorSpec

ROWS = [[0, 0, 1], [0, 1, 1], [3, 0, 1], [0, 1, 1], [0, 0, 0]]


class Pair(rk.Objective):
    needs = frozenset({"encoder"})

    def forward(self, model, batch, turn="main"):
        return {"nothing": sum(code.z.sum() for code in model.encode(batch).values()) * 0}


def test_without_tables_the_rate_is_fixed(reader, table):
    data = table(ROWS)
    found = rk.evaluate(reader(data, reader.Given((4, 2, 2))), data, "rate", batch=2)["rate"]
    assert found["fixed_bits"] == found["table_bits"] == pytest.approx(4.0)
    assert found["table_bits_per_dim"] == pytest.approx(4 / 3)


def test_tables_and_actual_bytes(reader, table):
    data = table(ROWS)
    model = reader(data, reader.Given((4, 2, 2)))
    model.fit_frequencies(data)
    found = rk.evaluate(model, data, "rate", batch=2)["rate"]
    x = np.array(ROWS)
    # The tables hold counts plus one, of 2^16: compare with the shares before rounding.
    expected = 0.0
    for slot, entries in enumerate((4, 2, 2)):
        share = (np.bincount(x[:, slot], minlength=entries) + 1) / (len(x) + entries)
        expected -= np.log2(share[x[:, slot]]).mean()
    assert found["table_bits"] == pytest.approx(expected, rel=1e-3)
    batch = data.batch(range(len(data)))
    strings = model.compress(batch)
    assert found["string_bits"] == 8 * np.mean([len(string) for string in strings])
    payloads = model.latent().write(model.encode(batch)["code"])
    assert found["payload_bits"] == 8 * np.mean([len(payload) for payload in payloads])
    assert found["bits_per_dim"] == pytest.approx(found["payload_bits"] / 3)
    assert found["payload_bits"] < found["string_bits"]


def test_padding_costs_nothing(reader, table):
    mask = torch.tensor([[True, True, False], [True, False, False]])
    data = table(torch.tensor([[[0], [1], [3]], [[1], [2], [3]]]).float(), mask=mask)
    found = rk.evaluate(reader(data, reader.Given((4,))), data, "rate")["rate"]
    assert found["fixed_bits"] == pytest.approx(2 * 3 / 2)
    assert found["table_bits_per_dim"] == pytest.approx(2.0)


def test_factors_are_added_up_and_a_field_counts_once(reader, table):
    data = table([[0.0], [1.0], [1.0]])
    factors = {
        name: FactorSpec(encoder=reader.Reads(1), latent=reader.Given((size,)))
        for name, size in (("what", 2), ("how", 8))
    }
    found = rk.evaluate(rk.build(data=data, factors=factors, objective=Pair()), data, "rate")["rate"]
    assert found["fixed_bits"] == pytest.approx(math.log2(2 * 8))
    assert found["table_bits_per_dim"] == pytest.approx(4.0)


def test_a_continuous_latent_is_refused(reader, table):
    data = table(torch.rand(4, 2))
    with pytest.raises(BuildError, match="factor code is continuous, and only discrete codes have a rate"):
        rk.evaluate(reader(data), data, "rate")
