"""No process started by reprkit imports a module from the current folder: every way to start one, run in a folder of traps."""

import ast
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from reprkit.utils.spawning import keep_safe_path_local, safe_path

ROOT = Path(__file__).parents[2]
TRAPS = (
    *("json", "multiprocessing", "pickle", "random", "socket", "importlib", "subprocess", "warnings"),
    *("numpy", "torch", "soundfile", "scipy", "typer", "pluggy", "reprkit", "reprkit_audio", "reprkit_text"),
)
HEAD = "import os, sys\nassert os.getcwd() not in sys.path and '' not in sys.path\n"

# What each program prints shows that its processes did their work.
PROGRAMS = {
    "ranks": "from reprkit.testing.processes import ranks\nif __name__ == '__main__':\n    print(ranks(2, pow, 2))",
    "pool": "from reprkit.testing.pool import together\nif __name__ == '__main__':\n    print(together(2, pow, 2))",
    "check": "from reprkit.testing.base import heavy_imports\nprint(heavy_imports('reprkit.registry.builtins'))",
    **{
        f"workers-{method}": f"""
import multiprocessing
import torch
from reprkit.data import Field, Signature, Tensors
from reprkit.data.loading.workers import prefetch
if __name__ == "__main__":
    multiprocessing.set_start_method({method!r})
    data = Tensors(dict(x=torch.arange(4.0)[:, None]), Signature(dict(x=Field(kind="vector", shape=(1,)))))
    tasks = [(0, torch.tensor([0, 1]), None), (1, torch.tensor([2, 3]), None)]
    print([batch["x"].flatten().tolist() for batch in prefetch(data, tasks, 0, 0, 1, False)])
"""
        for method in ("spawn", "forkserver", "fork")
    },
    "features": """
import os
from pathlib import Path
from reprkit_audio.data import features
from reprkit_audio.data.clips import Clip
from reprkit_audio.frontends import frontend
os.sched_getaffinity = lambda process: {0, 1}
features.PARALLEL_FROM = 0.0
features._compute = None  # the helpers do all of it
clips = [Clip(path=Path(os.environ["SOUND"]), speaker="a")]
front = frontend("log-mel")
features._compute_missing(clips, front, False)
print(features.cache_path(clips[0], front, False).exists())
""",
}
EXPECTED = {
    **dict.fromkeys(("ranks", "pool"), "[0, 1]"),
    **dict.fromkeys(("workers-spawn", "workers-forkserver", "workers-fork"), "[[0.0, 1.0], [2.0, 3.0]]"),
    "check": "()",
    "features": "True",
}


@pytest.fixture
def trap(tmp_path):
    """A folder of modules that write a file when imported."""
    folder = tmp_path / "trap"
    for name in TRAPS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"open({str(tmp_path)!r} + '/caught-{name}', 'w').close()\n"
        )
    return folder


def trapped_modules(trap):
    return sorted(path.name for path in trap.parent.glob("caught-*"))


def start(trap, *command, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"REPRKIT_CACHE": str(trap.parent / "cache"), **variables}
    return subprocess.run(command, cwd=trap, env=environment, capture_output=True, text=True, timeout=240)


def test_traps_work(trap):
    start(trap, sys.executable, "-c", "from multiprocessing.spawn import spawn_main")
    assert trapped_modules(trap) == ["caught-multiprocessing"]


@pytest.mark.slow
@pytest.mark.parametrize("route", PROGRAMS)
def test_new_processes_import_nothing_from_the_current_folder(route, trap):
    soundfile = pytest.importorskip("soundfile")
    sound = trap.parent / "sound.wav"
    soundfile.write(sound, np.sin(np.arange(16000) / 9), 16000)
    program = trap.parent / "program" / "main.py"
    program.parent.mkdir()
    program.write_text(HEAD + PROGRAMS[route])
    done = start(trap, sys.executable, str(program), SOUND=str(sound))
    assert done.stdout.strip() == EXPECTED[route], done.stderr
    assert trapped_modules(trap) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("plugins",),
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (("recipes",), ("run", "latent_swap", "--help"))
        ),
    ],
)
def test_command_imports_nothing_from_the_current_folder(arguments, trap):
    command = Path(sysconfig.get_path("scripts")) / "reprkit"
    done = start(trap, str(command), *arguments)
    assert done.returncode == 0, done.stderr
    assert trapped_modules(trap) == []


def test_variable_is_set_only_inside_the_context(monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with safe_path():
        assert os.environ["PYTHONSAFEPATH"]
        with safe_path():
            pass
        assert os.environ["PYTHONSAFEPATH"]
    assert "PYTHONSAFEPATH" not in os.environ


def test_value_set_by_the_user_is_preserved(monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with safe_path():
        keep_safe_path_local()
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ["PYTHONSAFEPATH"] == "1"
    monkeypatch.delenv("PYTHONSAFEPATH")
    with safe_path():
        monkeypatch.setenv("INHERITED", os.environ["PYTHONSAFEPATH"])
    monkeypatch.setenv("PYTHONSAFEPATH", os.environ["INHERITED"])
    keep_safe_path_local()
    assert "PYTHONSAFEPATH" not in os.environ


STARTERS = {"Pool", "Process", "ProcessPoolExecutor", "DataLoader", "start_processes"}


def unsafe_lines(source):
    """Lines that start Python with the current folder on its path: ``sys.executable`` without ``-P``, or multiprocessing
    in a module that does not use ``safe_path``."""
    tree = ast.parse(source)
    found = []
    starters = []
    guarded = False
    safe = set()
    for node in ast.walk(tree):
        match node:
            case (
                ast.List(elts=[first, ast.Constant("-P"), *_])
                | ast.Tuple(elts=[first, ast.Constant("-P"), *_])
            ):
                safe.add(first)
            case ast.Attribute(value=ast.Name("sys"), attr="executable") if node not in safe:
                found.append(node.lineno)
            case ast.Call(func=ast.Attribute(value=ast.Name("psutil"))):
                pass  # psutil.Process starts nothing
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in STARTERS:
                starters.append(node.lineno)
            case ast.Call(func=ast.Name("safe_path")):
                guarded = True
    return found + ([] if guarded else starters)


def test_unsafe_lines_are_found():
    assert unsafe_lines('run([sys.executable, "-c", code])') == [1]
    assert unsafe_lines('command = (sys.executable, "-m", "a")\nrun(command)') == [1]
    assert unsafe_lines('run([sys.executable, "-P", "-c", code])') == []
    assert unsafe_lines("context.Process(target=f).start()") == [1]
    assert unsafe_lines("psutil.Process().create_time()") == []
    assert unsafe_lines("with safe_path():\n    context.Process(target=f).start()") == []


def test_no_source_starts_python_unsafely():
    sources = [
        path
        for folder in (ROOT / "reprkit", ROOT / "recipes", ROOT / "docs", *ROOT.glob("plugins/*/src"))
        for path in folder.rglob("*.py")
    ]
    assert len(sources) > 200
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources
        for line in unsafe_lines(path.read_text(encoding="utf-8"))
    }
    assert not found
