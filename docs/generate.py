"""Write the generated pages: docs/reference, docs/api.md, docs/options.md, and docs/index.md (the README).

python docs/generate.py           writes them
python docs/generate.py --check   exits with 1 when they are not current
"""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING
from pathlib import Path

import public_surface
import reference_pages

from reprkit.registry.sources import format_type
from reprkit.training.options import FitOptions, Options, declaration_of, option_fields

DOCS = Path(__file__).parent


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
            declaration = declaration_of(field)
            text = f"{declaration.help}. {declaration.more}".strip().replace("``", "`").replace(".  ", ". ")
            lines += [
                "",
                f"### {field.name}",
                "",
                f"`{field.name}: {format_type(str(field.type), Options.__module__)}{default}`",
                "",
                text + flag,
            ]
    return "\n".join(lines) + "\n"


def index() -> str:
    """The README with its links turned to this folder."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def pages() -> dict[str, str]:
    """Every generated page: path below docs -> text."""
    reference = {f"reference/{name}": text for name, text in reference_pages.pages().items()}
    return {"options.md": options(), "index.md": index(), "api.md": public_surface.page(), **reference}


def main() -> int:
    """Write the pages, or compare."""
    wanted = pages()
    known = {str(path.relative_to(DOCS)) for path in (DOCS / "reference").rglob("*.md")}
    stale = sorted(known - set(wanted))
    for name, text in wanted.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"not current: {', '.join(stale)}; run make docs and commit", file=sys.stderr)
        return 1
    for name in known - set(wanted):
        (DOCS / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
