"""Online probes: their values are logged and drawn, and a run with them is a run without them."""

import copy
import random

import numpy as np
import pytest
import torch
from loop_helpers import equal, lines, make
from test_fsdp import train as train_on_rank

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.data.streams import Stream
from reprkit.errors import DataError, PartArgumentError, TrainingError, UnknownPartError
from reprkit.runs.run import Run
from reprkit.testing.pool import together
from reprkit.training.probes import Probes
from reprkit.training.resume import state

PROBES = ("knn(protocol='dino')", "linear-probe(max_iter=20)", "rankme")
OPTIONS = {"steps": 10, "batch": 32, "lr": 1e-2, "device": "cpu", "progress": False}


def generators():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def train(digits, out, latent, **options):
    """Train; return the random states in the last body, and the final weights."""
    model = make(digits, latent, encoder="mlp(widths=(16,), dropout=0.2)")
    for step in rk.loop(model, digits, out=out, **{**OPTIONS, **options}):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        found = generators()
    return found, copy.deepcopy(model.state_dict())


@pytest.mark.parametrize(
    "latent",
    [
        "gaussian(dim=3)",
        pytest.param("residual-vq(codes=8, layers=2, dim=3, dropout=0.5)", marks=pytest.mark.slow),
    ],
)
def test_probes_leave_no_trace(latent, digits, tmp_path):
    options = {"ema": 0.9, "log_every": 5}
    bare, bare_weights = train(digits, tmp_path / "bare", latent, **options)
    probed, weights = train(
        digits, tmp_path / "probed", latent, probes=("rankme", "knn"), probe_every=3, **options
    )
    assert probed == bare
    assert equal(weights, bare_weights)
    (one, saved), (other, also) = (
        state.load_newest(tmp_path / name / "state") for name in ("bare", "probed")
    )
    assert one["step"] == other["step"] == 10
    leaves = dict(_leaves(saved))
    assert leaves.keys() == dict(_leaves(also)).keys()
    for name, value in _leaves(also):
        same = torch.equal(value, leaves[name]) if isinstance(value, torch.Tensor) else value == leaves[name]
        assert same, name
    measured = {line["step"]: line["probes"] for line in lines(tmp_path / "probed") if "probes" in line}
    assert list(measured) == [0, 3, 6, 9, 10]
    assert len({each["rankme"]["rank"] for each in measured.values()}) == 5, "they are of the present weights"


def _leaves(tree, name=""):
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(value, f"{name}/{key}")
    else:
        yield name, tree


class Careless(rk.Evaluator):
    """Draws at random, trains a statistic, and leaves the model as it likes."""

    def forward(self, model, data, fit_on=None):
        torch.rand(3), random.random(), np.random.rand()
        model.train()
        model(data.batch(range(8)))
        return {"value": 1.0}


def test_what_a_careless_evaluator_changes_is_put_back(digits):
    model = make(digits, "vq(codes=8, dim=2)")
    model.train()
    model(digits.batch(range(32)))
    before, drawn = copy.deepcopy(model.state_dict()), generators()
    probes = Probes(("rankme",), digits, None, every=1, seed=0)
    probes.evaluators = [Careless()]
    assert list(probes.measure(model, torch.device("cpu")).values()) == [{"value": 1.0}]
    assert equal(model.state_dict(), before)
    assert generators() == drawn
    assert all(module.training for module in model.modules())


def test_what_is_measured_was_not_fitted_on_and_equals_evaluate(digits):
    probes = Probes(("knn(k=1)",), digits, None, every=1, seed=1)
    fitted, measured = (set(each.indices.tolist()) for each in (probes.fit_on, probes.data))
    assert not fitted & measured
    assert (len(fitted), len(measured)) == (958, 480)  # of 1,438: two thirds and a third
    model = make(digits)
    expected = rk.evaluate(model, probes.data, "knn(k=1)", fit_on=probes.fit_on, examples=0)
    assert probes.measure(model, torch.device("cpu")).to_json() == expected.to_json()
    assert expected["knn"]["accuracy"] < 1.0


def test_a_resumed_run_measures_as_an_uninterrupted_one(digits, tmp_path):
    options = {"probes": "rankme", "probe_every": 4, "log_every": 2}
    train(digits, tmp_path / "whole", "gaussian(dim=3)", **options)
    model = make(digits, encoder="mlp(widths=(16,), dropout=0.2)")
    for step in rk.loop(model, digits, out=tmp_path / "cut", save_every=1e-9, **OPTIONS, **options):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.index == 6:
            break
    train(digits, tmp_path / "cut", "gaussian(dim=3)", resume=True, **options)
    whole, cut = (
        [
            {k: v for k, v in line.items() if k not in ("seconds", "data_wait")}
            for line in lines(tmp_path / name)
        ]
        for name in ("whole", "cut")
    )
    assert cut == whole
    assert [line["step"] for line in whole if "probes" in line] == [0, 4, 8, 10]


