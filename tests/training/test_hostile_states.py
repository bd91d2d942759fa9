"""Saved states that were changed: refused before an optimizer reads memory by the shape of its weights."""

import copy

import pytest
import torch

from reprkit.training.resume import optimizer_check, snapshot


def trained(make):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 4)
    optimizer = make(model.parameters())
    for _ in range(2):
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


OPTIMIZERS = {
    "adam": lambda weights: torch.optim.Adam(weights),
    "adamw": lambda weights: torch.optim.AdamW(weights, amsgrad=True),
    "fused": lambda weights: torch.optim.AdamW(weights, fused=True),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "plain sgd": lambda weights: torch.optim.SGD(weights, lr=0.1),
    "adafactor": lambda weights: torch.optim.Adafactor(weights),
    "asgd": lambda weights: torch.optim.ASGD(weights),
    "rprop": lambda weights: torch.optim.Rprop(weights),
}


def check(optimizer, saved):
    groups = optimizer_check.check_groups(saved["param_groups"], optimizer.state_dict()["param_groups"])
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    optimizer_check.check_state(optimizer, saved["state"], weights)
    return groups


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_own_state_is_accepted(name):
    model, optimizer = trained(OPTIMIZERS[name])
    saved = optimizer.state_dict()
    fresh = OPTIMIZERS[name](model.parameters())
    assert check(fresh, copy.deepcopy(saved)) == saved["param_groups"]
    assert not fresh.state
    fresh.load_state_dict(saved)
    fresh.step()


CHANGES = {
    "a moment of another size": lambda saved: saved["state"][0].update(exp_avg=torch.zeros(1)),
    "a moment to be broadcast": lambda saved: saved["state"][0].update(exp_avg=torch.zeros(4, 1)),
    "an empty moment": lambda saved: saved["state"][0].update(exp_avg_sq=torch.zeros(0)),
    "a moment of integers": lambda saved: saved["state"][0].update(
        exp_avg=torch.zeros(4, 3, dtype=torch.int64)
    ),
    "a step of bytes": lambda saved: saved["state"][0].update(step=torch.zeros((), dtype=torch.uint8)),
    "a step that is a text": lambda saved: saved["state"][0].update(step="x"),
    "no moment": lambda saved: saved["state"][0].pop("exp_avg_sq"),
    "one more": lambda saved: saved["state"][0].update(x=torch.zeros(4, 3)),
    "no dict": lambda saved: saved["state"].update({0: None}),
    "another weight": lambda saved: saved["state"].update({7: {}}),
    "a name": lambda saved: saved["state"].update({"x": {}}),
    "no groups": lambda saved: saved.update(param_groups=[]),
    "no list of groups": lambda saved: saved.update(param_groups={}),
    "betas": lambda saved: saved["param_groups"][0].update(betas=(0.9, "x")),
    "one beta": lambda saved: saved["param_groups"][0].update(betas=(0.9,)),
    "a rate": lambda saved: saved["param_groups"][0].update(lr=float("nan")),
    "a flag": lambda saved: saved["param_groups"][0].update(amsgrad=True),
    "no weights": lambda saved: saved["param_groups"][0].update(params="x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_state_is_refused(change):
    model, optimizer = trained(OPTIMIZERS["fused"])
    saved = copy.deepcopy(optimizer.state_dict())
    CHANGES[change](saved)
    with pytest.raises(ValueError, match=r"it has|its|a group|the setting"):
        check(OPTIMIZERS["fused"](model.parameters()), saved)


def test_settings_of_the_machine_are_those_of_the_optimizer():
    model, optimizer = trained(OPTIMIZERS["fused"])
    (group,) = check(torch.optim.AdamW(model.parameters()), optimizer.state_dict())
    assert not group["fused"]
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(2**20, 2**20), torch.zeros(3).to_sparse(), torch.zeros(2, device="meta")]
)
def test_tensors_own_their_memory(tensor):
    snapshot.check_tensors({"a": [torch.zeros(3), {"b": torch.zeros(4, 5)[1:, :2].T}]})
    with pytest.raises(ValueError, match="a tensor in it"):
        snapshot.check_tensors({"a": [torch.zeros(3), {"b": tensor}]})
