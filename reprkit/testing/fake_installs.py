"""A folder of fake installed distributions, to test discovery through real entry points without pip.

Put the folder on ``sys.path`` (or in ``PYTHONPATH`` of a subprocess) and its distributions count as installed.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path


class Site:
    """A site-packages folder: writes ``NAME-VERSION.dist-info`` folders and modules beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        distribution: str,
        plugin: str | None = None,
        *,
        version: str = "0.1.0",
        entry_points: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
    ) -> str:
        """Install a distribution and return the name of its plugin module.

        Args:
            distribution: its name; the plugin module is named after it, such as ``acme_latents_plugin``.
            plugin: source of that module, dedented before writing; None writes no module.
            version: its version.
            entry_points: entry points of group ``reprkit``, name -> module; None means one for the plugin module.
            modules: sources of further modules by dotted name.
        """
        module = f"{distribution.replace('-', '_')}_plugin"
        files = dict(modules or {}) | ({module: plugin} if plugin is not None else {})
        for name, text in files.items():
            path = self.root.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        info = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        head = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n\nVersion: not this one\n"
        (info / "METADATA").write_text(head, encoding="utf-8")
        points = entry_points if entry_points is not None else {distribution.partition("-")[0]: module}
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[reprkit]\n{lines}", encoding="utf-8")
        return module

    def forget(self) -> None:
        """Remove modules imported from this folder from ``sys.modules``, so that the next test imports its own."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.root)):
                del sys.modules[name]
