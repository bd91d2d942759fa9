"""Write docs/catalogue.md, docs/options.md and docs/index.md: every built-in part, the loop's options, and the README.

python docs/generate.py           writes them
python docs/generate.py --check   exits with 1 when they are not current
"""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING
from pathlib import Path

from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry
from reprkit.registry.sources import from_build_context, read_class
from reprkit.training.option_signatures import describe_option
from reprkit.training.options import FitOptions, Options, declaration_of, option_fields

DOCS = Path(__file__).parent


def catalogue() -> str:
    """All built-in parts, kind by kind, read from their sources."""
    lines = [
        "# All parts",
        "",
        "Generated from the registry by `make docs`; `reprkit list` and `reprkit show KIND NAME` print the same, with",
        "the plugins that are installed. Hooks are documented, with an example each, in `reprkit/registry/hookspecs.py`.",
    ]
    registry = Registry(installed=False)
    for kind, hook in KINDS.items():
        found = registry.specs(kind)
        if not found:
            continue
        lines += ["", f"## {kind.capitalize()}s", "", f"Through the hook `{hook}`."]
        for each in found:
            source = read_class(each.spec.build)
            assert source is not None, f"{each.qualified}: {each.spec.build} has no source"
            arguments = [
                argument for argument in source.arguments if not from_build_context(kind, argument.name)
            ]
            lines += ["", f"### {each.name}", "", each.spec.summary.rstrip(".") + ".", ""]
            lines += [f"`{each.name}({', '.join(map(str, arguments))})`"]
            if any(argument.help for argument in arguments):
                lines += ["", *(f"- `{a.name}`: {a.help}" for a in arguments if a.help)]
            if source.papers:
                lines += ["", *(f"> {paper}" for paper in source.papers)]
    return "\n".join(lines) + "\n"


def options() -> str:
    """The options of ``rk.loop`` and ``rk.fit``, from their declarations."""
    lines = [
        "# Options of the loop",
        "",
        "Generated from `reprkit/training/options.py` by `make docs`. `rk.loop(model, data, ...)` and `rk.fit(model, train, ...)`",
        "take these as keywords. Those with a flag may also stand in `rk.Launch(...)`, and `rk.recipe` puts them on a recipe's",
        "command line.",
    ]
    own = [field for field in option_fields(FitOptions) if field not in option_fields(Options)]
    for title, fields in (("`rk.loop` and `rk.fit`", option_fields(Options)), ("`rk.fit` only", own)):
        lines += ["", f"## {title}"]
        for field in fields:
            default = "" if field.default is MISSING else f" = {field.default!r}"
            flag = "" if declaration_of(field).flag is None else f" Flag: `--{field.name.replace('_', '-')}`."
            text = re.sub(r"``", "`", describe_option(field)).replace(".  ", ". ")
            lines += ["", f"### {field.name}", "", f"`{field.name}: {field.type}{default}`", "", text + flag]
    return "\n".join(lines) + "\n"


def index() -> str:
    """The README with its links turned to this folder."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def main() -> int:
    """Write the pages, or compare."""
    stale = []
    for name, text in {"catalogue.md": catalogue(), "options.md": options(), "index.md": index()}.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"not current: {', '.join(stale)}; run make docs and commit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
