import copy
import warnings

import pytest
import torch
from reprkit_vision.encoders import extraction
from reprkit_vision.encoders.inputs import group_norm
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import EncoderConformance


def images(height, width=None, channels=3, span=(0.0, 1.0)):
    return Signature({"x": Field(kind="image", shape=(height, width or height, channels), range=span)})


def encoder(reference, data=None):
    torch.manual_seed(0)
    return rk.create("encoder", f"reprkit-vision/{reference}", data=data or images(32))


def batch(size, height, width=None, channels=3):
    generator = torch.Generator().manual_seed(1)
    return {"x": torch.rand(size, height, width or height, channels, generator=generator)}


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
def test_a_resnets_map_is_as_large_as_it_says(reference, size, grid, width):
    made = encoder(reference, images(*size))
    features = made(batch(2, *size))
    assert features.grid == made.grid({}) == grid
    assert features.x.shape == (2, grid[0] * grid[1], width)
    assert made.out_dim == width


def test_a_resnet_is_torchvisions_but_for_norm_and_stem():
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


def test_no_batch_norm_in_what_is_trained_from_scratch():
    for reference in ("resnet(width=8)", "torchvision(name='resnet18')"):
        kinds = {type(each) for each in encoder(reference).modules()}
        assert nn.GroupNorm in kinds
        assert nn.BatchNorm2d not in kinds


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Torchvision's network with made-up weights and statistics, in its own file format."""
    torch.manual_seed(3)
    network = models.resnet18(num_classes=7)
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_()
            each.running_var.uniform_(0.5, 2.0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def last_map(network, x):
    """What goes into the pooling of a torchvision ResNet, images normalised as ImageNet's."""
    seen = []
    handle = network.avgpool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        network(((x - mean) / std).movedim(-1, 1))
    handle.remove()
    return seen[0].flatten(2).transpose(1, 2)


def test_weights_from_a_file_give_torchvisions_features(weights):
    network, path = weights
    x = batch(3, 64)["x"]
    for training in (True, False):
        made = encoder(f"torchvision(name='resnet18', weights={str(path)!r}, freeze='all')", images(64))
        found = made.train(training)({"x": x})
        assert torch.allclose(found.x, last_map(network, x), atol=1e-4)
        assert found.grid == (2, 2)
    save_file(network.state_dict(), path.with_suffix(".safetensors"))
    again = encoder(
        f"torchvision(name='resnet18', weights={str(path.with_suffix('.safetensors'))!r})", images(64)
    )
    assert torch.equal(again({"x": x}).x, made({"x": x}).x)


def test_grey_images_are_repeated_and_small_ones_resized(weights):
    network, path = weights
    x = torch.rand(2, 16, 16, 1) * 2 - 1
    reference = f"torchvision(name='resnet18', weights={str(path)!r}, resize=64)"
    found = encoder(reference, images(16, channels=1, span=(-1.0, 1.0)))({"x": x})
    large = nn.functional.interpolate((x.movedim(-1, 1) + 1) / 2, (64, 64), mode="bilinear", antialias=True)
    expected = last_map(network, large.movedim(1, -1).expand(-1, -1, -1, 3))
    assert torch.allclose(found.x, expected, atol=1e-4)


def trainable(made):
    return {name.partition(".")[0] for name, value in made.body.named_parameters() if value.requires_grad}


@pytest.mark.parametrize(
    ("freeze", "left"),
    [
        ("'none'", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
        ("2", {"layer2", "layer3", "layer4"}),
        ("5", set()),
        ("'all'", set()),
    ],
)
def test_what_is_frozen_gets_no_gradient_and_keeps_its_statistics(weights, freeze, left):
    made = encoder(f"torchvision(name='resnet18', weights={str(weights[1])!r}, freeze={freeze})").train()
    assert trainable(made) == left
    before = {name: value.clone() for name, value in made.named_buffers()}
    x = made(batch(4, 32)).x
    assert x.requires_grad == bool(left)
    if left:
        x.sum().backward()
        held = {n.partition(".")[0] for n, value in made.body.named_parameters() if value.grad is not None}
        assert held == left
    assert all(torch.equal(value, before[name]) for name, value in made.named_buffers())
    assert not any(each.training for each in made.body.modules())


def test_a_saved_model_needs_the_file_of_weights_no_more(weights, tmp_path):
    copy = tmp_path / "w.pth"
    copy.write_bytes(weights[1].read_bytes())
    reference = f"reprkit-vision/torchvision(name='resnet18', weights={str(copy)!r}, freeze='all')"
    model = rk.build(data=images(32), encoder=reference, objective="contrastive").eval()
    model.save(tmp_path / "model")
    copy.unlink()
    again = rk.load(tmp_path / "model")
    x = batch(2, 32)
    assert torch.equal(again.represent(x), model.represent(x))
    with pytest.raises(DataError, match="no file of weights"):
        rk.build(data=images(32), encoder=reference, objective="contrastive")


def test_a_copy_can_be_trained_on_its_own(weights):
    made = encoder(f"torchvision(name='resnet18', weights={str(weights[1])!r}, freeze=4)").train()
    x = batch(2, 32)
    before = made(x).x.detach().clone()
    other = copy.deepcopy(made).train()
    other(x).x.sum().backward()
    with torch.no_grad():
        for value in other.parameters():
            if value.grad is not None:
                value -= 0.1 * value.grad
    assert torch.equal(made(x).x, before)
    assert not torch.allclose(other(x).x, before)
    assert trainable(other) == {"layer4"}


def test_wrong_files_of_weights_are_refused(weights, tmp_path):
    _, path = weights
    with pytest.raises(DataError, match="does not hold the weights of resnet34: it lacks layer1.2"):
        encoder(f"torchvision(name='resnet34', weights={str(path)!r})")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save(models.resnet18(), tmp_path / "whole.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"0123")
    for name, said in (
        ("text.pth", "cannot be read as weights"),
        ("whole.pth", "only a state_dict of tensors"),
        ("list.pth", "holds no state_dict"),
        ("bad.safetensors", "cannot be read as weights"),
    ):
        with pytest.raises(DataError, match=said):
            encoder(f"torchvision(name='resnet18', weights={str(tmp_path / name)!r})")


@pytest.mark.slow
def test_a_vision_transformer_gives_its_patches(tmp_path):
    torch.manual_seed(0)
    network = models.vit_b_32(image_size=64, num_classes=2).eval()
    nn.init.normal_(network.encoder.pos_embedding)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    reference = f"torchvision(name='vit_b_32', weights={str(tmp_path / 'vit.pth')!r}, freeze=5)"
    made = encoder(reference, images(64))
    x = batch(2, 64)["x"]
    seen = []
    network.encoder.ln.register_forward_hook(lambda _, given, found: seen.append(found))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        network(((x - mean) / std).movedim(-1, 1))
        found = made({"x": x})
    assert found.grid == (2, 2)
    assert torch.allclose(found.x, seen[0][:, 1:], atol=1e-4)
    frozen = {name for name, value in made.body.named_parameters() if not value.requires_grad}
    assert {"class_token", "encoder.pos_embedding", "conv_proj.weight"} <= frozen
    assert "encoder.layers.encoder_layer_3.ln_1.weight" in frozen
    assert "encoder.layers.encoder_layer_4.ln_1.weight" not in frozen
    larger = encoder(reference, images(96))
    assert larger({"x": torch.rand(1, 96, 96, 3)}).grid == (3, 3)


FAMILIES = ["densenet121", "googlenet", "regnet_y_400mf", "vgg11_bn", "convnext_tiny", "swin_t", "alexnet"]


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)]
)
def test_networks_of_every_family(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = encoder(f"torchvision(name={name!r}, freeze=1)", images(64))
    features = made(batch(1, 64))
    assert features.x.shape == (1, made.count({}), made.out_dim)
    assert torch.isfinite(features.x).all()
    features.x.sum().backward()
    assert not [n for n, value in made.named_parameters() if value.requires_grad and value.grad is None]
    assert any(not value.requires_grad for value in made.parameters())


SMALLEST = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
    *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
    *("regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0"),
    *("squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_16", "wide_resnet50_2"),
]


