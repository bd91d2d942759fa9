import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from vision_encoding import batch, encoder, images

import reprkit as rk
from reprkit.errors import DataError


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A torchvision network with random weights and statistics, and its file: (network, path)."""
    torch.manual_seed(3)
    network = models.resnet18(num_classes=7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def last_map(network, x):
    """The input of the pooling of a torchvision ResNet, with ImageNet's normalization."""
    seen = []
    handle = network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
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


def test_gray_images_are_repeated_and_small_ones_resized(weights):
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
def test_frozen_stages_get_no_gradient_and_keep_their_statistics(weights, freeze, left):
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


def test_a_saved_model_loads_without_the_file_of_weights(weights, tmp_path):
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


def test_a_copy_can_be_trained_separately(weights):
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


def test_wrong_files_of_weights_raise(weights, tmp_path):
    _, path = weights
    with pytest.raises(DataError, match="does not hold the weights of resnet34: it lacks layer1.2"):
        encoder(f"torchvision(name='resnet34', weights={str(path)!r})")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save(models.resnet18(), tmp_path / "whole.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"0123")
    for name, message in (
        ("text.pth", "cannot be read as weights"),
        ("whole.pth", "only a state_dict of tensors"),
        ("list.pth", "holds no state_dict"),
        ("bad.safetensors", "cannot be read as weights"),
    ):
        with pytest.raises(DataError, match=message):
            encoder(f"torchvision(name='resnet18', weights={str(tmp_path / name)!r})")


@pytest.mark.slow
def test_a_vision_transformer_returns_its_patch_tokens(tmp_path):
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
