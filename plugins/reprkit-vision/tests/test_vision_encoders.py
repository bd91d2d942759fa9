import warnings

import pytest
import torch
from reprkit_vision.encoders import extraction
from reprkit_vision.encoders.inputs import group_norm
from torch import nn
from torchvision import models
from vision_encoding import batch, encoder, images

from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import EncoderConformance


class TestResNet(EncoderConformance):
    part = "reprkit-vision/resnet(width=8)"


class TestResNetOfBottlenecks(EncoderConformance):
    part = "reprkit-vision/resnet(depth=50, width=4, stages=2, stem='large')"
    data = images(24, 17)


class TestTorchvision(EncoderConformance):
    part = "reprkit-vision/torchvision(name='mnasnet0_5')"


class TestTorchvisionPartlyFrozen(EncoderConformance):
    part = "reprkit-vision/torchvision(name='squeezenet1_1', freeze=2)"
    data = images(40, 33)


@pytest.mark.parametrize(
    ("reference", "size", "grid", "width"),
    [
        ("resnet(width=8)", (32, 32), (4, 4), 64),
        ("resnet(width=8)", (28, 28), (4, 4), 64),
        ("resnet(width=8, stages=2)", (28, 30), (14, 15), 16),
        ("resnet(width=8, depth=10)", (96, 65), (3, 3), 64),
        ("resnet(width=8, depth=50, stem='large')", (64, 64), (2, 2), 256),
    ],
)
def test_a_resnet_has_the_declared_grid(reference, size, grid, width):
    resnet = encoder(reference, images(*size))
    features = resnet(batch(2, *size))
    assert features.grid == resnet.grid({}) == grid
    assert features.x.shape == (2, grid[0] * grid[1], width)
    assert resnet.out_dim == width


def test_a_resnet_equals_torchvisions_with_group_norm():
    ours = encoder("resnet(stem='large')", images(64))
    theirs = models.resnet18(norm_layer=group_norm)
    body = [theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool]
    body += [theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4]
    theirs = nn.Sequential(*body)
    values = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    x = batch(2, 64)["x"]
    expected = theirs(x.movedim(-1, 1) * 2 - 1).flatten(2).transpose(1, 2)
    assert torch.allclose(ours({"x": x}).x, expected, atol=1e-4)


def test_networks_trained_from_scratch_have_no_batch_norm():
    for reference in ("resnet(width=8)", "torchvision(name='resnet18')"):
        kinds = {type(module) for module in encoder(reference).modules()}
        assert nn.GroupNorm in kinds
        assert nn.BatchNorm2d not in kinds


FAMILIES = ["densenet121", "googlenet", "regnet_y_400mf", "vgg11_bn", "convnext_tiny", "swin_t", "alexnet"]


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)]
)
def test_networks_of_every_family(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = encoder(f"torchvision(name={name!r}, freeze=1)", images(64))
    features = network(batch(1, 64))
    assert features.x.shape == (1, network.count({}), network.out_dim)
    assert torch.isfinite(features.x).all()
    features.x.sum().backward()
    assert not [n for n, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert any(not value.requires_grad for value in network.parameters())


SMALLEST = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
    *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *("regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0"),
    *("squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_16", "wide_resnet50_2"),
]


def test_every_family_of_torchvision_is_covered():
    known = {name.split("_")[0].rstrip("0123456789") for name in SMALLEST} | {"wide"}
    assert {name.split("_")[0].rstrip("0123456789") for name in extraction.network_names()} <= known


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_every_network_can_be_cut(name):
    plan = extraction.plan_cut(name)
    assert len(plan.stages) >= 3
    shape = extraction.output_shape(name, 224, 224)
    assert len(shape) == (3 if name.startswith("vit") else 4)


def test_impossible_encoders_raise():
    with pytest.raises(PartArgumentError, match="Did you mean 'resnet18'"):
        encoder("torchvision(name='resnet_18')")
    with pytest.raises(PartArgumentError, match=r"number from 0 to 5, not 9\n.*conv1, bn1; 2 layer1"):
        encoder("torchvision(name='resnet18', freeze=9)")
    with pytest.raises(BuildError, match=r"alexnet cannot read images of 8 x 8: .*\n.*resize=224"):
        encoder("torchvision(name='alexnet')", images(8))
    with pytest.raises(BuildError, match="square images, and these are 32 x 64"):
        encoder("torchvision(name='vit_b_32')", images(32, 64))
    with pytest.raises(BuildError, match="3 channels, or of one, and these have 4"):
        encoder("torchvision(name='resnet18')", images(32, channels=4))
    with pytest.raises(BuildError, match="the data has no range"):
        encoder("resnet", images(32, span=None))
    with pytest.raises(PartArgumentError, match="depth=20 must be 10, 18"):
        encoder("resnet(depth=20)")
    with pytest.raises(PartArgumentError, match="std=.* must be a tuple .a number above 0"):
        encoder("torchvision(name='resnet18', std=(1.0, 0.0, 1.0))")
    with pytest.raises(BuildError, match="cannot read only some cells"):
        encoder("resnet(width=8)")(batch(2, 32), keep=torch.zeros(2, 1, dtype=torch.int64))


@pytest.mark.slow
def test_it_learns_to_classify_two_kinds_of_images():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 16, 16, 1, generator=generator) * 0.5
    y = torch.arange(64) % 2
    x[y == 1, 4:12, 4:12] += 0.5
    resnet = encoder("resnet(width=8, depth=10, stages=2)", images(16, channels=1))
    head = nn.Linear(resnet.out_dim, 2)
    optimizer = torch.optim.Adam([*resnet.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(head(resnet({"x": x}).x.mean(1)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