def test_a_new_torchvision_brings_no_unknown_family():
    known = {name.split("_")[0].rstrip("0123456789") for name in SMALLEST} | {"wide"}
    assert {name.split("_")[0].rstrip("0123456789") for name in extraction.network_names()} <= known


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_every_network_can_be_cut(name):
    plan = extraction.plan(name)
    assert len(plan.stages) >= 3
    shape = extraction.shape_of(name, 224, 224)
    assert len(shape) == (3 if name.startswith("vit") else 4)


def test_what_cannot_be_is_refused():
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
    with pytest.raises(BuildError, match="promises no range"):
        encoder("resnet", images(32, span=None))
    with pytest.raises(PartArgumentError, match="depth is one of 10, 18"):
        encoder("resnet(depth=20)")
    with pytest.raises(PartArgumentError, match="std is a number for each of 3 channels, above 0"):
        encoder("torchvision(name='resnet18', std=(1.0, 0.0, 1.0))")
    with pytest.raises(BuildError, match="cannot read only some cells"):
        encoder("resnet(width=8)")(batch(2, 32), keep=torch.zeros(2, 1, dtype=torch.int64))


def test_it_learns_to_tell_two_kinds_of_images():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 16, 16, 1, generator=generator) * 0.5
    y = torch.arange(64) % 2
    x[y == 1, 4:12, 4:12] += 0.5
    made = encoder("resnet(width=8, depth=10, stages=2)", images(16, channels=1))
    head = nn.Linear(made.out_dim, 2)
    optimiser = torch.optim.Adam([*made.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(40):
        loss = nn.functional.cross_entropy(head(made({"x": x}).x.mean(1)), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
