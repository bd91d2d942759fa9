"""Repeated flags of a recipe run every combination, each in its own folder, and compare the runs."""

import json
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

import reprkit as rk
from reprkit.errors import PartArgumentError, ReprkitError, TrainingError, UnknownPartError
from reprkit.training import sweep
from reprkit.training.launch import add_flags
from reprkit.training.sweep import folder_name, run_sweep, sweep_flags


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """A recipe that notes its calls."""
    noted, compared = [], []

    def main(
        latent: Annotated[str, typer.Option(help="a latent")] = "vq",
        labels: Annotated[list[int], typer.Option(help="several anyway")] = [1, 2],  # noqa: B006
        decoder: str | None = None,
        seed: int = 0,
        flag: bool = False,
        out: str = str(tmp_path / "runs"),
        launch: rk.Launch = rk.Launch(schedule="cosine"),
    ) -> None:
        given = {
            "latent": latent,
            "labels": labels,
            "decoder": decoder,
            "seed": seed,
            "flag": flag,
            "out": out,
        }
        noted.append({**given, "launch": dict(launch), "argv": sys.argv[1:]})
        if latent == "binary" and seed == 1:
            raise ReprkitError("it diverged\nat step 3")

    monkeypatch.setattr(sweep, "_compare", lambda folders, out, emit: compared.append((folders, out)))

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["mine.py", *args])
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(sweep_flags(add_flags(main)))
        typer.main.get_command(app)(args=list(args), standalone_mode=False)
        return noted, compared

    return call


def test_one_value_of_each_flag_is_a_plain_call(calls, tmp_path):
    noted, compared = calls("--latent", "fsq", "--labels", "3", "--labels", "4", "--clip", "2")
    (only,) = noted
    assert (only["latent"], only["labels"], only["decoder"], only["seed"]) == ("fsq", [3, 4], None, 0)
    assert only["out"] == str(tmp_path / "runs")
    assert only["launch"] == {"schedule": "cosine", "clip": 2.0}
    assert compared == []
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "metrics.jsonl").write_text('{"step": 1}\n')
    noted, _ = calls("--latent", "fsq")
    assert noted[-1]["out"] == str(tmp_path / "runs-2")  # the default folder holds a run


def test_every_combination_runs_in_its_own_folder(calls, tmp_path, capsys):
    noted, compared = calls(
        "--latent",
        "vq(codes=8)",
        "--latent=fsq",
        "--seed",
        "0",
        "--seed",
        "3",
        "--clip",
        "1",
        "--clip",
        "2",
        "--flag",
    )
    assert [(each["latent"], each["seed"], each["launch"]["clip"]) for each in noted] == [
        (latent, seed, clip) for latent in ("vq(codes=8)", "fsq") for seed in (0, 3) for clip in (1.0, 2.0)
    ]
    assert all(each["flag"] for each in noted)
    folders = [Path(each["out"]) for each in noted]
    assert folders[0] == tmp_path / "runs" / "latent-vq-codes-8" / "seed-0" / "clip-1.0"
    assert len(set(folders)) == 8
    assert compared == [(folders, tmp_path / "runs")]
    assert capsys.readouterr().err.splitlines()[0] == "[1/8] latent=vq(codes=8), seed=0, clip=1.0"


def test_each_run_has_its_own_command_line(calls):
    noted, _ = calls("--latent", "vq", "--flag", "--latent=fsq", "--labels", "3")
    assert noted[1]["argv"] == ["--flag", "--labels", "3", "--latent", "fsq", "--out", noted[1]["out"]]
    assert sys.argv[1:] == ["--latent", "vq", "--flag", "--latent=fsq", "--labels", "3"]


def test_a_combination_that_fails_is_named_at_the_end_and_the_others_run(calls, capsys):
    with pytest.raises(
        TrainingError, match="1 of 4 combinations failed\n  latent=binary, seed=1: it diverged$"
    ):
        calls("--latent", "binary", "--latent", "vq", "--seed", "0", "--seed", "1")
    assert "[2/4] failed: it diverged" in capsys.readouterr().err


def test_wrong_sweeps_are_refused_before_anything_runs(calls):
    with pytest.raises(UnknownPartError, match=r"Did you mean 'vq'\?"):
        calls("--latent", "fsq", "--latent", "vqq")
    with pytest.raises(PartArgumentError, match="--seed has one value twice: 1, 1"):
        calls("--seed", "1", "--seed", "1")
    with pytest.raises(PartArgumentError, match="--seed: several values .* this recipe has no --out"):
        run_sweep(lambda seed: pytest.fail("it ran"), {"seed": 0}, {"seed": [0, 1]})
    with pytest.raises(Exception, match="valid integer"):
        calls("--seed", "one", "--seed", "two")


def test_no_run_of_an_earlier_sweep_is_replaced(calls, tmp_path, capsys):
    held = tmp_path / "runs" / "seed-1"
    held.mkdir(parents=True)
    for name, text in {"run.json": '{"stages": {"main": {}}}', "metrics.jsonl": '{"step": 1}\n'}.items():
        (held / name).write_text(text)
    with pytest.raises(TrainingError, match=r"seed-1 holds runs:(.|\n)*--resume to continue .* --overwrite"):
        calls("--seed", "0", "--seed", "1", "--out", str(tmp_path / "runs"))
    noted, compared = calls("--seed", "0", "--seed", "1")
    assert len(noted) == 2, "none of the refused sweep"
    assert compared == [
        ([tmp_path / "runs-2" / "seed-0", tmp_path / "runs-2" / "seed-1"], tmp_path / "runs-2")
    ]
    assert "so this one is written to" in capsys.readouterr().err
    calls("--seed", "0", "--seed", "1", "--overwrite", "--out", str(tmp_path / "runs"))
    calls("--seed", "2", "--seed", "3", "--out", str(tmp_path / "runs"))  # further seeds beside them
    assert [Path(each["out"]).parent.name for each in noted[2:]] == ["runs"] * 4


def test_names_of_folders():
    assert folder_name("latent", "vq(codes=8, dim=2)") == "latent-vq-codes-8-dim-2"
    assert folder_name("lr", 1e-3) == "lr-0.001"
    assert folder_name("data", "../../x") == "data-..-..-x"


@pytest.mark.slow
def test_a_sweep_gives_one_table_with_deviations_and_one_page(tmp_path, monkeypatch, capsys):
    from reprkit.commands import main

    monkeypatch.chdir(tmp_path)
    flags = [
        "--data",
        "digits",
        "--steps",
        "5",
        "--measure",
        "reconstruction",
        "--measure",
        "knn",
        "--out",
        "runs/s",
    ]
    axes = ["--latent", "vq(codes=8)", "--latent", "continuous(dim=4)", "--seed", "0", "--seed", "1"]
    with pytest.raises(SystemExit) as exited:
        main.main(["train", *flags, *axes, "--json"])
    assert not exited.value.code
    found = json.loads(capsys.readouterr().out)
    assert [(group["name"], group["seeds"]) for group in found["groups"]] == [
        ("vq(codes=8)", [0, 1]),
        ("continuous(dim=4)", [0, 1]),
    ]
    single = [
        rk.training.Run(f"runs/s/latent-vq-codes-8/seed-{seed}").results["knn"]["accuracy"] for seed in (0, 1)
    ]
    assert found["groups"][0]["metrics"]["knn.accuracy"]["mean"] == pytest.approx(sum(single) / 2)
    page = Path("runs/s/comparison.html").read_text()
    assert " ± " in page
    assert page.count("<img") >= 2
    assert len(page) < 3_000_000
