"""Look-up: names, clashes, error messages, loading classes, registering by hand."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from reprkit.errors import PartImportError, PluginError, UnknownPartError
from reprkit.registry.discovery import InstalledPlugin
from reprkit.registry.hookspecs import Spec, hookimpl
from reprkit.registry.lookup import parse_kind
from reprkit.registry.references import Reference
from reprkit.registry.registry import Registry, default_registry, using_registry

GOOD = """
    from reprkit import Spec, hookimpl

    @hookimpl
    def reprkit_latents():
        yield Spec("sphere", "acme_sphere:FSQ", "Finite scalar quantisation", ("math", "no_such_library"))
        yield Spec("cube", "acme_sphere:Absent")
"""


def plugin_of(registry: Registry, distribution: str) -> InstalledPlugin:
    (row,) = [row for row in registry.plugins if row.distribution == distribution]
    return row


def hooks(**specs: list[object]) -> SimpleNamespace:
    """Return a plugin object: ``hooks(latents=[Spec(...)])``."""
    plugin = SimpleNamespace()
    for kind, offered in specs.items():
        setattr(plugin, f"reprkit_{kind}", hookimpl(lambda offered=tuple(offered): offered))
    return plugin


def test_valid_plugin_is_registered(site):
    site.add("Acme_Latents", GOOD, version="0.3.1", modules={"acme_sphere": "class FSQ: pass"})
    registry = Registry()
    row = plugin_of(registry, "acme-latents")
    assert (row.name, row.version, row.status, row.reason) == ("Acme_Latents", "0.3.1", "ok", "")
    assert row.offers == {"latent": ("sphere", "cube")}
    assert "acme_sphere" not in sys.modules
    for spelling in (
        "sphere",
        "acme-latents/sphere",
        "Acme.Latents/sphere",
        "sphere(levels=(8, 5))",
        Reference("sphere"),
    ):
        found = registry.find("latent", spelling)
        assert (found.qualified, found.version, found.missing) == (
            "acme-latents/sphere",
            "0.3.1",
            ("no_such_library",),
        )
    assert "acme_sphere" not in sys.modules
    cls = registry.load("latents", "sphere")
    assert cls.__name__ == "FSQ"
    assert (
        registry.qualified_name_of(cls) == registry.qualified_name_of(cls, "latent") == "acme-latents/sphere"
    )
    assert registry.qualified_name_of(cls, "encoder") is None
    assert registry.qualified_name_of(dict) is None


def test_reexported_class_is_recognized(site):
    plugin = GOOD.replace("acme_sphere:FSQ", "acme_pkg:FSQ")
    inner = {"acme_pkg.__init__": "from acme_pkg.inner import FSQ", "acme_pkg.inner": "class FSQ: pass"}
    site.add("acme-latents", plugin, modules=inner)
    registry = Registry()
    assert registry.qualified_name_of(registry.load("latent", "sphere")) == "acme-latents/sphere"


def test_name_clash_affects_only_the_ambiguous_name(site):
    site.add("acme-latents", GOOD, modules={"acme_sphere": "class FSQ: pass"}, version="1.2")
    site.add("other", GOOD.replace('"cube"', '"vq"'), version="3.4")
    registry = Registry()
    assert registry.load("latent", "acme-latents/sphere").__name__ == "FSQ"
    assert registry.find("latent", "other/sphere").version == "3.4"
    assert registry.find("latent", "cube").qualified == "acme-latents/cube"
    assert registry.find("latent", "gaussian").qualified == "reprkit/gaussian"
    with pytest.raises(UnknownPartError) as caught:
        registry.find("latent", "sphere(levels=(2,))")
    assert "acme-latents 1.2, other 3.4" in str(caught.value)
    assert "acme-latents/sphere or other/sphere" in str(caught.value)
    with pytest.raises(UnknownPartError, match=r"other/vq or reprkit/vq"):
        registry.find("latent", "vq")
    with pytest.raises(
        UnknownPartError, match=r"known: acme-latents/sphere, binary, .* other/sphere, other/vq, reprkit/vq"
    ):
        registry.find("latent", "nothing-like-it")


def test_look_up_error_explains_distributions(site):
    site.add("acme-latents", GOOD)
    site.add("bad-one", "import no_such_module_at_all")
    registry = Registry()

    def error_message(kind: str, name: str) -> str:
        with pytest.raises(UnknownPartError) as caught:
            registry.find(kind, name)
        return str(caught.value)

    text = error_message("latent", "acme-latent/sphere")
    assert "no latent named 'acme-latent/sphere'. Did you mean 'acme-latents'?" in text
    assert (
        "no plugin distribution 'acme-latent' is installed; there are acme-latents, bad-one, reprkit" in text
    )
    assert "Did you mean 'sphere'?\n  acme-latents offers: cube, sphere" in error_message(
        "latent", "acme-latents/sphereq"
    )
    assert "bad-one" not in error_message(
        "latent", "acme-latents/sphereq"
    )  # it is not the distribution asked for
    assert "acme-latents is installed and offers no decoder" in error_message("decoder", "acme-latents/wave")
    assert "plugin bad-one 0.1.0 failed to load" in error_message("latent", "bad-one/x")
    assert "'mlp' is the name of an encoder and a decoder" in error_message("latent", "mlp")
    assert "Did you mean 'latent'?" in error_message("latnt", "vq")


def test_error_lists_few_broken_plugins(site):
    for index in range(6):
        site.add(f"bad-{index}", "raise OSError('libfoo')")
    with pytest.raises(UnknownPartError) as caught:
        Registry().find("latent", "nothing-like-it")
    assert str(caught.value).count("failed to load") == 3
    assert "3 more plugins are not available" in str(caught.value)


def test_import_errors_of_a_part_are_explained(site):
    site.add(
        "acme-latents",
        GOOD,
        modules={"acme_sphere": "import no_such_library\nclass FSQ: pass"},
        version="0.3.1",
    )
    registry = Registry()
    with pytest.raises(PartImportError) as caught:
        registry.load("latent", "sphere")
    text = str(caught.value)
    assert "latent acme-latents/sphere 0.3.1 cannot be imported from acme_sphere" in text
    assert "ModuleNotFoundError: No module named 'no_such_library'" in text
    assert "it requires no_such_library, not installed here" in text
    assert "reprkit show latent acme-latents/sphere" in text
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_missing_class(site):
    site.add(
        "acme-latents", GOOD, modules={"acme_sphere": "class Absents: pass\ndef FSQ(): pass"}, version="0.3.1"
    )
    registry = Registry()
    with pytest.raises(
        PartImportError,
        match=r"acme_sphere has no 'Absent'\. Did you mean 'Absents'\?\n.*acme-latents 0\.3\.1",
    ):
        registry.load("latent", "cube")
    with pytest.raises(PartImportError, match="a function and not a class"):
        registry.load("latent", "sphere")


def test_register():
    registry = Registry(builtin=False, installed=False)
    assert registry.plugins == ()
    row = registry.register(
        hooks(latents=[Spec("mine", "collections:OrderedDict")]), name="My_Recipe", version="2"
    )
    assert (row.distribution, row.version, row.status) == ("my-recipe", "2", "ok")
    assert registry.load("latent", "my-recipe/mine").__name__ == "OrderedDict"
    registry.register(
        hooks(latents=[Spec("yours", "collections:OrderedDict")]), name="my-recipe"
    )  # as when a notebook cell is run again
    assert [each.name for each in registry.specs("latent")] == ["yours"]
    module = ModuleType("inline")
    module.reprkit_encoders = hookimpl(lambda: [Spec("e", "a:B")])
    registry.register(module, name="inline")
    assert registry.find("encoder", "e").qualified == "inline/e"
    with pytest.raises(PluginError, match="which is not a Spec"):
        registry.register(hooks(latents=["mine"]), name="bad")
    assert len(registry.plugins) == 2
    with pytest.raises(PluginError, match="is installed under the name 'reprkit'"):
        Registry(installed=False).register(hooks(latents=[]), name="reprkit")


def test_using_registry_replaces_the_process_wide_one():
    before = default_registry()
    assert default_registry() is before
    mine = Registry(installed=False)
    with using_registry(mine) as inside:
        assert inside is mine is default_registry()
        with using_registry():
            assert default_registry() is not mine
        assert default_registry() is mine
    assert default_registry() is before


def test_parse_kind():
    assert parse_kind("latent") == parse_kind("latents") == "latent"
    with pytest.raises(UnknownPartError, match=r"Did you mean 'objective'\?"):
        parse_kind("objectivs")
