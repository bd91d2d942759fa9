"""No private names of torch and accelerate are used, except those without a public counterpart."""

import ast
from pathlib import Path

import reprkit

ROOT = Path(reprkit.__file__).parents[1]
LIBRARIES = ("torch", "accelerate")
ALLOWED = {
    # torch's public get_total_norm sorts by device and type first, which doubles the time of what every step does.
    ("engine.py", "torch._foreach_norm"),
    # Dispatch modes are documented, and have no public name.
    ("allocation_limit.py", "torch.utils._python_dispatch.TorchDispatchMode"),
    # Fake tensors are documented, and have no public name; the recurrent layers call torch._VF.
    ("fake_device.py", "torch._subclasses.fake_tensor"),
    ("fake_device.py", "torch._subclasses.fake_tensor.FakeTensorMode"),
    ("fake_device.py", "torch._VF"),
    # torch has no public pytree.
    ("non_finite.py", "torch.utils._pytree"),
    ("non_finite.py", "torch.utils._pytree.tree_leaves"),
    ("parts.py", "torch.utils._pytree.tree_leaves"),
    # Accelerate's state is global to the process and cannot be reset publicly.
    ("engine.py", "AcceleratorState._reset_state"),
    ("engine.py", "AcceleratorState._shared_state"),
    ("engine.py", "GradientState._reset_state"),
    # torch's handler of SIGCHLD raises in any line of the program when a worker ends; nothing public keeps it off.
    ("workers.py", "torch.utils.data._utils"),
    ("workers.py", "torch.utils.data._utils.signal_handling"),
    ("workers.py", "torch.utils.data._utils.signal_handling._remove_worker_pids"),
    # How FSDP and DTensor name rows of several parts that are divided one by one; the check of scaled gradients is GradScaler's.
    ("tensor_parallel.py", "torch.distributed.tensor.placement_types._StridedShard"),
    ("loss_scaling.py", "torch._amp_foreach_non_finite_check_and_unscale_"),
    # The store of the default process group has no public name.
    ("rank_failures.py", "dist.distributed_c10d._get_default_store"),
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names_in(source: str) -> set[str]:
    """Return the dotted names from the libraries that have a private component."""
    tree = ast.parse(source)
    known, found = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.name.split(".")[0] in LIBRARIES:
                    known.add((each.asname or each.name).split(".")[0])
                    if any(map(is_private, each.name.split("."))):
                        found.add(each.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            for each in node.names:
                known.add(each.asname or each.name)
                if any(map(is_private, (*node.module.split("."), each.name))):
                    found.add(f"{node.module}.{each.name}")
    for node in ast.walk(tree):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in known and any(map(is_private, parts)):
            found.add(".".join((inner.id, *parts)))
    return found


def test_private_names_are_found():
    assert private_names_in("import torch\ntorch._foreach_add(x)\ntorch.__version__") == {
        "torch._foreach_add"
    }
    assert private_names_in("from torch._dynamo import config") == {"torch._dynamo.config"}
    assert private_names_in("from torch.distributed import _composable as c\nc.x") == {
        "torch.distributed._composable"
    }
    assert private_names_in("import torch.nn as nn\nself._x\nnn.modules._y.z") == {
        "nn.modules._y",
        "nn.modules._y.z",
    }


def test_no_unlisted_private_name_is_used():
    files = [*ROOT.glob("reprkit/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    assert len(files) > 100
    found = {
        (path.name, name) for path in files for name in private_names_in(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
