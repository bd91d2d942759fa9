"""``reprkit new NAME``: write a working plugin with one part, its tests and a README."""

from __future__ import annotations

import importlib.util
import keyword
import re
import string
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reprkit.commands.options import JsonOption
from reprkit.commands.output import emit_json
from reprkit.errors import ReprkitError, UnknownPartError
from reprkit.registry.discovery import find_candidates, own_version
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.lookup import parse_kind

TEMPLATES = Path(__file__).parents[1] / "templates" / "plugin"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_MAX_LENGTH = 40  # of a plugin's name


@dataclass(frozen=True)
class Example:
    """The part of a new plugin; ``use`` is example code that uses it."""

    part: str
    cls: str
    summary: str
    use: str

    @property
    def file(self) -> str:
        """Name of the module with the part."""
        return self.part.replace("-", "_")


EXAMPLES = {
    "latent": Example(
        "fsq",
        "FSQ",
        "Finite scalar quantization (Mentzer et al. 2023)",
        'rk.build(data=train, encoder="conv", latent="$name/fsq(levels=(8, 5, 5, 5))", decoder="conv")',
    ),
    "encoder": Example(
        "mixer",
        "Mixer",
        "MLP-Mixer over patches (Tolstikhin et al. 2021)",
        'rk.build(data=train, encoder="$name/mixer(width=64)", latent="vq", decoder="conv")',
    ),
    "decoder": Example(
        "broadcast",
        "Broadcast",
        "Spatial broadcast decoder (Watters et al. 2019)",
        'rk.build(data=train, encoder="conv", latent="gaussian", decoder="$name/broadcast")',
    ),
    "likelihood": Example(
        "log-cosh",
        "LogCosh",
        "Log-cosh likelihood, between Gaussian and Laplace (Chen et al. 2019)",
        'rk.build(data=train, encoder="conv", decoder="conv(likelihood=\'$name/log-cosh\')")',
    ),
    "objective": Example(
        "barlow",
        "Barlow",
        "Barlow Twins, redundancy reduction (Zbontar et al. 2021)",
        'rk.build(data=train, encoder="conv", objective="$name/barlow(dim=64)")',
    ),
    "corruption": Example(
        "cutout",
        "Cutout",
        "A square hole in every image (DeVries and Taylor 2017)",
        "objective = \"denoising(corruption='$name/cutout(size=4)')\"\n"
        'rk.build(data=train, encoder="conv", latent="continuous", decoder="conv", objective=objective)',
    ),
    "dataset": Example(
        "bars",
        "Bars",
        "The bars problem, images of independent bars (Földiák 1990)",
        'train, test = rk.dataset("$name/bars(side=8)").split()',
    ),
    "evaluator": Example(
        "effective-rank",
        "EffectiveRank",
        "Effective rank of the representation (Roy and Vetterli 2007)",
        'rk.evaluate(model, test, "$name/effective-rank")',
    ),
}


def _kinds() -> list[str]:
    return list(EXAMPLES)


def command(
    name: Annotated[str, typer.Argument(help="Name of the distribution, such as acme-latents.")],
    kind: Annotated[
        str, typer.Option(help=f"One of: {', '.join(EXAMPLES)}.", autocompletion=_kinds)
    ] = "latent",
    into: Annotated[Path, typer.Option(metavar="DIR", help="The folder to create it in.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Write a new plugin: a working part, its tests and a README.

    The part is a small published method of its kind, to be replaced by yours: finite scalar quantization, MLP-Mixer,
    the spatial broadcast decoder, the log-cosh likelihood, Barlow Twins, cutout, the bars problem, effective rank.
    """
    try:
        kind = parse_kind(kind)
    except UnknownPartError as error:
        raise typer.BadParameter(str(error)) from None
    if kind not in EXAMPLES:
        raise typer.BadParameter(f"there is no template for a {kind}: write a function, see docs/plugins.md")
    fault = name_fault(name)
    if fault:
        raise typer.BadParameter(fault)
    folder = into / name
    written = write(name, kind, folder)
    example = EXAMPLES[kind]
    if json:
        emit_json(
            {
                "folder": str(folder),
                "kind": kind,
                "part": f"{name}/{example.part}",
                "files": [str(path.relative_to(folder)) for path in written],
            }
        )
        return
    print(f"{folder}: a plugin with the {kind} {name}/{example.part}")
    for path in written:
        print(f"  {path.relative_to(folder)}")
    print(f'next:\n  pip install -e "{folder}[test]"\n  pytest {folder}\n  reprkit check {name}')


def name_fault(name: str) -> str:
    """Why a plugin cannot have this name; empty if it can."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        hint = f" Did you mean {plain!r}?" if _NAME.fullmatch(plain) else ""
        return f"{name!r} is not a plugin's name: lower-case letters and digits, single dashes between.{hint}"
    if len(name) > _MAX_LENGTH:
        return f"{name!r} is longer than {_MAX_LENGTH} characters"
    if (
        keyword.iskeyword(module)
        or module in sys.stdlib_module_names
        or module in ("reprkit", "test", "tests")
    ):
        return f"its module would be called {module!r}, which is taken"
    if name in {candidate.distribution for candidate in find_candidates()}:
        return f"a plugin called {name} is installed already: reprkit plugins --why {name}"
    found = importlib.util.find_spec(module)
    if found is not None and found.origin is not None:  # a plain folder of that name is no module
        return f"a module called {module!r} is installed already, and yours would hide it"
    return ""


def write(name: str, kind: str, folder: Path) -> list[Path]:
    """Write the plugin's files and return their paths.

    Raises:
        ReprkitError: the folder exists and is not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReprkitError(f"{folder} exists already and is not empty; nothing was written")
    example, module = EXAMPLES[kind], name.replace("-", "_")
    values = {
        "name": name,
        "module": module,
        "kind": kind,
        "hook": KINDS[kind],
        "part": example.part,
        "file": example.file,
        "cls": example.cls,
        "summary": example.summary,
        "use": string.Template(example.use).substitute(name=name),
        "needs": _own_requirement(),
    }
    files = {
        "pyproject.toml": "pyproject.toml.tmpl",
        "README.md": "README.md.tmpl",
        ".gitignore": "gitignore.tmpl",
        f"src/{module}/__init__.py": "init.py.tmpl",
        f"src/{module}/plugin.py": "plugin.py.tmpl",
        f"src/{module}/{example.file}.py": f"{kind}/part.py.tmpl",
        f"tests/test_{module}.py": f"{kind}/test.py.tmpl",
    }
    texts = {
        path: string.Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
        for path, template in files.items()
    }
    written = []
    try:
        for path, text in texts.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            written.append(file)
    except OSError as error:
        raise ReprkitError(f"cannot write {folder}: {error}") from error
    return written


def _own_requirement() -> str:
    """The plugin's requirement: this version of reprkit or a later one."""
    release = re.match(r"\d+\.\d+", own_version())
    return f"reprkit>={release[0]}" if release else "reprkit"