@pytest.mark.slow
def test_fit_measures_on_its_validation_part_and_the_page_draws_it(digits, tmp_path):
    valid = digits.subset(range(1000, 1200))
    run = rk.fit(
        make(digits),
        digits,
        valid=valid,
        probes=PROBES,
        out=tmp_path,
        best="max probes.knn.accuracy",
        **OPTIONS,
    )
    last = lines(tmp_path)[-1]
    assert last["probes"]["knn"]["n"] == 200
    assert {"loss", "lr", "probes"} <= last.keys()
    assert 0.2 < last["probes"]["linear-probe"]["accuracy"] <= 1.0
    page = (tmp_path / "report.html").read_text()
    assert all(title in page for title in ("knn accuracy (probe)", "rankme rank (probe)"))
    best = run.best
    assert best["value"] == max(
        line["probes"]["knn"]["accuracy"] for line in lines(tmp_path) if "probes" in line
    )
    assert "probes" in Run(tmp_path).record["stages"]["main"]["waiting"]


class Rows(Stream):
    """Points of two classes, which can only be read in order."""

    def __init__(self, count):
        self.count = count
        fields = {"x": Field(kind="vector", shape=(2,)), "label": Field(kind="label", shape=(), vocab=2)}
        self.signature = Signature(fields)

    def read(self):
        yield from range(self.count)

    def decode(self, record):
        sign = 1.0 if record % 2 else -1.0
        return {"x": torch.tensor([sign, record / self.count]), "label": torch.tensor(record % 2)}


def test_a_stream_is_measured_on_its_first_examples(tmp_path):
    model = rk.build(data=Rows(400), encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
    for step in rk.loop(model, Rows(400), steps=3, batch=8, out=tmp_path, probes="knn", probe_data=Rows(50)):
        step.backward(step.model(step.batch).total)
        step.update()
    measured = [line["probes"]["knn"] for line in lines(tmp_path) if "probes" in line]
    assert [each["n"] for each in measured] == [50] * 4
    assert min(each["accuracy"] for each in measured) > 0.9


def probed(rank, strategy, probes):
    return train_on_rank(
        rank, "gaussian(dim=4)", strategy=strategy, probes=probes, probe_every=2 if probes else None
    )


@pytest.mark.ranks
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_probes_leave_no_trace_on_ranks(strategy):
    pairs = zip(
        *(together(2, probed, strategy, probes, timeout=250) for probes in ((), ("knn", "rankme"))),
        strict=True,
    )
    for (bare, ended, seen), (weights, also_ended, also_seen) in pairs:
        assert ended == also_ended == "end"
        assert seen == also_seen
        assert equal(bare, weights)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"probes": "knnn"}, UnknownPartError, "Did you mean 'knn'"),
        ({"probes": "knn(k=0)"}, PartArgumentError, "k=0"),
        ({"probe_every": 3}, TrainingError, "belong to probes="),
        ({"probes": "knn(label='species')"}, DataError, "no label field 'species'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(options, error, said, digits):
    model = make(digits)
    with pytest.raises(error, match=said):
        next(iter(rk.loop(model, digits, **OPTIONS, **options)))


def test_figures_of_the_last_measurement_are_on_every_page(digits, tmp_path):
    train(digits, tmp_path / "run", "gaussian(dim=3)", probes=("layers(limit=60)", "units"))
    pages = [rk.report(tmp_path / "run").read_text()]
    model = make(digits, "gaussian(dim=3)")
    pages.append(
        rk.report(tmp_path / "run", rk.evaluate(model, digits, "rankme", progress=False)).read_text()
    )
    for page in pages:
        assert "At the end of training" in page
        assert "Linear CKA between layers" in page
        assert "Accuracy of a linear probe on each layer" in page
    with_layers = rk.evaluate(model, digits, "layers(limit=60)", "units", fit_on=digits, progress=False)
    page = rk.report(tmp_path / "run", with_layers).read_text()
    assert "At the end of training" not in page, "the figures of the results are shown instead"


def test_figures_that_cannot_be_written_are_a_warning(digits, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reprkit.reporting.page_store.write_bytes", full)
    with pytest.warns(UserWarning, match="figures of the probes were not written: no space left"):
        train(digits, tmp_path / "run", "gaussian(dim=3)", probes=("layers(limit=60)",))


def test_a_new_run_replaces_the_figures_of_the_probes(digits, tmp_path):
    train(digits, tmp_path / "run", "gaussian(dim=3)", probes=("layers(limit=60)",))
    assert (tmp_path / "run" / "probes.npz").is_file()
    train(digits, tmp_path / "run", "gaussian(dim=3)", overwrite=True)
    assert not (tmp_path / "run" / "probes.npz").exists()
