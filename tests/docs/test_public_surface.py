"""Every public name has a page, and plugins, recipes and templates import nothing beyond the public surface."""

import ast
import importlib
import re
from pathlib import Path

import public_surface  # docs/ is on pytest's path
import pytest

import reprkit as rk

pytest.importorskip("griffe", reason="of the extra docs")
import reference_pages

ROOT = Path(__file__).parents[2]

PUBLIC = {"reprkit", *(f"reprkit.{package}" for package in reference_pages.PACKAGES)}


def page(name):
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def documents(text, value, name):
    """Whether a page has the directive of a value, or its signature where that exists only at run time."""
    return (
        f"::: {reference_pages.target(value, name)}\n" in text
        or f"```python\n{name.rpartition('.')[2]}(\n" in text
    )


@pytest.mark.parametrize("name", rk.__all__)
def test_a_public_name_has_a_page(name):
    assert documents(page(reference_pages.page_of(name)), getattr(rk, name), f"reprkit.{name}")
    assert f"`rk.{name}`" in page("index.md")


@pytest.mark.parametrize("package", reference_pages.PACKAGES)
def test_every_name_of_a_public_package_is_on_its_page(package):
    text = page(f"{package}.md")
    module = importlib.import_module(f"reprkit.{package}")
    names = reference_pages.public_names(package)
    assert names
    for name in names:
        assert documents(text, getattr(module, name), f"reprkit.{package}.{name}")


def test_every_part_of_reprkit_and_its_plugins_has_a_section():
    found = list(reference_pages.parts_of_ours())
    assert {each.distribution for each in found} == set(reference_pages.OURS)
    for each in found:
        assert f"\n## {each.name}\n" in page(f"parts/{each.kind}s.md"), f"{each.kind} {each.qualified}"


@pytest.mark.parametrize(
    ("module", "name"), [(m, n) for m, names in public_surface.modules().items() for n in names]
)
def test_a_name_of_the_surface_exists_and_says_what_it_is(module, name):
    value = getattr(importlib.import_module(module), name)
    assert public_surface.summary(value).strip("`")


def attributes(nodes, variable):
    """The attributes that are read from a variable."""
    return [
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == variable
    ]


def imported(path):
    """(module, name) of every name of reprkit that a file uses; a template is Python once its placeholders are words.

    Of an imported module of the surface, such as ``from reprkit.data import sound``, the attributes that are read count.
    """
    text = re.sub(r"\$\{?\w+\}?", "word", path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "reprkit":
            for alias in node.names:
                if (module := f"{node.module}.{alias.name}") in public_surface.modules():
                    variable = alias.asname or alias.name
                    yield from ((module, attribute) for attribute in attributes(nodes, variable))
                else:
                    yield node.module, alias.name
        elif isinstance(node, ast.Import):
            yield from ((a.name, None) for a in node.names if a.name.startswith("reprkit."))


FILES = [
    *ROOT.glob("plugins/*/src/**/*.py"),
    *ROOT.glob("recipes/*.py"),
    *ROOT.glob("reprkit/templates/**/*.py.tmpl"),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_beyond_the_surface_is_imported(path):
    surface = public_surface.modules()
    for module, name in imported(path):
        if module in PUBLIC:
            public = (
                rk.__all__ if module == "reprkit" else reference_pages.public_names(module.partition(".")[2])
            )
            allowed = name is None or name in public or f"reprkit.{name}" in PUBLIC
        else:
            allowed = name is not None and name in surface.get(module, ())
        assert allowed, f"{module}: {name} is not in docs/public_surface.py"


def test_the_check_sees_an_import_beyond_the_surface(tmp_path):
    (tmp_path / "part.py").write_text(
        "from reprkit.training.engine import Engine\nimport reprkit.models.model\n"
    )
    assert list(imported(tmp_path / "part.py")) == [
        ("reprkit.training.engine", "Engine"),
        ("reprkit.models.model", None),
    ]
