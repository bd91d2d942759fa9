import pytest
import torch

from reprkit.corruptions.mask_spans import MaskSpans
from reprkit.data import Field, Signature
from reprkit.errors import BuildError

TOKENS = Signature({"x": Field(kind="tokens", shape=(None,), vocab=5)})


@pytest.mark.parametrize("length", [1, 3, 10])
@pytest.mark.parametrize("ratio", [0.15, 0.5])
def test_every_step_is_hidden_with_the_same_probability(ratio, length):
    x = torch.ones(20_000, 12, 2)
    made, hit = MaskSpans(ratio, length=length, value=-1.0)({"x": x}, torch.Generator().manual_seed(0))
    assert torch.equal(hit[..., 0], hit[..., 1])  # a step is hidden in all channels
    share = hit[..., 0].float().mean(0)
    assert ((share - ratio).abs() < 4 * (ratio * (1 - ratio) / len(x)) ** 0.5).all()
    assert (made["x"][hit] == -1).all()


def test_against_a_loop_over_spans():
    steps, length = 15, 4
    corruption = MaskSpans(0.4, length=length)
    _, hit = corruption({"x": torch.ones(7, steps, 1)}, torch.Generator().manual_seed(3))
    drawn = torch.rand(7, steps + length - 1, generator=torch.Generator().manual_seed(3))
    expected = torch.zeros(7, steps, dtype=torch.bool)
    for row in range(7):
        for place in range(steps + length - 1):
            if drawn[row, place] < 1 - 0.6 ** (1 / 4):
                first = place - (length - 1)
                expected[row, max(first, 0) : first + length] = True
    assert torch.equal(hit[..., 0], expected)


def test_hidden_runs_are_at_least_as_long_as_a_span():
    _, hit = MaskSpans(0.2, length=4, data=TOKENS)(
        {"x": torch.zeros(500, 40, dtype=torch.int64)}, torch.Generator().manual_seed(0)
    )
    runs = []
    for row in hit.tolist():
        length = 0
        for place, hidden in enumerate(row):
            length = length + 1 if hidden else 0
            if hidden and place + 1 < 40 and not row[place + 1] and place + 1 > length:  # touches neither end
                runs.append(length)
    assert len(runs) > 100
    assert min(runs) == 4


def test_symbols_become_the_mask_symbol_and_padding_does_not():
    x = torch.randint(5, (50, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(20) < torch.randint(1, 21, (50, 1), generator=torch.Generator().manual_seed(1))
    made, hit = MaskSpans(0.9, length=3, data=TOKENS)(
        {"x": x, "x_mask": mask}, torch.Generator().manual_seed(2)
    )
    assert (made["x"][hit] == 5).all()
    assert not hit[~mask].any()
    assert hit[mask].float().mean() == pytest.approx(0.9, abs=0.08)


def test_extreme_ratios_and_shapes():
    x = torch.ones(3, 5, 2)
    assert MaskSpans(1.0)({"x": x})[1].all()
    assert not MaskSpans(0.0)({"x": x})[1].any()
    with pytest.raises(BuildError, match=r"frames \(b t c\)"):
        MaskSpans()({"x": torch.ones(3, 5)})
