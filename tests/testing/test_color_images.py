"""Parts that refuse gray images are checked on color images instead."""

import torch

from reprkit import Corruption, Spec, hookimpl
from reprkit.errors import BuildError
from reprkit.testing import kit


class RemoveRed(Corruption):
    """Set the red channel of images to zero."""

    def __init__(self, channels: int = 3, *, data=None):
        super().__init__()
        if data is not None and (data["x"].kind != "image" or data["x"].channels != channels):
            raise BuildError(f"it reads images of {channels} channels")

    def forward(self, batch, generator=None):
        hit = torch.zeros_like(batch["x"], dtype=torch.bool)
        hit[..., 0] = True
        return {**batch, "x": batch["x"].masked_fill(hit, 0.0)}, hit


class Plugin:
    @hookimpl
    def reprkit_corruptions(self):
        yield Spec("reds", f"{__name__}:RemoveRed")


def test_a_part_that_refuses_gray_images_is_checked_on_color_images(registry):
    registry.register(Plugin(), name="mine")
    found = kit.find_refusals("corruption", "mine/reds")
    assert found["colour"] == ""
    assert "3 channels" in found["images"]
    outcomes = list(kit.run_checks(kit.make_case("corruption", "mine/reds", "colour"), ranks=False))
    assert {each.status for each in outcomes if each.check == "it changes the data"} == {"passed"}


def test_a_part_that_accepts_gray_images_is_not_checked_on_color_images(registry):
    registry.register(Plugin(), name="mine")
    assert "colour" not in kit.find_refusals("corruption", "mine/reds(channels=1)")
    assert "colour" not in kit.find_refusals("corruption", "mask-spans")
    assert kit.find_refusals("corruption", "mask-patches", ("images", "colour")) == {"images": ""}
