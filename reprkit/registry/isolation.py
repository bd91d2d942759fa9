"""Put back what the import of a plugin changes in the process: settings, random states, handlers, the environment.

A plugin is imported by every command and every look-up of a part, so such a change would reach programs that do not use it.
Does not import torch, and reads its state only where it is already imported.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import locale
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SideEffects:
    """What the block of ``undo_side_effects`` changed.

    Attributes:
        changed: names of what was changed and put back, in order.
        seconds: how long the block took.
    """

    changed: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Setting:
    """One setting of the process: how to read it, and how to put it back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]

    def restore(self, before: Any, effects: SideEffects) -> None:
        now = self.read()
        if _differs(now, before):
            effects.changed.append(self.name)
            self.write(before)


@contextlib.contextmanager
def undo_side_effects(*, everything: bool = True) -> Iterator[SideEffects]:
    """Context that undoes and records changes of the process's state, also when the block raises.

    Args:
        everything: also put back the environment, ``sys.path``, signal handlers, warnings filters and hooks, and send what is
            printed to standard error.  Without it only what changes the results of a program: random states, torch's defaults,
            the locale and the working directory.  The libraries that a part needs may set the rest.
    """
    effects = SideEffects()
    torch_before, numpy_before = _torch(), _numpy()
    settings = [*_numerical(torch_before), *(_of_the_process() if everything else ())]
    values = [setting.read() for setting in settings]
    environment = dict(os.environ) if everything else {}
    with _output_to_stderr(effects) if everything else contextlib.nullcontext():
        started = time.perf_counter()
        try:
            yield effects
        finally:
            effects.seconds = time.perf_counter() - started
            for setting, before in zip(settings, values, strict=True):
                setting.restore(before, effects)
            if torch_before is None and (torch := _torch()) is not None:
                _reset_torch(torch, effects)
            if numpy_before is None and (numpy := _numpy()) is not None:
                numpy.random.seed()  # which seed it got cannot be seen; without one it would be random
            if everything:
                _restore_environment(environment, effects)


def _torch() -> Any:
    """Return torch if it is imported, and completely."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_rng_state") and hasattr(torch, "set_default_device") else None


def _numpy() -> Any:
    numpy = sys.modules.get("numpy")
    return numpy if hasattr(numpy, "random") else None


def _numerical(torch: Any) -> list[_Setting]:
    settings = [
        _Setting("the working directory", _working_directory, _change_directory),
        _Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), _set_locale),
        _Setting("the random state of Python", random.getstate, random.setstate),
    ]
    numpy = _numpy()
    if numpy is not None:
        settings.append(
            _Setting(
                "the random state of NumPy",
                lambda: tuple(map(_plain, numpy.random.get_state())),
                lambda value: numpy.random.set_state(
                    (value[0], numpy.frombuffer(value[1], "u4"), *value[2:])
                ),
            )
        )
    if torch is not None:
        settings += [
            *(setting for setting, _ in _torch_defaults(torch)),
            _Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
            _Setting(
                "the random state of torch",
                lambda: torch.get_rng_state().numpy().tobytes(),
                lambda value: torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8)),
            ),
        ]
    return settings


def _torch_defaults(torch: Any) -> list[tuple[_Setting, Any]]:
    """Return settings of torch, each with its value in a process that has not changed it."""
    set_device = functools.partial(_set_device, torch)
    return [
        (_Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype), torch.float32),
        (_Setting("torch's default device", torch.get_default_device, set_device), torch.device("cpu")),
        (_Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled), True),
        (
            _Setting(
                "torch's deterministic algorithms",
                torch.are_deterministic_algorithms_enabled,
                torch.use_deterministic_algorithms,
            ),
            False,
        ),
    ]


def _reset_torch(torch: Any, effects: SideEffects) -> None:
    """Undo what was set in a torch that the block itself has imported."""
    seed = _Setting("the random state of torch", torch.initial_seed, torch.manual_seed)
    for setting, default in (*_torch_defaults(torch), (seed, torch.Generator().initial_seed())):
        setting.restore(default, effects)


def _set_device(torch: Any, device: Any) -> None:
    torch.set_default_device(None if device == torch.device("cpu") else device)  # None costs no time


def _of_the_process() -> list[_Setting]:
    settings = [
        _Setting("sys.path", lambda: list(sys.path), lambda value: sys.path.__setitem__(slice(None), value)),
        _Setting("sys.argv", lambda: list(sys.argv), lambda value: sys.argv.__setitem__(slice(None), value)),
        _attribute(sys, "excepthook", "sys.excepthook"),
        _attribute(sys, "displayhook", "sys.displayhook"),
        _attribute(warnings, "showwarning", "warnings.showwarning"),
        _attribute(warnings, "formatwarning", "warnings.formatwarning"),
        _Setting("the warnings filters", lambda: list(warnings.filters), _set_filters),
        _Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        _Setting("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        _Setting("the umask", _umask, os.umask),
    ]
    if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
        settings.append(_Setting("signal handlers", _signal_handlers, _set_signal_handlers))
    logging = sys.modules.get("logging")
    if logging is not None:
        settings.append(
            _Setting(
                "the root logger",
                lambda: (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
                lambda value: _set_root_logger(logging, *value),
            )
        )
    return settings


def _attribute(module: Any, attribute: str, name: str) -> _Setting:
    return _Setting(name, lambda: getattr(module, attribute), lambda value: setattr(module, attribute, value))


def _differs(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except Exception:  # an object of the plugin whose comparison fails
        return True


def _plain(value: Any) -> Any:
    return value.tobytes() if hasattr(value, "tobytes") and hasattr(value, "shape") and value.shape else value


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


def _change_directory(path: str | None) -> None:
    if path is not None:
        os.chdir(path)


def _set_locale(value: str) -> None:
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, value)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    with warnings.catch_warnings():
        pass  # leaving it tells the warnings module that the filters have changed


def _signal_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_signal_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) != handler:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)


def _set_root_logger(logging: Any, level: int, handlers: list[Any], disabled: int) -> None:
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers
    logging.disable(disabled)


def _restore_environment(before: dict[str, str], effects: SideEffects) -> None:
    now = dict(os.environ)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if not names:
        return
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    effects.changed.append(f"the environment ({shown})")
    for name in names:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


class _ToStderr:
    """Standard output during a plugin's import; also afterwards, where the plugin holds a reference to it, such as for a log."""

    def __init__(self, effects: SideEffects) -> None:
        self._effects = effects

    def write(self, text: str) -> int:
        if text and _PRINTED not in self._effects.changed:
            self._effects.changed.append(_PRINTED)
        return sys.stderr.write(text) if sys.stderr is not None else len(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


_PRINTED = "standard output (it prints)"


@contextlib.contextmanager
def _output_to_stderr(effects: SideEffects) -> Iterator[None]:
    """Send to standard error what Python code, native code and child processes print to standard output."""
    stream, errors = sys.stdout, sys.stderr
    saved = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            stream.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
    replacement = _ToStderr(effects)
    sys.stdout = replacement
    try:
        yield
    finally:
        for name, expected, before in (("stdout", replacement, stream), ("stderr", errors, errors)):
            if getattr(sys, name) is not expected:
                effects.changed.append(f"sys.{name}")
            setattr(sys, name, before)
        if saved is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if stream is not None:
                    stream.flush()  # what was written to sys.__stdout__
            os.dup2(saved, 1)
            os.close(saved)
