"""Discovery through real entry points of temporary distributions: a broken plugin does not affect others."""

import builtins
import sys
import textwrap
import threading
from types import ModuleType

import pytest

from reprkit.errors import PluginError, UnknownPartError
from reprkit.registry import hookspecs
from reprkit.registry.builtins import __name__ as builtin_name
from reprkit.registry.discovery import InstalledPlugin
from reprkit.registry.hookspecs import API, KINDS, Spec, hookimpl
from reprkit.registry.registry import Registry, using_registry

GOOD = """
from reprkit import Spec, hookimpl

@hookimpl
def reprkit_latents():
    yield Spec("sphere", "acme_sphere:FSQ")
    yield Spec("cube", "acme_sphere:LFQ")
"""


def plugin_of(registry: Registry, distribution: str) -> InstalledPlugin:
    (row,) = [row for row in registry.plugins if row.distribution == distribution]
    return row


def latents(body: str, mark: str = "@hookimpl", hook: str = "reprkit_latents()") -> str:
    """Source of a plugin module with one hook that has this body."""
    return f"from reprkit import hookimpl, Spec\n{mark}\ndef {hook}:\n    {body}\n"


FAULTS = {
    "import-error": (
        "import no_such_module_at_all",
        "ModuleNotFoundError: No module named 'no_such_module_at_all'",
    ),
    "native-library": (
        "raise OSError('libfoo.so: cannot open shared object')",
        "OSError: libfoo.so: cannot open",
    ),
    "runtime": ("raise RuntimeError('CUDA driver\\nis too old')", "RuntimeError: CUDA driver is too old"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "syntax": ("def broken(:", "SyntaxError: "),
    "no-hook": ("x = 1", "it has no hook"),
    "unmarked": (latents("return []", mark=""), "reprkit_latents is not marked as a hook: put @hookimpl"),
    "takes-arguments": (latents("return []", hook="reprkit_latents(registry)"), "PluginValidationError: "),
    "wrong-hook": (
        latents("return []", hook="reprkit_latent()"),
        "there is no hook 'reprkit_latent'. Did you mean 'reprkit_latents'?",
    ),
    "wrong-type": (latents("yield 'sphere'"), "reprkit_latents yielded str 'sphere', which is not a Spec"),
    "not-a-list": (latents("return Spec('a', 'b:C')"), "reprkit_latents returned Spec Spec(name='a'"),
    "none": (latents("pass"), "reprkit_latents returned None: yield each Spec"),
    "bad-name": (
        latents("yield Spec('One_Hot', 'b:C')"),
        "Spec name 'One_Hot' is not made of lower-case letters",
    ),
    "bad-build": (
        latents("yield Spec('a', 'module.Class')"),
        "build 'module.Class' is not of the form 'package.module:Class'",
    ),
    "bad-requires": (
        latents("yield Spec('a', 'b:C', '', 'torchaudio')"),
        "requires is a tuple of import names: ('torchaudio',)",
    ),
    "bad-summary": (
        latents("yield Spec('a', 'b:C', 'two\\nlines')"),
        "the summary must be one line of text",
    ),
    "twice": (
        latents("return [Spec('a', 'b:C'), Spec('a', 'b:D')]"),
        "reprkit_latents offers 'a' twice in one distribution",
    ),
    "dies-while-yielding": (latents("yield Spec('a', 'b:C'); 1 / 0"), "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_plugin_is_listed_with_its_reason(site, fault):
    text, reason = FAULTS[fault]
    site.add("bad-one", text)
    site.add("acme-latents", GOOD)
    site.add("zeta", GOOD.replace('"sphere"', '"zeta-sphere"').replace('"cube"', '"zeta-cube"'))
    registry = Registry()
    row = plugin_of(registry, "bad-one")
    assert row.status == "broken"
    assert reason in row.reason
    assert "\n" not in row.reason
    assert row.offers == {}
    if ":" in reason.split(" ")[0]:  # another's exception keeps its traceback
        assert "Traceback" in row.details
    for name in (
        "vq",
        "sphere",
        "zeta-sphere",
    ):  # neither the built-ins nor plugins before and after it are hurt
        assert registry.find("latent", name).name == name
    with pytest.raises(UnknownPartError) as caught:
        registry.find("latent", "sphereq")
    first, *rest = str(caught.value).splitlines()
    assert first == "no latent named 'sphereq'. Did you mean 'sphere'?"
    assert rest[0].startswith("  known: binary, ")
    assert ", continuous, cube, " in rest[0]
    assert rest[1] == f"  plugin bad-one 0.1.0 failed to load ({row.reason}) and may provide it"
    assert rest[2] == "  see: reprkit plugins --why bad-one"


def test_entry_points_without_target(site):
    site.add("gone", entry_points={"gone": "gone_module_that_is_not_there"})
    site.add("attr", "x = 1", entry_points={"attr": "attr_plugin:absent"})
    site.add("cls", "class Plugin: pass", entry_points={"cls": "cls_plugin:Plugin"})
    site.add("odd", entry_points={"odd": "not a module!"})
    registry = Registry()
    assert "gone_module_that_is_not_there" in plugin_of(registry, "gone").reason
    assert "absent" in plugin_of(registry, "attr").reason
    assert "names a class, Plugin: name the module, or an instance" in plugin_of(registry, "cls").reason
    assert {plugin_of(registry, name).status for name in ("gone", "attr", "cls", "odd")} == {"broken"}


def test_unreadable_metadata(site):
    site.add("acme-latents", GOOD)
    site.add("garbled", GOOD)
    (site.root / "garbled-0.1.0.dist-info" / "entry_points.txt").write_text("[reprkit]\nno equals sign\n")
    site.add("binary-junk", GOOD)
    (site.root / "binary_junk-0.1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[reprkit]\n\xff")
    site.add("nameless", GOOD.replace('"sphere"', '"other"').replace('"cube"', '"more"'))
    (site.root / "nameless-0.1.0.dist-info" / "METADATA").unlink()
    registry = Registry()
    assert "entry_points.txt cannot be read" in plugin_of(registry, "garbled").reason
    assert registry.find("latent", "sphere").qualified == "acme-latents/sphere"
    assert registry.find("latent", "other").version == "unknown"


def test_two_entry_points_of_one_distribution(site):
    one = "from reprkit import hookimpl, Spec\n@hookimpl\ndef reprkit_{}s(): yield Spec('{}', 'b:C')"
    modules = {
        "pair_a": one.format("latent", "x"),
        "pair_b": one.format("encoder", "x"),
        "pair_c": one.format("latent", "x"),
    }
    site.add("pair", entry_points={"a": "pair_a", "b": "pair_b", "c": "pair_c"}, modules=modules)
    registry = Registry()
    rows = {row.name: row for row in registry.plugins if row.distribution == "pair"}
    assert {name: row.status for name, row in rows.items()} == {"a": "ok", "b": "ok", "c": "broken"}
    assert "offers 'x' twice in one distribution" in rows["c"].reason
    assert registry.find("latent", "x").qualified == "pair/x"


@pytest.mark.parametrize(
    ("api", "advice"), [(API + 1, "upgrade reprkit"), (API - 1, "upgrade future"), ("x", "upgrade future")]
)
def test_other_api_version_is_incompatible(site, api, advice):
    site.add("future", f"{GOOD}\nreprkit_api = {api!r}")
    registry = Registry()
    row = plugin_of(registry, "future")
    assert (row.status, row.offers) == ("incompatible", {})
    assert f"plugin API {api!r} and this reprkit supports {API}" in row.reason
    assert row.reason.endswith(advice)
    with pytest.raises(
        UnknownPartError, match=r"plugin future 0\.1\.0 is incompatible \(.*\) and may provide it"
    ):
        registry.find("latent", "sphere")


def test_environment_variable_restricts_plugins(site, monkeypatch):
    site.add("acme-latents", GOOD)
    site.add("other", "raise SystemError('must not be imported')", entry_points={"by-entry": "other_plugin"})
    monkeypatch.setenv("REPRKIT_PLUGINS", "Acme_Latents , missing-one")
    registry = Registry()
    assert registry.find("latent", "sphere").distribution == "acme-latents"
    assert (plugin_of(registry, "other").status, plugin_of(registry, "other").reason) == (
        "disabled",
        "REPRKIT_PLUGINS does not name it",
    )
    assert "other_plugin" not in sys.modules
    assert registry.unmatched == ("missing-one",)
    with pytest.raises(UnknownPartError, match=r"plugin other 0\.1\.0 is disabled"):
        registry.find("latent", "sphereq")

    monkeypatch.setenv("REPRKIT_PLUGINS", "")
    registry = Registry()
    assert plugin_of(registry, "acme-latents").status == "disabled"
    assert registry.find("latent", "vq").qualified == "reprkit/vq"  # built-ins are no third party

    monkeypatch.setenv("REPRKIT_PLUGINS", "by-entry")
    assert plugin_of(Registry(), "other").status == "broken"


def test_plugin_errors_can_be_raised(site, monkeypatch):
    site.add("bad-one", "raise OSError('libfoo.so')")
    monkeypatch.setenv("REPRKIT_PLUGIN_ERRORS", "raise")
    registry = Registry()
    for _ in range(2):  # and asking again does not show a half-filled registry
        with pytest.raises(
            PluginError, match=r"(?s)plugin bad-one 0\.1\.0 .*libfoo.*Traceback.*bad_one_plugin"
        ):
            registry.find("latent", "vq")


def test_one_plugin_cannot_disturb_another(site):
    wrapper = """
        from reprkit import hookimpl, Spec

        @hookimpl(wrapper=True)
        def reprkit_latents():
            yield
            return []
    """
    site.add("aaa", wrapper)
    site.add("acme-latents", GOOD)
    assert Registry().find("latent", "sphere").qualified == "acme-latents/sphere"


def test_plugin_that_uses_the_registry_during_import(site):
    site.add(
        "acme-latents",
        f"from reprkit.registry.registry import default_registry\ndefault_registry().specs('latent')\n{GOOD}",
    )
    with using_registry(Registry()) as registry:
        assert registry.find("latent", "sphere").qualified == "acme-latents/sphere"


def test_discovery_happens_once_under_threads(site):
    counter = "import builtins\nbuiltins._reprkit_seen = getattr(builtins, '_reprkit_seen', 0) + 1\n"
    site.add("acme-latents", counter + GOOD)
    registry = Registry()
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.append(registry.find("latent", "sphere").qualified))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["acme-latents/sphere"] * 8

    assert builtins._reprkit_seen == 1


def test_builtins_are_discovered_like_plugins():
    registry = Registry(installed=False)
    (row,) = registry.plugins
    assert (row.distribution, row.status, builtin_name) == ("reprkit", "ok", "reprkit.registry.builtins")
    assert set(row.offers) == set(KINDS) - {"command"}
    assert row.offers["latent"] == (
        "continuous",
        "gaussian",
        "binary",
        "one-hot",
        "vq",
        "residual-vq",
        "fsq",
        "lfq",
        "sim-vq",
        "top-k",
        "rounded",
    )
    for kind in row.offers:
        for found in registry.specs(kind):
            assert found.spec.summary
            assert found.missing == (), found


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_has_a_working_example(kind):
    doc = getattr(hookspecs, KINDS[kind]).__doc__
    example = textwrap.dedent(doc.partition("Example::")[2])
    module = ModuleType("example")
    exec(example, {"hookimpl": hookimpl, "Spec": Spec}, vars(module))
    registry = Registry(builtin=False, installed=False)
    (name,) = registry.register(module, name="acme").offers[kind]
    assert registry.find(kind, name).spec.summary
