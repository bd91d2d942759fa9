"""What importing and listing load: no torch.  Each test runs in a new interpreter; times are in benchmarks/bench_plugins.py."""

import itertools
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import reprkit
from reprkit.testing.fake_installs import Site

ROOT = Path(reprkit.__file__).parents[1]
HEAVY = ("torch", "sklearn", "scipy", "numpy", "matplotlib", "accelerate", "einops", "jaxtyping", "pandas")
PLUGIN = """
    from reprkit import Spec, hookimpl

    @hookimpl
    def reprkit_latents():
        yield Spec("latent-{0}", "budget_{0}_parts:Latent", "One of fifty", ("torch", "sklearn.cluster"))

    @hookimpl
    def reprkit_commands():
        yield Spec("command-{0}", "budget_{0}_parts:command", "One of fifty")
"""


def run_python(code: str, *paths: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REPRKIT_")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*paths, ROOT)))
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def fifty_plugins(tmp_path_factory) -> Path:
    site = Site(tmp_path_factory.mktemp("fifty"))
    for index in range(50):
        site.add(f"budget-{index}", PLUGIN.format(index))
    return site.root


@pytest.mark.parametrize(
    "code",
    [
        "import reprkit",
        "import reprkit as rk; rk.Spec; rk.hookimpl; rk.ReprkitError; rk.__version__; dir(rk)",
        "from reprkit.registry.registry import default_registry; default_registry().find('latent', 'vq')",
        "from reprkit.testing.fake_installs import Site",
        *(
            f"from reprkit.commands.main import main\ntry: main({args!r})\nexcept SystemExit as e: assert not e.code"
            for args in (
                ["plugins"],
                ["plugins", "--json"],
                ["plugins", "--why", "reprkit"],
                ["list"],
                ["list", "latents", "--json"],
                ["show", "latent", "vq"],
                ["show", "dataset", "digits", "--json"],
                ["show", "latent", "latent-7"],
                ["runs", "."],
                ["--help"],
                ["--version"],
            )
        ),
    ],
)
def test_no_heavy_module_is_imported(code, fifty_plugins):
    done = run_python(
        f"{code}\nimport sys\nprint('heavy:', [m for m in {HEAVY!r} if m in sys.modules])", fifty_plugins
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy: []\n"), done.stdout


def test_import_reprkit_is_fast():
    done = run_python(
        "import sys; before = set(sys.modules); import reprkit; print(*sorted(set(sys.modules) - before))"
    )
    ours = [name for name in done.stdout.split() if name.startswith("reprkit")]
    assert ours == ["reprkit"]
    assert not {"rich", "typer", "pluggy", "importlib.metadata"} & set(done.stdout.split())


def test_plugin_that_imports_torch_is_noted(tmp_path):
    site = Site(tmp_path)
    (tmp_path / "torch.py").write_text(
        ""
    )  # a stand-in: the remark is about the name, and the real one takes seconds
    site.add("slow", PLUGIN.format("slow").replace("from reprkit", "import torch\n    from reprkit", 1))
    done = run_python("from reprkit.commands.main import main; main(['plugins'])", tmp_path)
    assert "its plugin module imports torch, which slows every command down" in done.stdout, done
    assert "slow" in done.stdout


def test_public_names_are_not_modules():
    """``reprkit.loop`` must remain the function: importing a module of that name would replace it."""
    package = Path(reprkit.__file__).parent
    for name in reprkit.__all__:
        assert not (package / f"{name}.py").exists(), name
        assert not (package / name).exists(), name
    assert sorted(reprkit.__all__) == sorted(itertools.chain.from_iterable(reprkit._PUBLIC_NAMES.values()))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "after every module", "backwards"])
