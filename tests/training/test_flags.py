"""``rk.Launch`` and ``rk.recipe``: the loop's options as flags of a recipe."""

import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import reprkit as rk
from reprkit.training import launch
from reprkit.training.launch import FLAGS, Launch, add_flags

ROOT = Path(rk.__file__).parents[1]
RECIPE = '''
import json, sys
import typer
from typing import Annotated
import reprkit as rk

def main(
    latents: Annotated[list[str], typer.Option(help="a latent")] = ["vq"],
    steps: int = 3,
    launch: rk.Launch = rk.Launch(schedule="cosine", track=("tensorboard",), compile=True),
) -> None:
    """A recipe for a test."""
    print(json.dumps({"latents": latents, "steps": steps, "launch": {**launch}, "torch": "torch" in sys.modules}))
    for latent in latents:
        rk.create("latent", latent)

if __name__ == "__main__":
    rk.recipe(main)
'''


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the recipe in this process: its exit code, what it printed, and its complaint."""
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    scope = {"__name__": "mine"}
    exec(compile(RECIPE, str(path), "exec"), scope)

    def call(*args):
        monkeypatch.setattr(sys, "argv", [str(path), *args])
        with pytest.raises(SystemExit) as stopped:
            rk.recipe(scope["main"])
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


def launched(out):
    import json

    return json.loads(out)["launch"]


def test_a_flag_takes_a_type_of_its_option():
    from reprkit.training import loop

    options, hints = inspect.signature(loop).parameters, typing.get_type_hints(loop)
    assert list(inspect.signature(Launch).parameters) == list(FLAGS)
    for name, (kind, _) in FLAGS.items():
        choices = typing.get_args(hints[name])  # of a union types, of a Literal values
        assert kind == hints[name] or kind in choices or {kind} == set(map(type, choices)), name
    only_the_recipes = {"model", "data", "steps", "batch", "lr", "out", "resume", "seed", "stage"}
    no_text = {"optimizers", "extras", "extra", "groups", "mates", "log_every", "progress", "probe_data"}
    assert set(options) - set(FLAGS) == only_the_recipes | no_text


def test_a_launch_holds_only_the_set_options():
    launch = Launch(schedule="cosine", accumulate=2)
    assert {**launch} == {"schedule": "cosine", "accumulate": 2}
    assert dict(**Launch()) == {}
    assert launch | {"accumulate": 4, "ema": 0.9} == Launch(schedule="cosine", accumulate=4, ema=0.9)
    assert repr(launch) == "Launch(schedule='cosine', accumulate=2)"
    assert hash(launch) == hash(Launch(accumulate=2, schedule="cosine"))
    assert launch != Launch(schedule="cosine")
    with pytest.raises(AttributeError):
        launch.schedule = "linear"
    with pytest.raises(TypeError):
        launch["schedule"] = "linear"
    with pytest.raises(
        rk.ReprkitError, match=r"Launch has no option 'acumulate'. Did you mean 'accumulate'\?"
    ):
        Launch(acumulate=2)


def test_flags_override_the_recipe_s_defaults(run):
    code, out, _ = run()
    assert code == 0
    assert launched(out) == {"schedule": "cosine", "track": ["tensorboard"], "compile": True}
    said = (
        "--device",
        "cpu",
        "--precision",
        "bf16",
        "--strategy",
        "fsdp",
        "--accumulate",
        "4",
        "--clip",
        "1.5",
        "--no-compile",
    )
    said += (
        "--ema",
        "0.99",
        "--optimizer",
        "sgd(momentum=0.9)",
        "--schedule",
        "linear",
        "--warmup",
        "10",
        "--weight-decay",
        "0",
    )
    said += (
        "--buckets",
        "--workers",
        "2",
        "--save-every",
        "30",
        "--keep",
        "3",
        "--best",
        "min loss",
        "--track",
        "wandb",
        "--track",
        "tensorboard",
        "--freeze",
        "adapters",
        "--freeze",
        "code.encoder",
        "--overwrite",
    )
    said += (
        "--probes",
        "knn",
        "--probes",
        "rankme",
        "--probe-every",
        "7",
        "--time-limit",
        "2h",
        "--recompute",
        "--saving",
        "sharded",
    )
    code, out, _ = run(*said, "--steps", "5", "--latents", "binary", "--latents", "continuous")
    assert code == 0
    assert launched(out) == {
        "device": "cpu", "precision": "bf16", "strategy": "fsdp", "accumulate": 4, "clip": 1.5, "compile": False, "ema": 0.99,
        "optimizer": "sgd(momentum=0.9)", "schedule": "linear", "warmup": 10, "weight_decay": 0.0, "workers": 2, "buckets": True,
        "save_every": 30.0, "keep": 3, "best": "min loss", "track": ["wandb", "tensorboard"],
        "freeze": ["adapters", "code.encoder"], "overwrite": True,
        "probes": ["knn", "rankme"], "probe_every": 7, "time_limit": "2h", "recompute": True,
        "saving": "sharded",
    }  # fmt: skip
    assert set(launched(out)) == set(FLAGS)
    assert '"steps": 5' in out
    assert '"latents": ["binary", "continuous"]' in out


def test_invalid_flags_are_refused(run):
    assert run("--acumulate", "2")[0] == 2
    code, _, err = run("--accumulate", "two")
    assert (code, "--accumulate" in err) == (2, True)
    code, _, err = run("--latents", "vqq")
    assert code == 1
    first, second = err.splitlines()[:2]
    assert first == "mine: reading the data"  # before torch is imported, which takes seconds
    assert second.startswith("error: no latent named 'vqq'. Did you mean 'vq'?")


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--precision", "fp23", "precision='fp23' must be 'fp32', 'bf16', 'fp16' or 'fp64'"),
        (
            "--strategy",
            "fdsp",
            "strategy='fdsp' must be 'ddp', 'fsdp', 'hsdp', 'tp' or, with a number of processes for each model,",
        ),
        ("--schedule", "cosin", "no schedule named 'cosin'. Did you mean 'cosine'?"),
        (
            "--optimizer",
            "adanw",
            "torch.optim has no optimizer 'adanw' that can be used here. Did you mean 'adamw'?",
        ),
        ("--device", "cuda:x", "device='cuda:x' is not a device known to torch"),
        ("--ema", "2", "ema=2.0 must be a number above 0 and below 1 or None"),
        ("--accumulate", "0", "accumulate=0 must be an integer of at least 1"),
    ],
)
def test_the_loop_checks_the_values_of_flags(flag, value, message, monkeypatch, capsys):
    data = rk.dataset("digits")
    model = rk.build(data=data, encoder="mlp(widths=(4,))", decoder="mlp(widths=(4,))")

    def main(launch: rk.Launch = rk.Launch()) -> None:
        for _ in rk.loop(model, data, steps=1, **launch):
            break

    monkeypatch.setattr(sys, "argv", ["mine.py", flag, value])
    with pytest.raises(SystemExit) as stopped:
        rk.recipe(main)
    assert stopped.value.code == 1
    err = capsys.readouterr().err.removeprefix("mine: reading the data\n")
    assert err.removeprefix("error: ").removeprefix("rk.loop: ").startswith(message)


def test_a_main_with_invalid_launch_is_refused():
    def twice(launch: rk.Launch, schedule: str = "linear") -> None: ...

    def taken(schedule: str = "linear", launch: rk.Launch = rk.Launch()) -> None: ...

    def plain(steps: int = 3) -> None: ...

    with pytest.raises(rk.ReprkitError, match=r"takes one Launch, with a default"):
        add_flags(twice)
    with pytest.raises(
        rk.ReprkitError, match=r"'schedule', which is also a flag.*rk.Launch\(schedule='linear'\)"
    ):
        add_flags(taken)
    assert add_flags(plain) is plain


def test_string_annotations_are_resolved():
    source = RECIPE.replace("import json", "from __future__ import annotations\nimport json", 1)
    scope = {"__name__": "mine"}
    exec(compile(source, "mine.py", "exec"), scope)
    made = inspect.signature(add_flags(scope["main"]))
    assert list(made.parameters) == ["latents", "steps", *FLAGS, "typer_context"]
    assert all(each.default is None for name, each in made.parameters.items() if name in FLAGS)


@pytest.mark.slow
def test_help_shows_every_flag_without_torch(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    asked = [sys.executable, "-m", "reprkit", "run", str(path), "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, env=no_sync())
    for name in FLAGS:
        assert f"--{name.replace('_', '-')}" in done.stdout, name
    assert "(cosine)" in done.stdout
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, env=no_sync()
    )
    assert '"torch": false' in done.stdout, done
    assert launch.__doc__


def no_sync():
    import os

    return {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}


def test_a_recipe_writes_to_a_further_folder_by_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "results.json").write_text('{"knn": {"accuracy": 0.5}}')

    def main(out: str = "runs/x", resume: bool = False, launch: rk.Launch = rk.Launch()) -> None:
        print(out)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["mine.py", *args])
        with pytest.raises(SystemExit) as stopped:
            rk.recipe(main)
        return stopped.value.code or 0, capsys.readouterr()

    assert call()[1].out.strip() == "runs/x-2"
    assert call("--overwrite")[1].out.strip() == "runs/x"
    code, printed = call("--out", "runs/x")
    assert (code, printed.out) == (1, "")
    assert "runs/x holds runs" in printed.err
    assert call("--out", "runs/x", "--resume")[1].out.strip() == "runs/x"
