"""Read a class from its source file without importing anything: location, constructor, papers.

``find_spec("a.b.c")`` imports ``a`` and ``a.b``; the functions here search the folders instead, so that listing
parts is fast and works even if a part's own libraries are missing.
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

# Base classes whose constructor takes no arguments.
_WITHOUT_PARAMETERS = {"nn.Module", "torch.nn.Module", "object", "ABC", "abc.ABC", "Protocol", "Generic"}

# What ``build``, never the user, passes to a constructor that has an argument of this name.  data: the data's signature, with the
# part's own field under the name ``x``.  tokens: the number of tokens of an example's code that reach a decoder (None: it varies).
BUILD_CONTEXT = ("data", "tokens")


def from_build_context(kind: str, name: str) -> bool:
    """Whether ``build`` passes this argument to a part of that kind; all arguments of a data set are given by the user."""
    return kind != "dataset" and name in BUILD_CONTEXT


@dataclass(frozen=True)
class Argument:
    """One constructor argument, as written in the source.

    Attributes:
        name: its name.
        annotation: its source text, or None.
        default: its source text; None if the argument is required.
        help: its description in the docstring.
        type: the annotation with its constraints formatted, such as ``int >= 2``.
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
    """A class as read from its source.

    Attributes:
        complete: whether its constructor was found and takes no further arguments (``**``).
        renamed: former argument name -> present name, from ``renamed_arguments`` of the class or a base.
    """

    path: Path
    line: int
    doc: str
    papers: tuple[str, ...]
    arguments: tuple[Argument, ...]
    complete: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)


def locate(module: str) -> importlib.machinery.ModuleSpec | None:
    """Find a module's spec without importing it or its parents; None if it is not installed."""
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
    """Read ``"module:Class"``; None if there is no source, or the class can only be found by running it."""
    module, _, name = target.partition(":")
    definition = _find_class(module, name, hops=5)
    if definition is None:
        return None
    home_module, path, tree, node = definition
    doc = ast.get_docstring(node) or ""
    init = _constructor(node)
    arguments, complete = _parameters(home_module, node, hops=5) or ([], True)
    notes = _argument_notes(doc) | (_argument_notes(ast.get_docstring(init) or "") if init else {})
    return ClassSource(
        path=path,
        line=node.lineno,
        doc=doc,
        papers=tuple(dict.fromkeys([*_papers(ast.get_docstring(tree) or ""), *_papers(doc)])),
        arguments=tuple(replace(argument, help=notes.get(argument.name, "")) for argument in arguments),
        complete=complete,
        renamed=_renamed_arguments(home_module, node, hops=5),
    )


def _renamed_arguments(module: str, node: ast.ClassDef, hops: int) -> dict[str, str]:
    """Return the literal ``renamed_arguments`` of the class, or of the first base that has one; empty if there is none."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="renamed_arguments")], value=ast.Dict() as value):
                return dict(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name(id="renamed_arguments"), value=ast.Dict() as value):
                return dict(ast.literal_eval(value))
    for base in node.bases:
        definition = _find_class(module, base.id, hops=5) if isinstance(base, ast.Name) and hops else None
        inherited = _renamed_arguments(definition[0], definition[3], hops - 1) if definition else {}
        if inherited:
            return inherited
    return {}


def _papers(text: str) -> tuple[str, ...]:
    """Return the sentences that contain a citation, without duplicates; sections such as ``Args`` are skipped."""
    prose = re.split(r"^(?:Args|Attributes|Raises|Returns|Example)s?:+\n", text, flags=re.MULTILINE)[0]
    sentences: dict[str, None] = {}
    for paragraph in re.split(r"\n\s*\n", prose):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z`\"*])", " ".join(paragraph.split())):
            if _PAPER.search(sentence):
                sentences[re.sub(r"^(?:Papers?|Sources?): *", "", sentence)] = None
    return tuple(sentences)


def _find_class(module: str, name: str, hops: int) -> tuple[str, Path, ast.Module, ast.ClassDef] | None:
    """Find the class's definition, following at most ``hops`` imports such as ``from .other import Class``."""
    spec, tree = _parse_module(module)
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
                    return _find_class(_absolute_module(statement, package), alias.name, hops - 1)
    return None


def _definition(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next(
        (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name), None
    )


def _absolute_module(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*base, statement.module] if statement.module else base)


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next(
        (
            statement
            for statement in node.body
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__"
        ),
        None,
    )


def _parameters(module: str, node: ast.ClassDef, hops: int) -> tuple[list[Argument], bool] | None:
    """Return the constructor's parameters (a dataclass's fields) and whether they are complete; None without a constructor."""
    init = _constructor(node)
    if init:
        return _arguments(init, module), init.args.kwarg is None
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [
            statement
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        ]
        known = [
            _argument(statement.target.id, statement.annotation, statement.value, module)
            for statement in fields
            if isinstance(statement.target, ast.Name) and "ClassVar" not in ast.unparse(statement.annotation)
        ]
        return known, not node.bases
    for base in node.bases:
        if ast.unparse(base).partition("[")[0] in _WITHOUT_PARAMETERS:
            continue
        if not isinstance(base, ast.Name) or base.id == node.name or not hops:
            return [], False
        definition = _find_class(module, base.id, hops=5)
        if definition is None:
            return [], False
        inherited = _parameters(definition[0], definition[3], hops - 1)
        if inherited is not None:
            return inherited
    return None


def _arguments(init: ast.FunctionDef, module: str) -> list[Argument]:
    spec = init.args
    positional = [*spec.posonlyargs, *spec.args][1:]
    missing: list[ast.expr | None] = [None] * len(positional)
    defaults = (missing + list(spec.defaults))[-len(positional) :] if positional else []
    pairs = [*zip(positional, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    return [_argument(parameter.arg, parameter.annotation, value, module) for parameter, value in pairs]


def format_type(annotation: str, module: str) -> str:
    """Format an annotation of a module, with aliases resolved: ``Count | None`` becomes ``int >= 1 | None``."""
    return format_annotation(
        ast.parse(annotation, mode="eval").body, functools.partial(_resolve_name, module)
    )


def _argument(name: str, annotation: ast.expr | None, default: ast.expr | None, module: str) -> Argument:
    return Argument(
        name,
        ast.unparse(annotation) if annotation else None,
        ast.unparse(default) if default else None,
        type=format_annotation(annotation, functools.partial(_resolve_name, module)) if annotation else None,
    )


def _resolve_name(module: str, name: str, hops: int = 5) -> tuple[ast.expr, Resolver] | None:
    """Return the value assigned to a name in a module and the resolver for that module; follows at most ``hops`` imports."""
    spec, tree = _parse_module(module)
    if spec is None or tree is None:
        return None
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=known)], value=value) if known == name:
                return value, functools.partial(_resolve_name, module, hops=hops - 1)
            case ast.ImportFrom() if hops:
                package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        return _resolve_name(_absolute_module(statement, package), alias.name, hops - 1)
    return None


def _parse_module(module: str) -> tuple[importlib.machinery.ModuleSpec | None, ast.Module | None]:
    spec = locate(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None, None
    try:
        return spec, _parse_file(spec.origin, Path(spec.origin).stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError):
        return None, None


@functools.lru_cache(maxsize=64)
def _parse_file(path: str, changed: int) -> ast.Module:
    return ast.parse(Path(path).read_bytes())


def _argument_notes(doc: str) -> dict[str, str]:
    """Parse the ``Args:`` section of a Google-style docstring."""
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
