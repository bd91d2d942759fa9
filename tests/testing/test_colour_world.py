import torch

from reprkit import Corruption, Spec, hookimpl
from reprkit.errors import BuildError
from reprkit.testing import kit


class Reds(Corruption):
    """Takes the red out of images of three channels."""

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
        yield Spec("reds", f"{__name__}:Reds")


def test_what_refuses_grey_images_is_tried_on_coloured_ones(registry):
    registry.register(Plugin(), name="mine")
    found = kit.find_refusals("corruption", "mine/reds")
    assert found["colour"] == ""
    assert "3 channels" in found["images"]
    outcomes = list(kit.run_checks(kit.make_case("corruption", "mine/reds", "colour"), ranks=False))
    assert {each.status for each in outcomes if each.check == "it changes the data"} == {"passed"}


def test_what_takes_grey_images_is_not_tried_on_coloured_ones_too(registry):
    registry.register(Plugin(), name="mine")
    assert "colour" not in kit.find_refusals("corruption", "mine/reds(channels=1)")
    assert "colour" not in kit.find_refusals("corruption", "mask-spans")
    assert kit.find_refusals("corruption", "mask-patches", ("images", "colour")) == {"images": ""}
