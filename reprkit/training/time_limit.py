"""Time limits of a process: durations as text, and when to stop so that a state can be saved in time.  Torch-free."""

from __future__ import annotations

import re
import time

from reprkit.errors import PartArgumentError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")  # as Slurm writes it
_RESERVE, _MOST_RESERVE = 0.05, 120.0


def parse_duration(value: str | float) -> float:
    """Return a duration in seconds: of a number, or of ``"90s"``, ``"30m"``, ``"12h"``, ``"2d"``, ``"12:00:00"``, ``"1-12:00:00"``.

    Raises:
        PartArgumentError: any other text, also a number without a unit, which is minutes for Slurm.
    """
    if not isinstance(value, str):
        return float(value)
    if found := _SUFFIXED.fullmatch(value):
        seconds = float(found[1]) * _UNITS[found[2]]
    elif found := _CLOCK.fullmatch(value):
        days, hours, minutes, rest = (int(each or 0) for each in found.groups())
        seconds = float(days * 86400 + hours * 3600 + minutes * 60 + rest)
    else:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise PartArgumentError(
            f"time_limit={value!r} must be a duration above 0, such as 90s, 30m, 12h, 2d, 12:00:00 or 1-12:00:00"
        )
    return seconds


def format_clock(seconds: float) -> str:
    """Format whole seconds as Slurm's ``days-hours:minutes:seconds``."""
    days, rest = divmod(round(seconds), 86400)
    return f"{days}-{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def process_age() -> float:
    """Return the seconds since this process started."""
    import psutil

    return time.time() - psutil.Process().create_time()


class TimeLimit:
    """Tell when to stop a process that may take ``limit`` seconds, from its start: early enough for a step and a save.

    The reserve is twice the longest step and the longest save so far, and at least 5 % of the limit, or 2 minutes.
    """

    def __init__(self, limit: float) -> None:
        self._end = time.monotonic() + limit - process_age()
        self._least = min(_RESERVE * limit, _MOST_RESERVE)
        self._step = self._save = 0.0
        self._last = time.monotonic()

    def note_save(self, seconds: float) -> None:
        """Note how long a save took."""
        self._save = max(self._save, seconds)

    def is_due(self) -> bool:
        """Return whether to stop after this step; called once for each."""
        now = time.monotonic()
        self._step, self._last = max(self._step, now - self._last), now
        return self._end - now <= max(self._least, 2 * (self._step + self._save))
