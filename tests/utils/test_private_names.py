"""No private names of torch and accelerate, but for those that have no public counterpart."""

import ast
from pathlib import Path

import reprkit

ROOT = Path(reprkit.__file__).parents[1]
LIBRARIES = ("torch", "accelerate")
ALLOWED = {
    # torch's public get_total_norm sorts by device and type first, which doubles the time of what every step does.
    ("engine.py", "torch._foreach_norm"),
    # torch has no public pytree.
    ("non_finite.py", "torch.utils._pytree"),
    ("non_finite.py", "torch.utils._pytree.tree_leaves"),
    # Accelerate's state is one for the process and has no public end.
    ("engine.py", "AcceleratorState._reset_state"),
    ("engine.py", "AcceleratorState._shared_state"),
    ("engine.py", "GradientState._reset_state"),
}


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def found_in(source: str) -> set[str]:
    """Dotted names of the libraries of which a part is private."""
    tree = ast.parse(source)
    known, found = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.name.split(".")[0] in LIBRARIES:
                    known.add((each.asname or each.name).split(".")[0])
                    if any(map(private, each.name.split("."))):
                        found.add(each.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            for each in node.names:
                known.add(each.asname or each.name)
                if any(map(private, (*node.module.split("."), each.name))):
                    found.add(f"{node.module}.{each.name}")
    for node in ast.walk(tree):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in known and any(map(private, parts)):
            found.add(".".join((inner.id, *parts)))
    return found


def test_the_search_finds_them():
    assert found_in("import torch\ntorch._foreach_add(x)\ntorch.__version__") == {"torch._foreach_add"}
    assert found_in("from torch._dynamo import config") == {"torch._dynamo.config"}
    assert found_in("from torch.distributed import _composable as c\nc.x") == {
        "torch.distributed._composable"
    }
    assert found_in("import torch.nn as nn\nself._x\nnn.modules._y.z") == {"nn.modules._y", "nn.modules._y.z"}


def test_no_private_name_without_need():
    files = [*ROOT.glob("reprkit/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    assert len(files) > 100
    found = {(path.name, name) for path in files for name in found_in(path.read_text(encoding="utf-8"))}
    assert found == ALLOWED
