import pytest
import torch
from torchvision.transforms.v2 import functional

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import CorruptionConformance

COLOR = Signature({"x": Field(kind="image", shape=(12, 9, 3), range=(0.0, 1.0))})
SIGNED = Signature({"x": Field(kind="image", shape=(8, 8, 3), range=(-1.0, 1.0))})


class TestCrop(CorruptionConformance):
    part = "reprkit-vision/crop"


class TestFlip(CorruptionConformance):
    part = "reprkit-vision/flip"


class TestColorJitter(CorruptionConformance):
    part = "reprkit-vision/colour-jitter"
    data = COLOR


class TestColorJitterOfGrayImages(CorruptionConformance):
    part = "reprkit-vision/colour-jitter"


class TestBlur(CorruptionConformance):
    part = "reprkit-vision/blur"
    data = COLOR


class TestGray(CorruptionConformance):
    part = "reprkit-vision/grey(p=0.5)"
    data = COLOR


class TestSimCLRViews(CorruptionConformance):
    part = "reprkit-vision/simclr-views"
    data = COLOR


def view(reference, data=None):
    return rk.create("corruption", f"reprkit-vision/{reference}", data=data)


def make_images(size=64, height=12, width=9, channels=3, seed=0):
    return torch.rand(size, height, width, channels, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def channels_first(image):
    """(b h w c) as torchvision's (b c h w)."""
    return image.movedim(-1, 1)


def test_crop_equals_torchvisions():
    crop, x = view("crop(scale=(0.1, 1.0), ratio=(0.5, 2.0))"), make_images()
    changed, hit = crop({"x": x}, seeded())
    u = torch.rand(len(x), 1 + crop.draws, generator=seeded())
    boxes = torch.stack(crop.boxes(u[:, 1:], 12, 9), 1).tolist()
    assert hit.all()
    for image, cropped, box in zip(channels_first(x), channels_first(changed["x"]), boxes, strict=True):
        expected = functional.resized_crop(image, *box, size=[12, 9], antialias=True)
        assert torch.allclose(cropped, expected, atol=1e-5)


def test_areas_and_ratios_of_crops_have_the_given_ranges():
    crop = view("crop(scale=(0.25, 0.5), ratio=(0.8, 1.25))")
    top, left, height, width = crop.boxes(torch.rand(4000, crop.draws, generator=seeded()), 100, 60)
    area, ratio = height * width / 6000, width / height
    assert 0.24 < area.min() < 0.26
    assert 0.48 < area.max() < 0.52
    assert abs(area.mean() - 0.375) < 0.01
    assert ratio.min() > 0.78
    assert ratio.max() < 1.28
    assert abs(ratio.log().mean()) < 0.02
    assert top.min() == left.min() == 0
    assert (top + height).max() == 100
    assert (left + width).max() == 60


def test_a_ratio_that_never_fits_gives_the_largest_center_crop():
    crop = view("crop(scale=(1.0, 1.0), ratio=(2.0, 2.0))")
    boxes = crop.boxes(torch.rand(3, crop.draws, generator=seeded()), 10, 10)
    assert [sides.tolist() for sides in boxes] == [[2] * 3, [0] * 3, [5] * 3, [10] * 3]


def test_a_crop_of_the_whole_image_changes_nothing():
    x = make_images()
    changed, _ = view("crop(scale=(1.0, 1.0), ratio=(0.75, 0.75))")({"x": x})
    assert torch.allclose(changed["x"], x, atol=1e-5)


def test_about_half_of_the_images_are_mirrored():
    x = make_images(400)
    changed, hit = view("flip")({"x": x}, seeded())
    assert 150 < hit[:, 0, 0, 0].sum() < 250
    assert torch.equal(changed["x"], torch.where(hit, x.flip(2), x))
    assert torch.equal(view("flip(p=1.0, vertical=True)")({"x": x})[0]["x"], x.flip(1))


def test_color_jitter_equals_torchvisions():
    jitter, x = view("colour-jitter(p=1.0)"), make_images()
    changed = channels_first(jitter({"x": x}, seeded())[0]["x"])
    u = torch.rand(len(x), 5, generator=seeded())[:, 1:]
    for image, jittered, (a, b, c, d) in zip(channels_first(x), changed, u.tolist(), strict=True):
        expected = functional.adjust_brightness(image, 0.2 + 1.6 * a)
        expected = functional.adjust_contrast(expected, 0.2 + 1.6 * b)
        expected = functional.adjust_saturation(expected, 0.2 + 1.6 * c)
        expected = functional.adjust_hue(expected, -0.2 + 0.4 * d)
        assert torch.allclose(jittered, expected, atol=1e-4)


def test_color_jitter_keeps_the_datas_range():
    x = make_images(32, 8, 8) * 2 - 1
    signed = view("colour-jitter(p=1.0)", SIGNED)({"x": x}, seeded())[0]["x"]
    unsigned = view("colour-jitter(p=1.0)")({"x": (x + 1) / 2}, seeded())[0]["x"]
    assert signed.min() >= -1
    assert signed.max() <= 1
    assert torch.allclose(signed, unsigned * 2 - 1, atol=1e-5)


def test_blur_equals_torchvisions():
    x = make_images(16, 20, 31)
    changed = channels_first(view("blur(sigma=(0.3, 3.0), kernel=5, p=1.0)")({"x": x}, seeded())[0]["x"])
    u = torch.rand(len(x), 2, generator=seeded())[:, 1].tolist()
    for image, blurred, draw in zip(channels_first(x), changed, u, strict=True):
        expected = functional.gaussian_blur(image, [5, 5], [0.3 + 2.7 * draw] * 2)
        assert torch.allclose(blurred, expected, atol=1e-5)


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (32, 3), (96, 9), (224, 23)])
def test_the_default_kernel_is_a_tenth_of_the_image(side, kernel):
    assert view("blur").side(side, side) == kernel


