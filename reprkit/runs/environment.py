"""The environment of a run as recorded in ``run.json``: command line, versions, time."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path


def versions() -> dict[str, str]:
    """Return the versions of Python, torch, CUDA and every plugin distribution, and the GPU's name."""
    import torch

    from reprkit.registry.registry import default_registry

    result = {"python": platform.python_version(), "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        result["cuda"] = str(torch.version.cuda)
        result["gpu"] = torch.cuda.get_device_name()
    result.update(
        {
            plugin.distribution: plugin.version
            for plugin in default_registry().plugins
            if plugin.status == "ok"
        }
    )
    return result


def command() -> str:
    """Return the command line of this process, quoted for the shell."""
    arguments = sys.orig_argv or sys.argv  # orig_argv is empty where Python is embedded in another program
    return shlex.join([Path(arguments[0]).name, *arguments[1:]])


def now() -> str:
    """Return the current time (UTC) in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")
