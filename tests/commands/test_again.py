"""``reprkit run --again DIR``: a recorded run is made again, with equal results, by source that is known or trusted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprkit.commands.again import Again, _without_folder
from reprkit.errors import TrainingError
from reprkit.runs.reader import read_metrics, read_record

RECIPE = """
import reprkit as rk

def main(data: str = "digits", steps: int = 20, out: str = "runs/mine", resume: bool = False,
         launch: rk.Launch = rk.Launch(schedule="cosine")) -> None:
    train, _ = rk.dataset(data).split()
    for latent in ("vq(codes=8)", "gaussian(dim=2)"):
        model = rk.build(data=train, encoder="mlp(widths=(8,))", latent=latent, decoder="mlp(widths=(8,))")
        for step in rk.loop(model, train, steps=steps, batch=32, out=f"{out}/{latent[:2]}", resume=resume, log_every=5, **launch):
            step.backward(step.model(step.batch).total)
            step.update()

if __name__ == "__main__":
    rk.recipe(main)
"""


def call(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_run_is_made_again_with_equal_results(tmp_path):
    (tmp_path / "mine.py").write_text(RECIPE)
    first = call(tmp_path, "mine.py", "--steps", "15", "--lr-unknown", "1")
    assert first.returncode == 2
    first = call(tmp_path, "mine.py", "--steps", "15", "--clip", "1.0")
    assert first.returncode == 0, first.stderr
    run = tmp_path / "runs" / "mine" / "vq"
    source = read_record(run)["source"]
    assert source["recipe"]["arguments"] == ["--steps", "15", "--clip", "1.0"]
    assert (run / source["recipe"]["file"]).read_text() == RECIPE
    assert "torch==" in (run / source["packages"]).read_text()
    refused = call(tmp_path, "-m", "reprkit", "run", "--again", "runs/mine")
    assert refused.returncode == 1
    assert "--trust-source" in refused.stderr
    (tmp_path / "elsewhere").mkdir()
    again = call(tmp_path / "elsewhere", "-m", "reprkit", "run", "--again", run, "--trust-source")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("equal results") == 2
    made = tmp_path / "runs" / "mine-2"
    losses = [
        [line["loss"] for line in read_metrics(top / "vq")] for top in (tmp_path / "runs" / "mine", made)
    ]
    assert losses[0] == losses[1]
    (tmp_path / "mine.py").write_text(RECIPE.replace("(8,)", "(4,)"))
    kept = Again(run, tmp_path / "third", trust_source=True)
    assert kept.path == run / "source" / "mine.py", "the kept source, not the changed one"
    assert kept.arguments == ["--steps", "15", "--clip", "1.0", "--out", str(tmp_path / "third")]


def write_run(folder, recipe, /, **record):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"source": {"recipe": recipe}, **record}))
    return folder


def test_a_recipe_of_the_installation_needs_no_trust(tmp_path):
    import hashlib

    from reprkit.commands.recipes import find

    path = find("vae").path
    recipe = {
        "name": "vae", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "out": "runs/vae",
        "arguments": ["--steps", "3", "--out", "runs/vae", "--overwrite"],
    }  # fmt: skip
    run = write_run(tmp_path / "runs" / "vae", recipe)
    (run / "metrics.jsonl").write_text('{"step": 3, "loss": 1.0}\n')
    again = Again(run, None, trust_source=False)
    assert again.path == path
    assert again.arguments == ["--steps", "3", "--out", str(tmp_path / "runs" / "vae-2")]
    assert Again(run, Path("x"), trust_source=False).out == Path.cwd() / "x"


def test_source_that_is_not_what_was_recorded_is_refused(tmp_path):
    recipe = {"name": "mine", "sha256": "0" * 64, "path": str(tmp_path / "mine.py"), "out": "run"}
    run = write_run(tmp_path / "run", recipe)
    (tmp_path / "mine.py").write_text("print(1)")
    (run / "source").mkdir()
    (run / "source" / "mine.py").write_text("print(2)")
    with pytest.raises(TrainingError, match="give --trust-source to run it"):
        Again(run, None, trust_source=False)
    with pytest.raises(TrainingError, match="is gone, or was changed"):
        Again(run, None, trust_source=True)


def test_runs_without_source_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="there is no folder"):
        Again(tmp_path / "nothing", None, trust_source=True)
    with pytest.raises(TrainingError, match="is not a run"):
        Again(tmp_path, None, trust_source=True)
    (tmp_path / "run.json").write_text('{"command": "ipython"}')
    with pytest.raises(TrainingError, match="names no source that made the run"):
        Again(tmp_path, None, trust_source=True)


def test_flags_of_the_folder_are_replaced():
    given = ["--out", "a", "--steps", "3", "--resume", "--out=b", "--no-overwrite", "--outer", "x"]
    assert _without_folder(given) == ["--steps", "3", "--outer", "x"]


def test_a_run_of_reprkit_train_is_made_again_by_its_arguments(tmp_path):
    recipe = {
        "name": "reprkit train", "command": "train", "out": "runs/a", "path": "/tmp/other.py", "sha256": "0" * 64,
        "arguments": ["--data", "digits", "--out", "runs/a", "--resume"],
    }  # fmt: skip
    run = write_run(tmp_path / "runs" / "a", recipe)
    (run / "metrics.jsonl").write_text('{"step": 3, "loss": 1.0}\n')
    again = Again(run, None, trust_source=False)
    assert again.path is None
    assert again.arguments == ["train", "--data", "digits", "--out", str(tmp_path / "runs" / "a-2")]
    assert again.describe() == [f"running reprkit train --data digits --out {tmp_path / 'runs' / 'a-2'}"]


@pytest.mark.parametrize("recipe", [{"command": "train"}, {"command": "plugins", "arguments": []}])
def test_other_commands_and_unknown_arguments_are_refused(tmp_path, recipe):
    run = write_run(tmp_path / "run", {"name": "reprkit", **recipe}, command="python -m reprkit X")
    with pytest.raises(TrainingError, match="cannot be made again: it was started by: python -m reprkit X"):
        Again(run, None, trust_source=True)


def test_a_script_without_out_is_refused_with_its_command(tmp_path):
    run = write_run(
        tmp_path / "run",
        {"name": "mine", "sha256": "0" * 64, "path": "/a b/mine.py", "arguments": ["3"]},
        folder="/tmp",
    )
    with pytest.raises(
        TrainingError, match=r"would write to the folder of this run.*python '/a b/mine.py' 3"
    ):
        Again(run, None, trust_source=True)


@pytest.mark.slow
def test_one_combination_of_a_sweep_of_train_is_made_again(tmp_path):
    flags = ("--data", "digits", "--steps", "3", "--measure", "codebook", "--latent", "vq(codes=8)")
    first = call(tmp_path, "-m", "reprkit", "train", *flags, "--seed", "0", "--seed", "1", "--out", "runs/a")
    assert first.returncode == 0, first.stderr
    again = call(tmp_path, "-m", "reprkit", "run", "--again", "runs/a/seed-1")
    assert again.returncode == 0, again.stderr
    assert "equal results" in again.stderr
    made = tmp_path / "runs" / "a" / "seed-1-2"
    assert read_record(made)["seed"] == 1
    assert read_record(made)["source"]["recipe"]["arguments"][-2:] == ["--out", str(made)]
