"""Reads a class from its source file, without importing anything: where it is, its constructor, its papers.

``find_spec("a.b.c")`` imports ``a`` and ``a.b``; the functions here walk the folders instead, so that listing
parts stays fast and works where a part's own libraries are missing.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reprkit.registry.constraint_text import Resolver, format_annotation

_PAPER = re.compile(
    r"arxiv|doi\b|doi\.org|et al\b|\((?:[^()]*\D)?(?:19|20)\d\d[a-z]?\)|https?://", re.IGNORECASE
)

# Base classes whose constructor takes nothing.
_WITHOUT_PARAMETERS = {"nn.Module", "torch.nn.Module", "object", "ABC", "abc.ABC", "Protocol", "Generic"}


# Arguments that ``build`` hands over and nobody writes: ``reprkit.interfaces.BUILD_CONTEXT``, which needs torch.
BUILD_CONTEXT = ("data", "tokens")


def from_build_context(kind: str, name: str) -> bool:
    """Whether ``build`` gives this argument to a part of that kind; a data set's arguments are all the writer's."""
    return kind != "dataset" and name in BUILD_CONTEXT


@dataclass(frozen=True)
class Argument:
    """One constructor argument, as written in the source.

    Attributes:
        name: its name.
        annotation: as written, or None.
        default: as written; None where it must be given.
        help: what the docstring says of it.
        type: the annotation with its constraints in words, such as ``int >= 2``.
    """

    name: str
    annotation: str | None
    default: str | None
    help: str = ""
    type: str | None = None

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}" if self.type else self.name
        if self.default is None:
            return text
        return f"{text} = {self.default}" if self.type else f"{text}={self.default}"


@dataclass(frozen=True)
class ClassSource:
    """What the source says of a class.

    Attributes:
        complete: its constructor was found, and takes no other arguments (``**``).
        renamed: former name -> present name of arguments, from ``renamed_arguments`` in the class.
    """

    path: Path
    line: int
    doc: str
    papers: tuple[str, ...]
    arguments: tuple[Argument, ...]
    complete: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)


def locate(module: str) -> importlib.machinery.ModuleSpec | None:
    """The spec of a module, found without importing it or its parents; None when it is not installed."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: in sys.modules without a spec (__main__)
        return None
    name = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec


def read_class(target: str) -> ClassSource | None:
    """Read ``"module:Class"``; None where there is no source, or only running it would show the class."""
    module, _, name = target.partition(":")
    found = _find(module, name, hops=5)
    if found is None:
        return None
    home, path, tree, node = found
    doc = ast.get_docstring(node) or ""
    init = _constructor(node)
    arguments, complete = _parameters(home, node, hops=5) or ([], True)
    notes = _argument_notes(doc) | (_argument_notes(ast.get_docstring(init) or "") if init else {})
    return ClassSource(
        path=path,
        line=node.lineno,
        doc=doc,
        papers=tuple(dict.fromkeys([*_papers(ast.get_docstring(tree) or ""), *_papers(doc)])),
        arguments=tuple(replace(each, help=notes.get(each.name, "")) for each in arguments),
        complete=complete,
        renamed=_renamed(node),
    )


def _renamed(node: ast.ClassDef) -> dict[str, str]:
    """The literal that the class gives ``renamed_arguments``; empty where it gives none."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="renamed_arguments")], value=ast.Dict() as value):
                return dict(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name(id="renamed_arguments"), value=ast.Dict() as value):
                return dict(ast.literal_eval(value))
    return {}


def _papers(text: str) -> tuple[str, ...]:
    """The sentences that cite something, each once; what is said of single arguments is left to them."""
    prose = re.split(r"^(?:Args|Attributes|Raises|Returns|Example)s?:+\n", text, flags=re.MULTILINE)[0]
    found: dict[str, None] = {}
    for paragraph in re.split(r"\n\s*\n", prose):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z`\"*])", " ".join(paragraph.split())):
            if _PAPER.search(sentence):
                found[re.sub(r"^(?:Papers?|Sources?): *", "", sentence)] = None
    return tuple(found)


def _find(module: str, name: str, hops: int) -> tuple[str, Path, ast.Module, ast.ClassDef] | None:
    """The class's definition, following ``from .other import Class`` a few times."""
    spec, tree = _tree(module)
    if spec is None or tree is None:
        return None
    node = _definition(tree, name)
    if node:
        return module, Path(str(spec.origin)), tree, node
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom) and hops:
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _find(_absolute(statement, package), alias.name, hops - 1)
    return None


