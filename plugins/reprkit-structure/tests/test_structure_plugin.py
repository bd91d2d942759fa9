import subprocess
import sys
from pathlib import Path

from reprkit.registry.registry import Registry

ROOT = Path(__file__).parents[1]


def test_every_part_is_registered_importable_and_in_the_readme():
    registry = Registry()
    offered = {
        (kind, each.name)
        for kind in ("dataset", "decoder", "latent", "evaluator", "objective")
        for each in registry.specs(kind)
        if each.distribution == "reprkit-structure"
    }
    assert len(offered) == 15
    readme = (ROOT / "README.md").read_text()
    for kind, name in offered:
        registry.load(kind, f"reprkit-structure/{name}")
        assert f"| {kind.replace('dataset', 'data set')} | `{name}" in readme, name


def test_the_plugin_module_imports_nothing_heavy():
    code = "import sys, reprkit_structure.plugin\nprint(*[m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
