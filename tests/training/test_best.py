"""Saving the best model by a metric: with averaged weights, resumes, ranks and a full disk."""

import json
import os
import signal

import pytest
import torch
from loop_helpers import equal
from safetensors import SafetensorError

import reprkit as rk
from reprkit.errors import CheckpointError, PartArgumentError, TrainingError
from reprkit.runs.reader import read_record
from reprkit.runs.run import Run
from reprkit.testing.pool import together
from reprkit.training.best import Goal

VALUES = [5.0, 3.0, float("nan"), 4.0, 2.0, 2.0, 6.0, 1.0]  # one every second step


def make(digits):
    return rk.build(
        data=digits, encoder="mlp(widths=(8,))", latent="continuous(dim=3)", decoder="mlp(widths=(8,))"
    )


def train(digits, out, *, best="min reconstruction.error", values=VALUES, until=None, seen=None, **options):
    """Log made-up results every second step; ``seen`` takes the weights at each of them."""
    model = make(digits)
    for step in rk.loop(
        model,
        digits,
        **{"steps": 16, "batch": 32, "lr": 1e-2, "out": out, "log_every": 0, "best": best, **options},
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(2):
            with step.averaged():
                if seen is not None:
                    seen[step.index + 1] = {k: v.clone() for k, v in model.state_dict().items()}
                step.log(losses, {"reconstruction": {"error": values[step.index // 2], "n": 9}})
        if until == step.index + 1:
            os.kill(os.getpid(), signal.SIGTERM)
    return model


def test_the_best_model_is_saved(digits, tmp_path):
    seen = {}
    model = train(digits, tmp_path, seen=seen, values=[5.0, 3.0, float("nan"), 4.0, 2.0, 2.0, 6.0, 7.0])
    kept = rk.load(tmp_path / "best")
    assert equal(kept.state_dict(), seen[10])
    assert not equal(kept.state_dict(), model.state_dict())
    told = {"metric": "reconstruction.error", "end": "min", "value": 2.0, "step": 10}
    assert read_record(tmp_path)["stages"]["main"]["best"] == told, "the first of two that are equal"
    assert Run(tmp_path).best == told
    (state,) = (tmp_path / "state").glob("step-*/state.json")
    assert json.loads(state.read_text())["best"] == told


def test_averaged_weights_are_saved_inside_of_averaged(digits, tmp_path):
    seen = {}
    train(digits, tmp_path, seen=seen, ema=0.9, values=[5.0, 1.0] + [2.0] * 6)
    assert equal(rk.load(tmp_path / "best").state_dict(), seen[4])


@pytest.mark.parametrize("until", [3, 4, 9, 12])
def test_a_resumed_run_has_the_same_best_model(digits, tmp_path, until):
    train(digits, tmp_path / "whole", values=[5.0, 3.0, float("nan"), 4.0, 2.0, 2.0, 6.0, 7.0])
    values = [5.0, 3.0, float("nan"), 4.0, 2.0, 2.0, 6.0, 7.0]
    with pytest.raises(SystemExit):
        train(digits, tmp_path / "out", until=until, values=values)
    train(digits, tmp_path / "out", resume=True, values=values)
    assert Run(tmp_path / "out").best == Run(tmp_path / "whole").best
    one, other = (rk.load(tmp_path / name / "best") for name in ("out", "whole"))
    assert equal(one.state_dict(), other.state_dict())


def test_a_worse_value_after_a_resume_is_not_the_best(digits, tmp_path):
    with pytest.raises(SystemExit):
        train(digits, tmp_path, until=6, values=[1.0] * 8)
    kept = (tmp_path / "best" / "model.safetensors").read_bytes()
    train(digits, tmp_path, resume=True, values=[2.0] * 8)
    assert Run(tmp_path).best["step"] == 2
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == kept
    train(digits, tmp_path, overwrite=True, values=[2.0] * 8)
    assert Run(tmp_path).best["value"] == 2.0, "a new run starts anew"
    assert (tmp_path / ".replaced" / "best" / "model.safetensors").read_bytes() == kept


def test_stages_have_separate_best_models(digits, tmp_path):
    train(digits, tmp_path, stage="first", values=VALUES)
    train(digits, tmp_path, stage="second", best="max reconstruction.error", values=VALUES)
    stages = read_record(tmp_path)["stages"]
    assert {name: each["best"]["value"] for name, each in stages.items()} == {"first": 1.0, "second": 6.0}
    assert rk.load(tmp_path / "best" / "first") is not None
    assert rk.load(tmp_path / "best" / "second") is not None


def test_fit_supports_best(digits, tmp_path):
    options = {"steps": 8, "batch": 32, "lr": 1e-2, "out": tmp_path, "best": "reconstruction.error"}
    with pytest.raises(TrainingError, match="is a metric of evaluators: pass valid=, and evaluate_every="):
        rk.fit(make(digits), digits, **options)
    run = rk.fit(make(digits), digits, valid=digits.subset(range(40)), evaluate_every=2, **options)
    steps, errors = run.curves()["results.reconstruction.error"]
    assert run.best["value"] == min(errors)
    assert run.best["step"] == steps[errors.index(min(errors))]
    found = rk.evaluate(rk.load(tmp_path / "best"), digits.subset(range(40)), "reconstruction")
    assert found["reconstruction"]["error"] == pytest.approx(min(errors))
    assert "reconstruction.error" in (tmp_path / "report.html").read_text()


def test_losses_and_terms_are_metrics_of_best(digits, tmp_path):
    train(digits, tmp_path, best="loss", log_every=1)
    lines = Run(tmp_path).metrics
    assert Run(tmp_path).best["value"] == min(line["loss"] for line in lines)


def test_an_unknown_metric_is_refused_at_the_first_results(digits, tmp_path):
    with pytest.raises(
        TrainingError,
        match=r"no reconstruction\.eror\. Did you mean 'reconstruction\.error'\?\n  logged here: .*results\.reconstruction\.n",
    ):
        train(digits, tmp_path, best="min reconstruction.eror")
    assert not (tmp_path / "best").exists()


def test_a_metric_that_never_occurs_is_warned_of_at_the_end(digits, tmp_path):
    with pytest.warns(UserWarning, match=r"no line of metrics had accuracy, so no model was saved"):
        rk.fit(make(digits), digits, steps=2, batch=32, out=tmp_path, best="max accuracy")


def test_goal_parsing(digits):
    assert Goal.parse("min kl") == Goal("kl", "min")
    assert Goal.parse("knn.accuracy") == Goal("knn.accuracy", "max")
    assert Goal.parse("loss") == Goal("loss", "min")
    assert Goal("usage", "max").lookup({"metrics": {"usage": 0.5}}) == (True, 0.5)
    line = {"loss": 1.0, "terms": {"error": 2.0}, "results": {"error": 3.0}}
    assert Goal("error", "min").lookup(line) == (True, 3.0), "results before terms"
    assert Goal("terms.error", "min").lookup(line) == (True, 2.0)
    for wrong, said in (
        ("least loss", "must begin with min or max, not 'least'"),
        ("codebook.perplexity", "write 'min codebook.perplexity' or 'max codebook.perplexity'"),
        ("min a b", "best must be 'min NAME' or 'max NAME'"),
    ):
        with pytest.raises(PartArgumentError, match=said):
            rk.loop(None, digits, steps=1, out="x", best=wrong)
    with pytest.raises(TrainingError, match="needs out="):
        rk.loop(None, digits, steps=1, best="loss")


def test_a_full_disk_keeps_the_older_best_model(digits, tmp_path, monkeypatch):
    save = rk.Model.save

    def full(self, folder):
        if full.on:
            raise CheckpointError("no space left on the disk") from SafetensorError("No space left on device")
        return save(self, folder)

    full.on = False
    monkeypatch.setattr(rk.Model, "save", full)

    def run():
        for step in rk.loop(make(digits), digits, steps=6, batch=32, out=tmp_path, best="min own.value"):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            full.on = step.index in (2, 3)
            step.log(losses, {"own": {"value": 10.0 - step.index}})

    with pytest.warns(UserWarning, match="the best model so far was not saved: no space left on the disk"):
        run()
    assert Run(tmp_path).best == {"metric": "own.value", "end": "min", "value": 5.0, "step": 6}


def on_a_rank(rank, out):
    """Rank 1 has other values, as on another kind of machine: rank 0's count."""
    torch.set_num_threads(1)
    data = rk.dataset("digits").split()[0]
    train(data, out, values=[9.0 - rank * v for v in VALUES] if rank else VALUES, device="cpu")
    return rk.load(out / "best").state_dict()


@pytest.mark.slow
@pytest.mark.ranks
def test_ranks_agree_on_the_best(digits, tmp_path):
    one, other = together(2, on_a_rank, tmp_path)
    assert equal(one, other)
    assert Run(tmp_path).best == {"metric": "reconstruction.error", "end": "min", "value": 1.0, "step": 16}
