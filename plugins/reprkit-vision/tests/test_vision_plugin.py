import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

from reprkit.registry.registry import Registry

ROOT = Path(__file__).parents[1]


def test_every_part_is_registered_importable_and_in_the_readme():
    registry = Registry()
    offered = {
        (kind, each.name)
        for kind in ("dataset", "corruption", "encoder", "objective", "evaluator", "command")
        for each in registry.specs(kind)
        if each.distribution == "reprkit-vision"
    }
    assert len(offered) == 32
    readme = (ROOT / "README.md").read_text()
    for kind, name in offered:
        registry.load(kind, f"reprkit-vision/{name}")
        assert f"`{name}" in readme or f"reprkit {name}" in readme, name


def test_the_plugin_module_imports_nothing_heavy():
    code = (
        "import sys, reprkit_vision.plugin\n"
        "print(*[m for m in ('torch', 'torchvision', 'torchmetrics', 'numpy', 'PIL', 'platformdirs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_readme_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 1
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(blocks[0], "README.md", "exec"), {})
    assert "'psnr'" in shown.getvalue()
