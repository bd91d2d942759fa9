"""Slurm jobs: what the file says, and a job that is told to save, is requeued, and ends like an uninterrupted run."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file

import reprkit as rk
from reprkit.errors import PartArgumentError, TrainingError
from reprkit.runs.reader import read_record
from reprkit.training import slurm
from reprkit.training.launch import add_flags
from reprkit.training.sweep import sweep_flags

# The options that are used here, as the manual of sbatch has them: name -> whether it takes a value.
DOCUMENTED = {
    **dict.fromkeys(("array", "chdir", "gpus-per-node", "job-name", "nodes", "ntasks-per-node", "mem"), True),
    **dict.fromkeys(("open-mode", "output", "partition", "signal", "time", "comment"), True),
    **dict.fromkeys(("requeue", "exclusive"), False),
}


def directives(text):
    """The lines for sbatch, which end at the first command, read as documented."""
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for name, takes_value in DOCUMENTED.items():
        parser.add_argument(f"--{name}", **({} if takes_value else {"action": "store_true"}))
    words = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            words += shlex.split(line.removeprefix("#SBATCH "))
    found, unknown = parser.parse_known_args(words)
    assert not unknown
    return {name: value for name, value in vars(found).items() if value not in (None, False)}


@pytest.fixture
def cluster(tmp_path):
    """A folder with an ``scontrol`` that notes its calls, and an ``srun`` that prints its arguments."""
    commands = tmp_path / "bin"
    commands.mkdir()

    def add(name, text):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)

    add(
        "scontrol",
        f'#!/bin/bash\necho "$@" >> {tmp_path}/scontrol.log\nif [ "$1" = show ]; then echo first; fi\n',
    )
    add("srun", "#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    return add


def environment(tmp_path, **more):
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SLURM_JOB_ID": "70007", "SLURM_JOB_NODELIST": "n[1-2]", **more}


def run_file(path, tmp_path, **more):
    """What srun is called with by a job's file."""
    done = subprocess.run(
        ["bash", str(path)], env=environment(tmp_path, **more), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.split("\ntask\n")[-1].splitlines()


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Call a recipe with flags, in a folder with a blank in its name."""
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.chdir(home)

    def main(
        latent: str = "vq",
        seed: int = 0,
        out: str = "runs/mine",
        resume: bool = False,
        launch: rk.Launch = rk.Launch(schedule="cosine"),
    ) -> None:
        pytest.fail("it ran")

    def called(*args):
        monkeypatch.setattr(sys, "argv", [str(home / "mine.py"), *args])
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(sweep_flags(add_flags(main)))
        typer.main.get_command(app)(args=list(args), standalone_mode=False)
        return home / "runs/mine" / slurm.FILE

    return called


def test_the_file_asks_for_what_was_given(call, capsys):
    path = call(
        *("--launch", "slurm", "--nodes", "2", "--gpus=8", "--time-limit", "1-12:00:00", "--clip", "2"),
        *("--sbatch", "partition=gpu", "--sbatch=exclusive", "--sbatch", "comment=two words"),
    )
    text = path.read_text()
    home = path.parents[2]
    assert text.startswith("#!/bin/bash\n")
    assert directives(text) == {
        "job_name": "mine",
        "nodes": "2",
        "ntasks_per_node": "1",
        "gpus_per_node": "8",
        "time": "1-12:00:00",
        "signal": "B:USR1@120",
        "chdir": str(home),
        "output": f"{home}/runs/mine/slurm-%j.log",
        "open_mode": "append",
        "requeue": True,
        "partition": "gpu",
        "exclusive": True,
        "comment": "two words",
    }
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert capsys.readouterr().out.splitlines() == [
        "a job of 2 nodes, 8 GPUs each, a time limit of 1-12:00:00",
        "  sbatch runs/mine/job.sbatch",
    ]


def test_torchrun_is_started_on_each_node(call, cluster, tmp_path):
    path = call(
        "--launch", "slurm", "--nodes", "2", "--gpus", "8", "--latent", "vq(codes=8, dim=2)", "--clip=2"
    )
    code, words = run_file(path, tmp_path)
    assert code == 0
    assert words == [
        *(sys.executable, "-P", "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "8"),
        *("--rdzv-backend", "c10d", "--rdzv-id", "70007", "--rdzv-endpoint", "first:30007"),
        *(str(path.parents[2] / "mine.py"), "--latent", "vq(codes=8, dim=2)", "--clip=2"),
        *("--out", "runs/mine", "--resume"),
    ]
    assert (tmp_path / "scontrol.log").read_text() == "show hostnames n[1-2]\n"


def test_combinations_are_tasks_of_an_array(call, cluster, tmp_path, capsys):
    path = call(
        *("--latent", "vq(update='ema')", "--latent", "fsq", "--seed", "0", "--seed", "1", "--launch=slurm")
    )
    found = directives(path.read_text())
    assert found["array"] == "0-3"
    assert found["output"].endswith("/slurm-%A_%a.log")
    commands = [run_file(path, tmp_path, SLURM_ARRAY_TASK_ID=str(task))[1] for task in range(4)]
    assert all("--standalone" in words for words in commands)
    assert [words[-7:] for words in commands] == [
        ["--latent", latent, "--seed", seed, "--out", f"runs/mine/{folder}/seed-{seed}", "--resume"]
        for latent, folder in (("vq(update='ema')", "latent-vq-update-ema"), ("fsq", "latent-fsq"))
        for seed in "01"
    ]
    assert run_file(path, tmp_path, SLURM_ARRAY_TASK_ID="4")[0] == 2
    assert "reprkit compare runs/mine" in capsys.readouterr().out


def test_a_command_of_reprkit_is_started_as_a_module(monkeypatch):
    for script in ("/usr/bin/reprkit", "/lib/reprkit/__main__.py"):
        monkeypatch.setattr(sys, "argv", [script, "train"])
        assert slurm.program() == ["-m", "reprkit"]


def test_reprkit_train_writes_a_job_and_prints_json(monkeypatch, tmp_path, capsys):
    from reprkit.commands.main import main

    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", "digits", "--out", "runs/a", "--latent", "vq", "--latent", "fsq", "--json"]
    words += ["--launch", "slurm", "--sbatch", "mem=64G"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/reprkit", *words])
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out) == {"job": "runs/a/job.sbatch", "tasks": 2, "out": "runs/a"}
    text = (tmp_path / "runs/a/job.sbatch").read_text()
    assert directives(text)["mem"] == "64G"
    assert "-m reprkit " in text
    assert "arguments=(train --data digits --json --latent vq --out runs/a/latent-vq --resume)" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--nodes", "0"], "--nodes of at least 1 and --gpus of at least 0, not 0 and 1"),
        (["--gpus", "-1"], "not 1 and -1"),
        (["--time-limit", "299s"], "a --time-limit of at least 5m"),
        (["--time-limit", "12"], "time_limit='12' must be a duration"),
        (["--sbatch", "time=5"], "--sbatch time=5: the file sets time; choose it by --time-limit"),
        (["--sbatch", "--partition=gpu"], "must be a line of sbatch without dashes"),
        (["--sbatch", "comment=a\nrm x"], "must be a line of sbatch"),
        (["--overwrite"], "cannot have --overwrite"),
        (["--seed", "1", "--seed", "1"], "--seed has one value twice"),
        (["--out", ""], "--launch slurm needs --out FOLDER"),
    ],
)
def test_what_a_job_cannot_have_is_refused(call, flags, said):
    with pytest.raises(PartArgumentError, match=said):
        call("--launch", "slurm", *flags)
    assert not Path("runs").exists()


def test_flags_of_a_job_need_launch_and_a_free_folder(call):
    with pytest.raises(PartArgumentError, match="--nodes: belongs to a job; add --launch slurm"):
        call("--nodes", "2")
    with pytest.raises(Exception, match="'pbs' is not (one of )?'slurm'"):
        call("--launch", "pbs")
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/metrics.jsonl").write_text('{"step": 1}\n')
    assert call("--launch", "slurm").parents[2].joinpath("runs/mine-2", slurm.FILE).is_file()  # the default
    with pytest.raises(TrainingError, match="runs/mine holds runs"):
        call("--launch", "slurm", "--out", "runs/mine")
    assert call("--launch", "slurm", "--out", "runs/mine", "--resume").read_text().count("--resume") == 1


def test_a_recipe_with_a_parameter_of_a_job_is_refused():
    def main(out: str = "x", resume: bool = False, nodes: int = 2) -> None:
        """It has nodes of its own."""

    with pytest.raises(PartArgumentError, match=r"main\(\) has a parameter 'nodes'"):
        sweep_flags(main)


RECIPE = """
import time
import torch
import reprkit as rk

torch.set_num_threads(1)

def main(steps: int = 60, pause: float = 0.0, out: str = "runs", resume: bool = False,
         launch: rk.Launch = rk.Launch(device="cpu", save_every=1000.0)) -> None:
    data = rk.dataset("digits").split()[0]
    model = rk.build(data=data, encoder="mlp(widths=(16,), dropout=0.2)", decoder="mlp(widths=(16,))")
    for step in rk.loop(model, data, steps=steps, batch=32, lr=1e-2, out=out, resume=resume, **launch):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        print("step", step.index, flush=True)
        time.sleep(pause)
    model.save(f"{out}/model")

if __name__ == "__main__":
    rk.recipe(main)
"""
# As slurmstepd does: a task is a process group of its own, to which it sends the signals that srun gets.
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
task = subprocess.Popen(sys.argv[sys.argv.index("bash"):], start_new_session=True)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.killpg(task.pid, number))
sys.exit(task.wait() % 256)
"""


def start(command, home, tmp_path):
    settings = environment(tmp_path, OMP_NUM_THREADS="1", PYTHONPATH=str(Path(rk.__file__).parents[1]))
    return subprocess.Popen(
        command, env=settings, cwd=home, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process):
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def wait_for(process, line):
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"it ended before {line!r}")