def test_gray_equals_torchvisions_and_white_stays_white():
    x = make_images(50)
    gray, hit = view("grey(p=1.0)")({"x": x})
    assert hit.all()
    expected = functional.rgb_to_grayscale(channels_first(x), 3)
    assert torch.allclose(channels_first(gray["x"]), expected, atol=2e-4)
    white = view("grey(p=1.0)")({"x": torch.ones(1, 4, 4, 3)})[0]["x"]
    assert torch.allclose(white, torch.ones(1, 4, 4, 3))


def test_simclr_views_are_the_five_augmentations_in_a_row():
    x = make_images(40, 20, 20)
    data = Signature({"x": Field(kind="image", shape=(20, 20, 3), range=(0.0, 1.0))})
    generator, chained = seeded(), {"x": x}
    jitter = "colour-jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)"
    for name in ("crop", "flip", jitter, "grey", "blur"):
        chained, _ = view(name, data)(chained, generator)
    changed, hit = view("simclr-views(strength=0.5)", data)({"x": x}, seeded())
    assert torch.equal(changed["x"], chained["x"])
    assert hit.all()
    crop_only = view("simclr-views(strength=0, flip=False, blur=False)", data)
    assert [type(step).__name__ for step in crop_only.steps] == ["Crop"]


def test_objectives_take_several_views():
    data = Signature({"x": Field(kind="image", shape=(12, 12, 3), range=(0.0, 1.0))})
    views = "('crop(scale=(0.3, 1.0))', 'flip', 'colour-jitter', 'grey', 'blur')"
    model = rk.build(data=data, encoder="mlp(widths=(8,))", objective=f"contrastive(views={views})")
    losses = model({"x": make_images(8, 12, 12)})
    losses.total.backward()
    assert torch.isfinite(losses.total)


def test_views_keep_the_range_and_reject_vectors():
    x = make_images(200, 16, 16)
    changed, _ = view("simclr-views")({"x": x}, seeded())
    assert changed["x"].min() >= 0
    assert changed["x"].max() <= 1
    vectors = Signature({"x": Field(kind="vector", shape=(5,))})
    for name in ("crop", "flip", "colour-jitter", "blur", "grey", "simclr-views"):
        with pytest.raises(BuildError, match="x is vector data"):
            view(name, vectors)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("crop(scale=(0.5, 0.1))", "ascending"),
        ("crop(scale=0.5)", "scale=0.5 must be a tuple"),
        ("crop(scale=(0.0, 1.0))", "a number from 1e-06 to 1"),
        ("flip(p=1.5)", "p=1.5 must be a number from 0 to 1"),
        ("colour-jitter(hue=0.7)", "hue=0.7 must be a number from 0 to 0.5"),
        ("blur(kernel=4)", "odd"),
        ("simclr-views(strength=-1)", "strength"),
    ],
)
def test_arguments_out_of_range_raise(reference, message):
    with pytest.raises(PartArgumentError, match=message):
        view(reference)


def test_images_that_a_view_cannot_read_raise():
    tiny = Signature({"x": Field(kind="image", shape=(2, 2, 3), range=(0.0, 1.0))})
    unknown = Signature({"x": Field(kind="image", shape=(8, 8, 3))})
    four = Signature({"x": Field(kind="image", shape=(8, 8, 4), range=(0.0, 1.0))})
    with pytest.raises(BuildError, match="too large for images of 2 x 2"):
        view("blur(kernel=5)", tiny)
    with pytest.raises(BuildError, match="the data has no range"):
        view("colour-jitter", unknown)
    with pytest.raises(BuildError, match="1 or 3 channels, and these have 4"):
        view("colour-jitter", four)
    with pytest.raises(BuildError, match="3 channels, and these have 1"):
        view("grey")({"x": torch.rand(2, 4, 4, 1)})


@pytest.mark.gpu
def test_views_are_computed_on_the_images_device():
    x = make_images(64, 32, 32)
    data = Signature({"x": Field(kind="image", shape=(32, 32, 3), range=(0.0, 1.0))})
    views = view("simclr-views", data)
    on_cpu, _ = views({"x": x}, seeded())
    on_gpu, hit = views({"x": x.cuda()}, seeded())  # random numbers of the same generator, on the CPU
    assert on_gpu["x"].is_cuda
    assert hit.is_cuda
    assert torch.allclose(on_gpu["x"].cpu(), on_cpu["x"], atol=1e-4)
    torch.manual_seed(0)
    first, _ = views({"x": x.cuda()})
    torch.manual_seed(0)
    second, _ = views({"x": x.cuda()})
    assert torch.equal(first["x"], second["x"])