def test_every_public_name_is_a_class_or_a_function(order):
    code = f"""
import importlib, pkgutil, reprkit
if {order!r} == "after every module":
    for each in pkgutil.walk_packages(reprkit.__path__, "reprkit."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
names = list(reprkit.__all__)
for name in names[::-1] if {order!r} == "backwards" else names:
    print(name, callable(getattr(reprkit, name)), type(getattr(reprkit, name)).__name__)
for name in names:
    namespace = {{}}
    exec(f"from reprkit import {{name}}", namespace)
    assert namespace[name] is getattr(reprkit, name)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == len(reprkit.__all__)
    assert [line for line in lines if line[1] != "True" or line[2] == ModuleType.__name__] == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data.Tensors", "type"),
        ("training.Run", "type"),
        ("evaluation.evaluate", "function"),
        ("reporting.compare", "function"),
        ("sklearn.Representation", "type"),
        ("testing.LatentConformance", "type"),
        ("errors.DataError", "type"),
    ],
)
@pytest.mark.slow
def test_sub_packages_resolve_in_a_fresh_process(name, kind):
    done = run_python(f"import reprkit as rk; print(type(rk.{name}).__name__)")
    assert done.stdout.split() == [kind], done.stderr


@pytest.mark.slow
def test_every_sub_package_of_the_library_resolves():
    """In one process that imports each only by attribute access; internal packages are imported explicitly."""
    packages = {module.name for module in pkgutil.iter_modules(reprkit.__path__) if module.ispkg}
    internal = {"checkpoints", "commands", "kernels", "models", "registry", "runs", "utils"}
    assert packages - internal <= reprkit._SUBMODULES
    names = sorted(reprkit._SUBMODULES)
    done = run_python(f"import reprkit as rk\nfor name in {names!r}: print(getattr(rk, name).__name__)")
    assert done.stdout.split() == [f"reprkit.{name}" for name in names], done.stderr


def test_missing_run_is_not_an_attribute_error():
    done = run_python("import reprkit as rk\nrk.training.Run('nowhere')")
    assert "AttributeError" not in done.stderr
    assert "nowhere" in done.stderr


EAGER_IN_EVERY_ORDER = """
import importlib, os, sys
import numpy, torch  # once, so that each forked process is fast
import reprkit
os.environ["EAGER_IMPORT"] = "1"  # lazy_loader's variable: the packages below resolve all their names at once
for module in sorted({*reprkit._PUBLIC_NAMES, *reprkit._SUBMODULES}):
    if (child := os.fork()) == 0:
        importlib.import_module(f"reprkit.{module}")
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print(module)
print("done")
"""


@pytest.mark.slow
def test_eager_imports_work():
    """lazy_loader's environment variable for finding errors in modules that are not used yet."""
    done = run_python(
        "import reprkit, sys; print('reprkit.checkpoints.save_load' in sys.modules)", EAGER_IMPORT="1"
    )
    assert done.stdout.split() == ["True"], done.stderr


@pytest.mark.slow
def test_eager_imports_work_whichever_module_comes_first():
    """lazy_loader resolves names in the order of a set, which changes from process to process."""
    done = run_python(EAGER_IN_EVERY_ORDER)
    assert done.stdout.split() == ["done"], done.stderr


def test_type_checkers_see_every_public_name():
    source = Path(reprkit.__file__).read_text(encoding="utf-8")
    seen = source.partition("if TYPE_CHECKING:")[2].partition("__version__")[0]
    imported = {
        line.split()[1].removeprefix("reprkit."): {
            name.strip() for name in line.partition(" import ")[2].split(",")
        }
        for line in seen.splitlines()
        if line.strip().startswith("from reprkit.")
    }
    assert imported == {module: set(names) for module, names in reprkit._PUBLIC_NAMES.items()}


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(
        AttributeError, match=r"module 'reprkit' has no attribute 'buld'\. Did you mean 'build'\?"
    ):
        _ = reprkit.buld
    with pytest.raises(AttributeError, match=r"no attribute '__path_of_nothing__'$"):
        _ = reprkit.__path_of_nothing__
    assert set(itertools.chain(reprkit.__all__, ["__version__"])) <= set(dir(reprkit))
