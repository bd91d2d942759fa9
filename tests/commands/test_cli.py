"""The command line: output, exit codes, and that it works with broken plugins."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from reprkit.commands import main
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry, using_registry

ACME = """
    from reprkit import Spec, hookimpl

    @hookimpl
    def reprkit_latents():
        summary = "Finite scalar [bold]quantisation[/bold] (arXiv 2309.15505)"
        yield Spec("sphere", "acme_pkg.sphere:FSQ", summary, ("no_such_library",))

    @hookimpl
    def reprkit_commands():
        yield Spec("listen", "acme_commands:listen", "Listen to a model")
        yield Spec("list", "acme_commands:listen", "A name that is taken")
        yield Spec("many", "acme_commands:many", "Several at once")
        yield Spec("wrong", "acme_commands:wrong", "Not a command")
"""
FSQ = '''
    """Quantises each dimension by itself.

    Paper: Mentzer et al. 2023 (arXiv 2309.15505).
    """
    import no_such_library
    from rk import Latent

    class FSQ(Latent):
        """Rounds to a grid of levels.

        Args:
            levels: how many values each dimension may take;
                more is finer.
            scale: width of the grid.
        """

        def __init__(self, data, levels: tuple[int, ...] = (8, 5), *, scale: float, clip=None): ...
'''
COMMANDS = """
    import sys
    import typer
    from reprkit.errors import DataError

    def listen(model: str, loud: bool = False, fail: bool = False):
        "Listen to a model, in full."
        if fail:
            raise DataError("no sound in it")
        print("listening to", model, loud)

    many = typer.Typer()
    wrong = 3

    @many.command()
    def one():
        print("one")

    @many.command()
    def two():
        print("two")