@pytest.mark.slow
def test_a_job_near_its_end_saves_is_requeued_and_ends_like_an_uninterrupted_run(cluster, tmp_path):
    cluster("srun", SRUN)
    (tmp_path / "mine.py").write_text(RECIPE)
    recipe = [sys.executable, "mine.py"]
    finish(start([*recipe, "--out", "whole"], tmp_path, tmp_path))
    flags = ["--pause", "0.05", "--out", "job", "--launch", "slurm", "--gpus", "0"]
    finish(start([*recipe, *flags], tmp_path, tmp_path))
    job = start(["bash", "job/job.sbatch"], tmp_path, tmp_path)
    wait_for(job, "step 5")
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=200)
    assert "SIGUSR1: stopped after step" in said
    assert job.returncode != 0
    assert (tmp_path / "scontrol.log").read_text() == "requeue 70007\n"
    record = read_record(tmp_path / "job")
    assert record["status"] == "stopped"
    assert 6 <= record["stages"]["main"]["saved"] < 40
    assert not (tmp_path / "job/model").exists()

    said = finish(start(["bash", "job/job.sbatch"], tmp_path, tmp_path))  # as Slurm does with a requeued job
    assert "step 0\n" not in said
    assert (tmp_path / "scontrol.log").read_text() == "requeue 70007\n", (
        "a run that is finished is not requeued"
    )
    mine, whole = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("job", "whole"))
    assert mine.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(mine[name], value), name


@pytest.mark.slow
def test_a_job_that_fails_or_is_preempted_is_not_requeued_by_its_file(cluster, tmp_path):
    cluster("srun", SRUN)
    (tmp_path / "mine.py").write_text(RECIPE)
    flags = ["--pause", "0.05", "--out", "job", "--launch", "slurm", "--gpus", "0"]
    finish(start([sys.executable, "mine.py", *flags], tmp_path, tmp_path))
    job = start(["bash", "job/job.sbatch"], tmp_path, tmp_path)
    wait_for(job, "step 3")
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=200)
    assert job.returncode != 0
    assert read_record(tmp_path / "job")["stages"]["main"]["saved"] >= 4
    (tmp_path / "mine.py").write_text(RECIPE.replace("time.sleep(pause)", "raise ValueError"))
    job = start(["bash", "job/job.sbatch"], tmp_path, tmp_path)
    assert "ValueError" in job.communicate(timeout=200)[0]
    assert job.returncode != 0
    assert not (tmp_path / "scontrol.log").exists()
