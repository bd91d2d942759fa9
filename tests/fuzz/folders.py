"""Small real folders to change, and what is called on a changed one."""

import contextlib
import io
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import mutations
import torch

import reprkit as rk
from reprkit.commands import main
from reprkit.reporting.server import RunPages
from reprkit.runs.filenames import FIGURES, MANIFEST, METRICS, RECORD, RESULTS, WEIGHTS

_OLD = Path(__file__).parents[1] / "checkpoints" / "fixtures" / "a4c3b9a"
OLD_MODELS, OLD_RUN = _OLD / "models", _OLD / "runs" / "finished" / "run"
STEPS = 2


def build(data):
    """Build the model of the small run: parts inside parts, a codebook, and statistics that training changes."""
    return rk.build(
        data=data,
        encoder="mlp(widths=(8,))",
        latent="vq(codes=8, dim=4)",
        decoder="mlp(widths=(8,))",
        objective=rk.create("objective", "denoising", corruption=rk.create("corruption", "gaussian-noise")),
    )


def train(model, data, out, *, resume=False, steps=STEPS):
    """Train a few steps by the loop."""
    options = {"steps": steps, "batch": 8, "progress": False, "device": "cpu", "best": "loss"}
    for step in rk.loop(model, data, out=out, resume=resume, save_every=None, **options):
        output = step.model(step.batch)
        step.backward(output.total)
        step.update()


def digits():
    """Return forty digits, the data of the small run."""
    return rk.dataset("digits").subset(range(40))


def make_run(out):
    """Write a run with a model, a best model, a state, metrics, results and a page; return it."""
    torch.manual_seed(0)
    data = digits()
    model = build(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(model, data, out)
        results = rk.evaluate(model, data, "reconstruction", "codebook", fit_on=data, examples=2)
        model.save(out / "model")
        rk.report(out, results, model=model, data=data)
    return out


def warm_up(run, copy):
    """Call everything once on an unchanged copy, so that the forked processes import nothing."""
    shutil.copytree(run, copy)
    for called in (load, INSPECT, REPORT, RUNS, COMPARE, serve, PROBE, FINETUNE, resume):
        silent = contextlib.redirect_stdout(io.StringIO())
        with silent, contextlib.chdir(copy.parent), contextlib.suppress(SystemExit):
            called(copy)


# ------------------------------------------------------------------ what is called


def load(folder):
    """Load the model, and use it if it can be loaded."""
    model = rk.load(folder)
    if "x" in model.signature and None not in model.signature["x"].shape:
        model.represent(model.signature.example(2))


def resume(folder):
    """Resume the training for one step more."""
    data = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(build(data), data, folder, resume=True, steps=STEPS + 1)


def serve(folder):
    """Make the pages that ``reprkit serve`` answers with, but for the requests."""
    assert RunPages(folder).page("/")
    assert RunPages(folder.parent).page("/")


def command(*arguments):
    """Return a function that calls a command on a folder."""

    def call(folder):
        main.main([arguments[0], str(folder), *arguments[1:]])

    call.__name__ = " ".join(arguments)
    return call


INSPECT, INSPECT_JSON = command("inspect"), command("inspect", "--json")
REPORT, RUNS, RUNS_JSON = command("report"), command("runs"), command("runs", "--json")
COMPARE = command("compare", "--out", "comparison.html")
PROBE = command("probe", "--data", "digits", "--labels", "20")
FINETUNE = command("finetune", "--data", "digits", "--labels", "20", "--steps", "1", "--lr", "1e-3")


@dataclass(frozen=True)
class Kind:
    """One kind of file to change.

    Attributes:
        pattern: of its path below the run's folder.
        mutate: (content, generator, canary) -> changed content.
        calls: what is called on the changed folder, the cheap ones more often.
    """

    pattern: str
    mutate: object
    calls: tuple


_OF_A_MODEL = (load, load, load, INSPECT, INSPECT_JSON)
_OF_A_RECORD = (RUNS, RUNS_JSON, INSPECT, INSPECT_JSON, RUNS, INSPECT)
KINDS = {
    "manifest": Kind(f"model/{MANIFEST}", mutations.mutate_json, (*_OF_A_MODEL, *_OF_A_MODEL, PROBE, FINETUNE, REPORT)),
    "weights": Kind(f"model/{WEIGHTS}", mutations.mutate_weights, (*_OF_A_MODEL, PROBE)),
    "record": Kind(RECORD, mutations.mutate_json, (*_OF_A_RECORD, REPORT, COMPARE, serve, PROBE, resume)),
    "results": Kind(RESULTS, mutations.mutate_json, (REPORT, INSPECT, COMPARE, serve)),
    "figures": Kind(FIGURES, mutations.mutate_figures, (REPORT, COMPARE, serve)),
    "metrics": Kind(METRICS, mutations.mutate_lines, (REPORT, RUNS, INSPECT, COMPARE, serve, resume)),
    "position": Kind("state/step-*/state.json", mutations.mutate_json, (resume,)),
    "state": Kind("state/step-*/tensors.pt", mutations.mutate_state, (resume,)),
}  # fmt: skip

CHEAP = {
    "manifest": Kind(KINDS["manifest"].pattern, mutations.mutate_json, (load, INSPECT, INSPECT_JSON)),
    "weights": Kind(KINDS["weights"].pattern, mutations.mutate_weights, (load, INSPECT)),
    "record": Kind(RECORD, mutations.mutate_json, (RUNS, RUNS_JSON, INSPECT)),
    "metrics": Kind(METRICS, mutations.mutate_lines, (RUNS, INSPECT)),
}


def change(run, kind, rng, target, canary):
    """Copy the run to ``target``, with one changed file; the model is that of the run or an old one, of more parts."""
    shutil.copytree(run, target)
    if kind in ("manifest", "weights") and rng.random() < 0.5:
        shutil.rmtree(target / "model")
        shutil.copytree(rng.choice(sorted(OLD_MODELS.iterdir())) / "model", target / "model")
    (path,) = target.glob(KINDS[kind].pattern)
    path.write_bytes(KINDS[kind].mutate(path.read_bytes(), rng, str(canary)))
    return target