"""


@pytest.fixture
def acme(site):
    modules = {
        "acme_pkg.__init__": "raise ImportError('showing a part must not import its package')",
        "acme_pkg.sphere": FSQ,
    }
    site.add("acme-latents", ACME, version="0.3.1", modules=modules | {"acme_commands": COMMANDS})
    site.add(
        "bad-one",
        "raise OSError('libfoo.so: [Errno 2] cannot open')",
        entry_points={"worse": "bad_one_plugin"},
    )
    return site


@pytest.fixture
def run(capsys):
    def call(*args: str) -> tuple[int, str, str]:
        with using_registry(Registry()), pytest.raises(SystemExit) as exited:
            main.main(args)
        out, err = capsys.readouterr()
        return exited.value.code or 0, out, err

    return call


def test_plugins(acme, run):
    code, out, err = run("plugins")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["plugin", "version", "status", "offers", "reason"]
    assert any(line.split()[:3] == ["acme-latents", "(acme)", "0.3.1"] and " ok " in line for line in lines)
    assert "latent sphere; commands listen, list, many, wrong" in out
    assert any(
        line.startswith("bad-one (worse)") and "broken" in line and "OSError: libfoo.so: [Errno 2]" in line
        for line in lines
    )


def test_plugins_json(acme, run):
    rows = {row["distribution"]: row for row in json.loads(run("plugins", "--json")[1])}
    assert rows["acme-latents"] == {
        "name": "acme",
        "distribution": "acme-latents",
        "version": "0.3.1",
        "status": "ok",
        "offers": {"latent": ["sphere"], "command": ["listen", "list", "many", "wrong"]},
        "reason": "",
    }
    assert rows["reprkit"]["offers"]["latent"][0] == "continuous"
    assert rows["bad-one"]["status"] == "broken"


def test_plugins_why(acme, run):
    for name in ("bad-one", "Bad_One", "worse"):
        code, out, _ = run("plugins", "--why", name)
        assert code == 0
        assert "bad-one (worse) 0.1.0: broken (OSError: libfoo.so: [Errno 2] cannot open)" in out
        assert "Traceback" in out
        assert "bad_one_plugin" in out
    assert "Traceback" in json.loads(run("plugins", "--why", "bad-one", "--json")[1])[0]["details"]
    assert "latents: sphere" in run("plugins", "--why", "acme")[1]
    code, out, err = run("plugins", "--why", "acme-latent")
    assert (code, out) == (1, "")
    assert "error: no plugin named 'acme-latent' is installed. Did you mean 'acme-latents'?" in err


def test_plugins_mentions_a_mistyped_restriction(acme, run, monkeypatch):
    monkeypatch.setenv("REPRKIT_PLUGINS", "acme-latent")
    code, out, err = run("plugins")
    assert code == 0
    assert "disabled" in out
    assert (
        err == "REPRKIT_PLUGINS names 'acme-latent', which is not installed. Did you mean 'acme-latents'?\n"
    )


def test_list(acme, run):
    code, out, _ = run("list", "latents")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("sphere")]
    assert "Finite scalar [bold]quantisation[/bold] (arXiv 2309.15505)" in line
    assert line.endswith("not usable here: no_such_library missing")
    assert run("list", "latent")[1] == out
    everything = json.loads(run("list", "--json")[1])
    assert {part["kind"] for part in everything} == set(KINDS)
    (sphere,) = [part for part in everything if part["qualified"] == "acme-latents/sphere"]
    assert (sphere["name"], sphere["requires"], sphere["missing"]) == (
        "sphere",
        ["no_such_library"],
        ["no_such_library"],
    )
    assert "encoder" in run("list")[1]


def test_list_qualifies_names_that_two_plugins_offer(acme, site, run):
    site.add("other", ACME.replace("reprkit_commands", "reprkit_encoders"))
    out = run("list", "latents")[1]
    assert "acme-latents/sphere" in out
    assert "other/sphere" in out
    assert "\nvq " in out


def test_wrong_usage_exits_with_2(acme, run):
    for args in (
        ("list", "latnts"),
        ("show", "latnt", "sphere"),
        ("show", "latent"),
        ("show", "latent", "a.b:C"),
        ("--nope",),
    ):
        code, out, err = run(*args)
        assert (code, out) == (2, ""), args
        assert "Error:" in err
    assert "Did you mean 'latent'?" in run("list", "latnts")[2]


def test_unknown_command_lists_known_ones_and_broken_plugins(acme, run):
    code, _, err = run("lisen")
    assert code == 2
    assert "no command named 'lisen'. Did you mean 'listen'?" in err
    assert "known: plugins, list, show" in err
    assert "plugin bad-one 0.1.0 failed to load" in err
    code, _, err = run("Nö.pe")
    assert (code, "no command named 'Nö.pe'" in err) == (2, True)


def test_show_without_importing(acme, run):
    code, out, _ = run("show", "latents", "sphere")
    assert code == 0
    assert "no_such_library" not in sys.modules
    assert out.splitlines()[0] == "latent acme-latents/sphere 0.3.1"
    assert "sphere(levels: tuple[int, ...] = (8, 5), scale: float, clip=None)" in out
    table = [line.split() for line in out.splitlines()]
    assert ["scale", "float", "must", "be", "given", "width", "of", "the", "grid."] in table
    assert "how many values each dimension may take; more is finer." in out
    assert "about: Rounds to a grid of levels." in out
    assert "paper: Paper: Mentzer et al. 2023" not in out
    assert "paper: Mentzer et al. 2023 (arXiv 2309.15505)." in out
    assert "requires: no_such_library (missing)" in out

    data = json.loads(run("show", "latent", "acme-latents/sphere", "--json")[1])
    assert data["qualified"] == "acme-latents/sphere"
    assert data["papers"] == ["Mentzer et al. 2023 (arXiv 2309.15505)."]
    assert data["requires"] == {"no_such_library": False}
    assert [argument["name"] for argument in data["arguments"]] == ["data", "levels", "scale", "clip"]
    assert [argument["handed_over"] for argument in data["arguments"]] == [True, False, False, False]
    assert data["arguments"][2] == {
        "name": "scale",
        "type": "float",
        "default": None,
        "required": True,
        "handed_over": False,
        "help": "width of the grid.",
    }


def test_show_an_unknown_part(acme, run):
    code, out, err = run("show", "latent", "sphereq")
    assert (code, out) == (1, "")
    assert err.startswith("error: no latent named 'sphereq'. Did you mean 'sphere'?\n")
    assert "see: reprkit plugins --why bad-one" in err


def test_plugin_commands_are_imported_when_called(acme, run):
    help_text = run("--help")[1]
    assert "Listen to a model" in help_text
    assert "acme-latents/list" in help_text
    assert "acme_commands" not in sys.modules
    assert run("listen", "runs/a", "--loud") == (0, "listening to runs/a True\n", "")
    assert run("acme-latents/listen", "runs/a")[1] == "listening to runs/a False\n"
    assert run("acme-latents/list", "runs/b")[1] == "listening to runs/b False\n"
    assert "Listen to a model, in full." in run("listen", "--help")[1]
    assert "completion" not in run("many", "--help")[1]
    assert run("many", "two")[1] == "two\n"
    assert run("listen")[0] == 2
    assert run("listen", "x", "--fail") == (1, "", "error: no sound in it\n")
    code, _, err = run("wrong")
    assert code == 1
    assert "command acme-latents/wrong 0.3.1 is registered as acme_commands:wrong, of type int" in err


def test_plugin_errors_can_be_raised(acme, monkeypatch):
    monkeypatch.setenv("REPRKIT_PLUGIN_ERRORS", "raise")
    from reprkit.errors import PluginError

    with using_registry(Registry()), pytest.raises(PluginError, match=r"libfoo\.so"):
        main.main(["plugins"])


def test_help_of_each_command_begins_with_its_summary(run):
    for name, (module, summary) in main.COMMANDS.items():
        target = importlib.import_module(module).command
        if isinstance(target, typer.Typer):
            target = (target.registered_callback or target.registered_commands[0]).callback
        doc = target.__doc__
        assert doc.splitlines()[0].rstrip(".") == summary
        assert summary.split(":")[0] in run(name, "--help")[1]


def test_version(run):
    assert run("--version") == (0, f"reprkit {__import__('reprkit').__version__}\n", "")


def test_shell_completion_of_names(acme, tmp_path):
    import os

    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(main.__file__).parents[2])]),
        "_REPRKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "reprkit show latent sp",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-m", "reprkit"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["sphere"], done


def test_rich_table_keeps_brackets(monkeypatch, capsys):
    from reprkit.commands import output

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.emit_table(("a", "b", "empty"), [("tuple[int, ...]", "[bold]x[/bold]", "")])
    out = capsys.readouterr().out
    assert "tuple[int, ...]" in out
    assert "[bold]x[/bold]" in out
    assert "empty" not in out
