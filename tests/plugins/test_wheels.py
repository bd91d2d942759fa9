"""Wheels of the four distributions: built, installed into an empty environment, and used there."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from installing import ROOT, run

SOURCES = [
    ROOT,
    *(ROOT / "plugins" / f"reprkit-{name}" for name in ("vision", "audio", "text", "compress", "structure")),
]
SHIPPED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "reprkit", "recipes", "src")
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.egg-info")
OFFLINE = ("--no-deps", "--no-index", "--disable-pip-version-check", "-q")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for source in SOURCES:
        copy = folder / "sources" / source.name
        copy.mkdir(parents=True)
        for path in (source / name for name in SHIPPED):
            if path.is_dir():
                shutil.copytree(path, copy / path.name, ignore=LEFTOVERS)
            elif path.exists():
                shutil.copy(path, copy)
        command = [sys.executable, "-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "-w", folder, copy]
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory):
    """The interpreter of an environment that has the wheels, and borrows torch and the like from the running one.

    A folder named in a .pth file is on the path, but its own .pth files are not read: the editable installation is not.
    """
    folder = tmp_path_factory.mktemp("environment")
    done = run([sys.executable, "-m", "venv", "--without-pip", folder])
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    # No PYTHONPATH, and what is borrowed afterwards: pip would take the sources of the same version for the wheel's.
    installed = run(
        [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", *OFFLINE, *wheels],
        PYTHONPATH="",
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    borrowed = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    return folder / "bin" / "python"


@pytest.mark.slow
def test_wheels_have_one_version_and_what_they_need(wheels):
    assert [wheel.name.split("-py3")[0] for wheel in wheels] == [
        "reprkit-0.2.0", "reprkit_audio-0.2.0", "reprkit_compress-0.2.0", "reprkit_structure-0.2.0",
        "reprkit_text-0.2.0", "reprkit_vision-0.2.0",
    ]  # fmt: skip
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (metadata,) = (name for name in names if name.endswith("METADATA"))
            text = archive.read(metadata).decode()
        assert "Author: reprkit developers" in text
        assert "Project-URL: Issues, " in text
        assert any(name.endswith("py.typed") for name in names)
        if wheel.name.startswith("reprkit-"):
            assert {"reprkit/reporting/page.css", "reprkit/_recipes/latent_swap.py"} <= set(names)
        assert not [name for name in names if name.startswith("tests")]


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(python, tmp_path):
    def ask(*command):
        done = run([python, "-P", *command], cwd=tmp_path, PYTHONPATH="", OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = ask("-c", "import reprkit; print(reprkit.__version__, reprkit.__file__)").split()
    assert where[0] == "0.2.0"
    assert where[1].startswith(str(python.parents[1]))
    plugins = json.loads(ask("-m", "reprkit", "plugins", "--json"))
    found = {each["distribution"]: each["version"] for each in plugins if "distribution" in each}
    names = [f"reprkit-{name}" for name in ("vision", "audio", "text")]
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, "0.2.0")
    short = ("--steps", "30", "--latents", "gaussian(dim=4)", "--latents", "vq(codes=16)", "--width", "4")
    printed = ask(
        "-m", "reprkit", "run", "latent_swap", *short, "--measures", "reconstruction", "--out", "swap"
    )
    assert "vq(codes=16)" in printed
    assert "reconstruction error" in printed
    assert (tmp_path / "swap" / "report.html").stat().st_size > 100_000
