"""Non-finite values stop the run, are located, and are never saved; out-of-memory errors give advice."""

import json

import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.data.loading.order import Order
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_record
from reprkit.training.monitor import non_finite
from reprkit.training.resume import state
from reprkit.types import Losses


def make(digits, latent="continuous(dim=3)", **more):
    return rk.build(
        data=digits, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))", **more
    )


def train(model, data, *, spoil=None, at=4, **options):
    for step in rk.loop(model, data, **{"steps": 10, "batch": 32, "lr": 1e-3, **options}):
        losses = step.model(step.batch)
        if spoil is not None and step.index == at:
            losses = spoil(model, step, losses)
        step.backward(losses.total)
        step.update()


class Brittle(rk.Latent):
    """Divides by zero from its fifth training forward on."""

    def __init__(self) -> None:
        super().__init__(in_dim=3, out_dim=3, weights={"strain": 0.1})
        self.calls = 0

    def forward(self, features: rk.Features) -> rk.Code:
        self.calls += self.training
        x = features.x / (0.0 if self.calls > 4 else 1.0)
        return rk.Code.of(features, z=x, losses={"strain": x.square().mean()})


def test_a_non_finite_loss_names_step_term_and_part(digits, tmp_path):
    with pytest.raises(TrainingError) as raised:
        train(make(digits, Brittle()), digits, out=tmp_path, save_every=1e-9)
    said = str(raised.value)
    assert said.startswith("the loss is nan at step 4 (not finite: ")
    assert "strain" in said.splitlines()[0]
    assert "it originates in latent Brittle (factors.code.latent): its output is not finite" in said
    assert "try a lower lr=" in said
    assert f"the state of step 4 in {tmp_path / 'state'} is finite" in said
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert record["error"] == said
    assert record["failure"]["step"] == 4
    assert len(record["failure"]["indices"]) == 32, "which examples were in the batch"
    about, saved = state.load_newest(tmp_path / "state")
    assert about["step"] == 4
    assert all(t.isfinite().all() for t in saved["model"]["tensors"].values() if t.is_floating_point())


def test_a_non_finite_batch_is_named(digits):
    def spoil(model, step, losses):
        step.batch["x"][3, 2] = float("inf")
        return step.model(step.batch)

    example = int(Order(len(digits), 32).at(4)[3])
    with pytest.raises(
        TrainingError, match=f"the batch itself is not finite: field 'x' of example {example}\n"
    ):
        train(make(digits), digits, spoil=spoil)


def test_a_non_finite_objective_is_named(digits):
    def spoil(model, step, losses):
        model.objective.register_forward_hook(
            lambda *_: {"reconstruction": torch.tensor(float("inf"), requires_grad=True)}
        )
        return step.model(step.batch)

    with pytest.raises(
        TrainingError, match=r"the loss is inf .*\n.*it originates in objective reprkit/reconstruction"
    ):
        train(make(digits), digits, spoil=spoil)


def rooted(model, step, losses):
    """A loss that is finite, and its gradient is not: the slope of a square root at nought."""
    bad = next(model.decoder.parameters()).sum()
    return Losses(total=losses.total + torch.sqrt(bad - bad.detach()))


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_non_finite_gradient_stops_before_the_weights_change(digits, tmp_path, clip):
    model = make(digits)
    with pytest.raises(
        TrainingError,
        match=r"gradient's norm is (nan|inf) at step 4\n.*not finite in the gradient of decoder\.",
    ) as raised:
        train(model, digits, spoil=rooted, clip=clip, out=tmp_path, save_every=1e-9)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert [place.name for place in state.list_saved(tmp_path / "state")] == ["step-000000004"]
    failure = read_record(tmp_path)["failure"]
    assert failure["indices"] == Order(len(digits), 32).at(4).tolist()
    assert failure["origin"].startswith("not finite in the gradient of decoder.")
    first = ", ".join(map(str, failure["indices"][:8]))
    assert f"this step's batch held examples {first}, ... (all 32 in run.json, failure)" in str(raised.value)


def test_non_finite_weights_are_not_saved(digits, tmp_path):
    def spoil(model, step, losses):
        next(model.decoder.parameters()).data.fill_(float("nan"))
        return losses

    with pytest.raises(
        TrainingError, match=r"weights are no longer finite: decoder|gradient of an earlier step was not"
    ):
        train(make(digits), digits, spoil=spoil, out=tmp_path, save_every=1e-9)
    assert [place.name for place in state.list_saved(tmp_path / "state")] == ["step-000000004"]


def test_losses_on_a_device_are_checked_in_bundles(digits):
    """No step may wait for a GPU; the step at fault is found all the same."""
    monitor = non_finite.ValueMonitor(torch.device("cuda"))  # only the type counts: the tensors stay here
    good, bad = torch.tensor(1.0), torch.tensor(float("nan"))
    for step in range(non_finite.LOOK_EVERY - 1):
        losses = Losses(
            total=bad if step == 7 else good, terms={"kl": bad if step == 7 else good, "rest": good}
        )
        assert monitor.check(step, losses.total, losses) is None
    found = monitor.check(non_finite.LOOK_EVERY - 1, good, Losses(total=good))
    assert (found.step, found.terms) == (7, ("kl",))
    monitor.check(100, bad, None)
    assert monitor.check_pending().step == 100
    assert monitor.check_pending() is None


def test_out_of_memory_says_what_to_lower(digits, tmp_path):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    model = make(digits)
    model.decoder.register_forward_pre_hook(full)
    with pytest.raises(TrainingError) as raised:
        train(model, digits, accumulate=2)
    assert str(raised.value).splitlines() == [
        "out of memory at step 0 (batch=32, 16 examples at once, precision='fp32')",
        "  try accumulate=4 (the same step with half the memory), batch=16, precision='bf16', a smaller encoder or decoder",
        "  (CUDA out of memory. Tried to allocate 2.00 GiB)",
    ]
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_not_changed(digits):
    model = make(digits)
    model.decoder.register_forward_pre_hook(lambda *_: nn.Linear(2, 3)(torch.ones(4)))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied|size mismatch"):
        train(model, digits)


def test_the_log_is_valid_json_if_a_metric_is_not_finite(digits, tmp_path):
    model = make(digits)
    model.objective.register_forward_hook(
        lambda module, _, named: model.record(odd=torch.tensor(float("nan"))) or named
    )
    train(model, digits, out=tmp_path, log_every=5)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert json.loads(text.splitlines()[0])["metrics"]["odd"] is None


def test_the_model_of_a_diverged_run_is_refused_before_the_first_step(digits, tmp_path):
    model = make(digits)
    with pytest.raises(TrainingError, match="the loss is nan at step 4"):
        train(model, digits, spoil=_spoil_weights)
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    with pytest.raises(TrainingError) as raised:
        train(model, digits, out=tmp_path)
    first, second = str(raised.value).splitlines()
    assert (
        first
        == "1 of the model's weights and buffers are not finite before the first step: adapters.code.weight"
    )
    assert "build the model again, or load an earlier checkpoint" in second
    assert "lr=" not in str(raised.value)
    assert (tmp_path / "run.json").exists(), "the earlier run is not moved aside for it"


def _spoil_weights(model, step, losses):
    with torch.no_grad():
        model.adapters["code"].weight[0, 0] = float("nan")
    return step.model(step.batch)
