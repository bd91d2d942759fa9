"""The reference: one page for each public name, and one for each kind of part; ``docs/generate.py`` writes them.

Pages of public names hold directives of mkdocstrings, which reads signatures and docstrings when the site is built.  Pages of
parts are plain Markdown, made from the registry and the sources: no part is imported.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from griffe import Docstring
from public_surface import summary

import reprkit
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry
from reprkit.registry.sources import from_build_context, read_class

PACKAGES = ("data", "training", "evaluation", "reporting", "testing", "sklearn")  # public names of their own
OURS = (
    "reprkit",
    "reprkit-vision",
    "reprkit-audio",
    "reprkit-text",
    "reprkit-compress",
    "reprkit-structure",
)  # distributions whose parts have pages


def pages() -> dict[str, str]:
    """Every page: path below docs/reference -> text."""
    made = {page_of(name): _name_page(name) for name in reprkit.__all__}
    made |= {f"{package}.md": _package_page(package) for package in PACKAGES}
    made |= {f"parts/{kind}s.md": _parts_page(kind, hook) for kind, hook in KINDS.items()}
    made["index.md"] = _index()
    return made


def page_of(name: str) -> str:
    """The page of a public name; ``Dataset`` and ``dataset`` differ where file names ignore case, too."""
    twin = name != name.lower() and name.lower() in {*reprkit.__all__, *PACKAGES}
    return f"{name}-class.md" if twin else f"{name}.md"


def public_names(package: str) -> list[str]:
    """The public names of a sub-package."""
    module = importlib.import_module(f"reprkit.{package}")
    return list(
        getattr(module, "__all__", None)
        or [n for n, v in vars(module).items() if _made_in(v, module.__name__)]
    )


def parts_of_ours() -> Iterator[Any]:
    """Every part of reprkit and of the plugins in this repository, as the registry finds it."""
    registry = Registry()
    for kind in KINDS:
        yield from (found for found in registry.specs(kind) if found.distribution in OURS)


def _made_in(value: Any, module: str) -> bool:
    public = not getattr(value, "__name__", "_").startswith("_")
    return public and inspect.isclass(value) and value.__module__ == module


def target(value: Any, name: str) -> str:
    """Where a public value is defined, as mkdocstrings names it; ``name`` itself for what reprkit does not define."""
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}.{qualified}" if module and qualified and module.startswith("reprkit") else name


def _name_page(name: str) -> str:
    return f"# rk.{name}\n\n{_directive(getattr(reprkit, name), f'reprkit.{name}')}"


def _package_page(package: str) -> str:
    module = importlib.import_module(f"reprkit.{package}")
    lines = [f"# rk.{package}", "", inspect.getdoc(module) or "", ""]
    for name in public_names(package):
        lines.append(_directive(getattr(module, name), f"reprkit.{package}.{name}"))
    return "\n".join(lines)


def _directive(value: Any, name: str) -> str:
    if "__signature__" in getattr(value, "__dict__", {}):  # made by a decorator: the source does not show it
        return _described(value)
    return f"::: {target(value, name)}\n"


def _described(value: Any) -> str:
    """Signature and docstring of a function whose signature exists only at run time, as Markdown."""
    parameters = [f"    {_parameter(each)}," for each in inspect.signature(value).parameters.values()]
    keywords = next(
        i for i, p in enumerate(inspect.signature(value).parameters.values()) if p.kind is p.KEYWORD_ONLY
    )
    parameters.insert(keywords, "    *,")
    lines = ["```python", f"{value.__name__}(", *parameters, ")", "```"]
    for section in Docstring(inspect.getdoc(value) or "", parser="google").parse(warnings=False):
        if section.kind.value == "text":
            lines += ["", section.value.replace("``", "`")]
        elif section.kind.value in ("parameters", "raises"):
            lines += ["", f"**{section.kind.value.capitalize()}**", ""]
            for each in section.value:
                text = " ".join(each.description.split()).replace("``", "`")
                lines.append(f"- `{getattr(each, 'name', each.annotation)}`: {text}")
    return "\n".join(lines) + "\n"


def _parameter(parameter: inspect.Parameter) -> str:
    annotation = inspect.formatannotation(parameter.annotation).strip("'")
    text = f"{parameter.name}: {re.sub(r'(?:[A-Za-z_]+[.])+(?=[A-Za-z_])', '', annotation)}"
    return text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"


def _parts_page(kind: str, hook: str) -> str:
    lines = [
        f"# {kind.capitalize()}s",
        "",
        f"Offered through the hook `{hook}`. `reprkit show {kind} NAME` prints the same.",
    ]
    for found in sorted(
        (each for each in parts_of_ours() if each.kind == kind),
        key=lambda f: (OURS.index(f.distribution), f.name),
    ):
        lines += ["", *part_section(found)]
    return "\n".join(lines) + "\n"


def part_section(found: Any) -> list[str]:
    """One part: its summary, arguments with their constraints, source and paper."""
    source = read_class(found.spec.build)
    lines = [f"## {found.name}", "", f"{found.spec.summary.rstrip('.')}. From `{found.distribution}`.", ""]
    if source is None:  # a command's function
        return [*lines, f"`{found.spec.build}`"]
    arguments = [
        argument for argument in source.arguments if not from_build_context(found.kind, argument.name)
    ]
    lines += [f"`{found.name}({', '.join(map(str, arguments))})`"]
    if any(argument.help for argument in arguments):
        lines += ["", *(f"- `{a.name}`: {a.help}" for a in arguments if a.help)]
    if source.papers:
        lines += ["", *(f"> {paper}" for paper in source.papers)]
    return lines


def _index() -> str:
    lines = [
        "# Reference",
        "",
        "`import reprkit as rk`. [The public surface](../api.md) lists what part authors may import besides these names.",
        "",
        "| name | what it is |",
        "|---|---|",
    ]
    for name in reprkit.__all__:
        lines.append(f"| [`rk.{name}`]({page_of(name)}) | {summary(getattr(reprkit, name))} |")
    lines += ["", "| package | names |", "|---|---|"]
    lines += [
        f"| [`rk.{package}`]({package}.md) | {', '.join(public_names(package))} |" for package in PACKAGES
    ]
    lines += ["", "| parts | names |", "|---|---|"]
    for kind in KINDS:
        names = sorted({found.name for found in parts_of_ours() if found.kind == kind})
        lines.append(f"| [{kind}s](parts/{kind}s.md) | {', '.join(names)} |")
    return "\n".join(lines) + "\n"
