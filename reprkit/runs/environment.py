"""Under which circumstances a run was made: its command, the versions, the time.  What ``run.json`` keeps."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path


def versions() -> dict[str, str]:
    """Of Python, torch, the CUDA runtime and device, and every plugin distribution."""
    import torch

    from reprkit.registry.registry import default_registry

    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
        found["gpu"] = torch.cuda.get_device_name()
    found.update({row.distribution: row.version for row in default_registry().plugins if row.status == "ok"})
    return found


def command() -> str:
    """The command line of this process, ready to be typed again."""
    arguments = sys.orig_argv or sys.argv  # the first is empty where Python is embedded in another program
    return shlex.join([Path(arguments[0]).name, *arguments[1:]])


def now() -> str:
    """The time, as a record states it (UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")
