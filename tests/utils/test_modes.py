import pytest
from torch import nn

from reprkit.utils.modes import eval_mode


def test_modes_are_restored_also_after_an_error():
    one, two = nn.Sequential(nn.Dropout(), nn.Linear(1, 1)), nn.Dropout()
    one[0].eval()
    before = [each.training for each in (*one.modules(), two)]
    assert before == [True, False, True, True]

    def fail():
        with eval_mode(one, two):
            assert not any(each.training for each in (*one.modules(), two))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [each.training for each in (*one.modules(), two)] == before
