"""Hub models from the cache, a folder in the layout of huggingface_hub, without a network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import torch

import reprkit as rk
from reprkit.checkpoints.hub import parse_hub_name
from reprkit.errors import CheckpointError
from reprkit.models.priors import load_prior
from reprkit.runs.filenames import CARD, MANIFEST, WEIGHTS

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two checkpoints, with two and three latent dimensions."""
    root, digits = tmp_path_factory.mktemp("models"), rk.dataset("digits")
    parts = {"encoder": "mlp(widths=(8,))", "decoder": "mlp(widths=(8,))"}
    return [
        rk.build(data=digits, latent=f"continuous(dim={dim})", **parts).save(root / str(dim))
        for dim in (2, 3)
    ]


def write_hub_cache(root, name, checkpoints):
    """Write a repository into the hub's cache; ``checkpoints`` maps revisions to folders."""
    home = root / "hub" / f"models--{name.replace('/', '--')}"
    for revision, folder in checkpoints.items():
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / revision).write_text(COMMITS[revision])
        shutil.copytree(folder, home / "snapshots" / COMMITS[revision])


def run_offline(code, home, **variables):
    """Return the JSON that a new interpreter prints without a network."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), **variables}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ASK = """
import json, reprkit as rk
def ask(*args, **kwargs):
    try:
        return rk.load(*args, **kwargs).latent().out_dim
    except rk.ReprkitError as error:
        return str(error)
print(json.dumps([ask("hub:ada/digits"), ask("ada/digits", hub=True, revision="v1"), ask("hub:ada/digits", revision="v2"),
                  ask("hub:ada/other"), ask("hub:ada/else"), ask("runs/modle"), ask("ada/digits"), ask("./ada/digits"),
                  ask("runs/model", revision="v1"), ask("hub:digits")]))
"""


@pytest.mark.slow
def test_hub_model_is_loaded_from_the_cache(models, tmp_path):
    write_hub_cache(tmp_path, "ada/digits", {"main": models[0], "v1": models[1]})
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "config.json").write_text("{}")
    write_hub_cache(tmp_path, "ada/else", {"main": tmp_path / "else"})
    shutil.copytree(models[0], tmp_path / "runs" / "model")
    found = run_offline(ASK, tmp_path)
    assert found[:2] == [2, 3]
    assert "ada/digits at revision v2 is not in the hub's cache" in found[2]
    assert "ada/other is not in the hub's cache" in found[3]
    assert "HF_HUB_OFFLINE" in found[3]
    assert "ada/else on the hub is not a model of reprkit: it has no reprkit.json" in found[4]
    assert found[5].startswith("there is no folder runs/modle\n")
    assert "checkpoints beside it: runs/model" in found[5]
    assert found[6].startswith(
        "there is no folder ada/digits\n  for a model of the hub write hub:ada/digits\n"
    )
    assert found[7].startswith("there is no folder ada/digits\n  a checkpoint is")
    assert "revision='v1' is for a model on the hub" in found[8]
    assert found[9] == "a model on the hub is written 'hub:user/name', not 'hub:digits'"


def test_prefix_distinguishes_hub_names_from_folders(models, tmp_path):
    write_hub_cache(tmp_path, "ada/digits", {"main": models[0]})
    shutil.copytree(models[1], tmp_path / "ada" / "digits")
    code = 'import reprkit as rk; print([rk.load(each).latent().out_dim for each in ("ada/digits", "hub:ada/digits")])'
    assert run_offline(code, tmp_path) == [3, 2]


@pytest.mark.parametrize("place", ["ada/digits", "runs/first", Path("ada/digits"), Path("hub:ada/digits")])
def test_missing_path_is_never_looked_up_on_the_hub(place, tmp_path, monkeypatch):
    """For every loader: rk.load, a data set of codes, a prior."""
    downloads = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **_: downloads.append(args))
    digits = rk.dataset("digits")
    for load in (
        lambda: rk.load(place),
        lambda: rk.data.CodesOf(place, digits),
        lambda: load_prior(str(place), torch.device("cpu")) if "hub:" not in str(place) else rk.load(place),
    ):
        with pytest.raises(CheckpointError, match="there is no folder"):
            load()
    assert downloads == []


@pytest.mark.parametrize(
    ("text", "name"),
    [("hub:ada/digits", "ada/digits"), ("hub:ada/digits-2.1", "ada/digits-2.1"), ("ada/digits", None), ("digits", None),
     ("/ada/digits", None), ("./hub:ada/digits", None), (Path("hub:ada/digits"), None)],
)  # fmt: skip
def test_only_the_prefix_marks_a_hub_name(text, name):
    assert parse_hub_name(text) == name


@pytest.mark.parametrize(
    "text", ["hub:", "hub:digits", "hub:a/b/c", "hub:../digits", "hub:~/digits", "hub:ada/"]
)
def test_malformed_hub_names_are_rejected(text):
    with pytest.raises(CheckpointError, match="a model on the hub is written 'hub:user/name'"):
        parse_hub_name(text)
    with pytest.raises(CheckpointError, match="a model on the hub is written 'hub:user/name'"):
        parse_hub_name(text.removeprefix("hub:"), hub=True)


def test_push_uploads_only_the_checkpoint(models, tmp_path, monkeypatch):
    """Checks the calls to the hub's client, an autospec mock without a network."""
    import huggingface_hub

    folder = tmp_path / "run" / "model"
    shutil.copytree(models[0], folder)
    (folder / "secrets.txt").write_text("mine")
    api = create_autospec(huggingface_hub.HfApi, instance=True)
    api.upload_folder.return_value.commit_url = "where it is"
    monkeypatch.setattr("huggingface_hub.HfApi", lambda **_: api)
    assert rk.push(tmp_path / "run", "ada/digits", revision="v1", private=True) == "where it is"
    api.create_repo.assert_called_once_with("ada/digits", private=True, exist_ok=True)
    given = api.upload_folder.call_args.kwargs
    assert (given["repo_id"], given["folder_path"], given["revision"]) == ("ada/digits", folder, "v1")
    uploaded = huggingface_hub.utils.filter_repo_objects(
        [path.name for path in folder.iterdir()], allow_patterns=given["allow_patterns"]
    )
    assert sorted(uploaded) == [CARD, WEIGHTS, MANIFEST]

    api.create_repo.side_effect = huggingface_hub.errors.OfflineModeIsEnabled("no network")
    with pytest.raises(CheckpointError, match=r"cannot be pushed to ada/digits: no network\n.*hf auth login"):
        rk.push(folder, "ada/digits")
    with pytest.raises(CheckpointError, match="is 'user/name', not 'digits'"):
        rk.push(folder, "digits")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        rk.push(tmp_path, "ada/digits")
