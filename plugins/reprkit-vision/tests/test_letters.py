import pytest
import torch
from reprkit_vision.data.letters import FONTS, _draw_all

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.testing.kit import failed_checks, make_case


def test_letters_are_drawn_in_all_fonts_and_split_by_class():
    assert failed_checks(make_case("dataset", "reprkit-vision/letters(each=4)", "images")) == {}
    data = rk.dataset("letters(each=10)")
    assert len(data) == 260
    assert data.signature["label"].classes[25] == "Z"
    x = data.batch(range(260))["x"]
    ink = x.flatten(1).sum(1)
    assert float(ink.min()) > 15  # no letter is lost
    assert float(x[:, 0].max()) < 1  # and none is cut off at the top
    assert len(torch.unique(x, dim=0)) == 260
    assert torch.equal(x, rk.dataset("letters(each=10)").batch(range(260))["x"])
    assert not torch.equal(x, rk.dataset("letters(each=10, seed=1)").batch(range(260))["x"])
    train, valid, test = data.split(seed=2, valid=True)
    assert [
        part.batch(range(len(part)))["label"].bincount().unique().tolist() for part in (train, valid, test)
    ] == [[8], [1], [1]]
    with pytest.raises(PartArgumentError, match="each=1"):
        rk.dataset("letters(each=1)")
    with pytest.raises(DataError, match="images a letter"):
        rk.dataset("letters(each=2)").split(valid=True)


def test_fonts_differ_and_letters_have_mnist_size():
    drawn = _draw_all()[7]
    assert len({image.tobytes() for image in drawn}) == len(FONTS)
    for image in [image for letter in _draw_all() for image in letter]:
        left, top, right, bottom = image.getbbox()
        assert 77 <= max(right - left, bottom - top) <= 80  # edges may fade
        assert abs(left + right - 112) <= 2
        assert abs(top + bottom - 112) <= 2