def _definition(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next(
        (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name), None
    )


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*base, statement.module] if statement.module else base)


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next(
        (each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None
    )


def _parameters(module: str, node: ast.ClassDef, hops: int) -> tuple[list[Argument], bool] | None:
    """The constructor's parameters, and whether these are all; of a dataclass its fields; None without a constructor."""
    init = _constructor(node)
    if init:
        return _arguments(init, module), init.args.kwarg is None
    if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        fields = [
            each
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        ]
        known = [
            _argument(each.target.id, each.annotation, each.value, module)
            for each in fields
            if isinstance(each.target, ast.Name) and "ClassVar" not in ast.unparse(each.annotation)
        ]
        return known, not node.bases
    for base in node.bases:
        if ast.unparse(base).partition("[")[0] in _WITHOUT_PARAMETERS:
            continue
        if not isinstance(base, ast.Name) or base.id == node.name or not hops:
            return [], False
        found = _find(module, base.id, hops=5)
        if found is None:
            return [], False
        inherited = _parameters(found[0], found[3], hops - 1)
        if inherited is not None:
            return inherited
    return None


def _arguments(init: ast.FunctionDef, module: str) -> list[Argument]:
    spec = init.args
    positional = [*spec.posonlyargs, *spec.args][1:]
    missing: list[ast.expr | None] = [None] * len(positional)
    defaults = (missing + list(spec.defaults))[-len(positional) :] if positional else []
    pairs = [*zip(positional, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    return [_argument(each.arg, each.annotation, value, module) for each, value in pairs]


def _argument(name: str, annotation: ast.expr | None, default: ast.expr | None, module: str) -> Argument:
    return Argument(
        name,
        ast.unparse(annotation) if annotation else None,
        ast.unparse(default) if default else None,
        type=format_annotation(annotation, functools.partial(_assigned, module)) if annotation else None,
    )


def _assigned(module: str, name: str, hops: int = 5) -> tuple[ast.expr, Resolver] | None:
    """What a module gives this name, as written, and how names are found there; imports are followed a few times."""
    spec, tree = _tree(module)
    if spec is None or tree is None:
        return None
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=known)], value=value) if known == name:
                return value, functools.partial(_assigned, module, hops=hops - 1)
            case ast.ImportFrom() if hops:
                package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return _assigned(_absolute(statement, package), alias.name, hops - 1)
    return None


def _tree(module: str) -> tuple[importlib.machinery.ModuleSpec | None, ast.Module | None]:
    spec = locate(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None, None
    try:
        return spec, _parsed(spec.origin, Path(spec.origin).stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError):
        return None, None


@functools.lru_cache(maxsize=64)
def _parsed(path: str, changed: int) -> ast.Module:
    return ast.parse(Path(path).read_bytes())


def _argument_notes(doc: str) -> dict[str, str]:
    """The ``Args:`` section of a Google-style docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc + "\n", flags=re.MULTILINE)
    if not section:
        return {}
    notes: dict[str, str] = {}
    name, indent = "", None
    for line in section.group(1).splitlines():
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None and line.strip() else indent
        start = re.match(r"\s*\*{0,2}(\w+)(?: *\([^)]*\))?: *(.*)", line)
        if start and depth == indent:
            name = start.group(1)
            notes[name] = start.group(2).strip()
        elif name and line.strip():
            notes[name] = f"{notes[name]} {line.strip()}"
    return notes
