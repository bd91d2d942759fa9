"""Call a function in a forked process with limits, and return its outcome.

The process may use 1 GiB more address space than at its start, and compute for ten seconds.  An audit hook ends it when code from
elsewhere is run, a process or a connection is started, or a file outside of the given folder is changed.
"""

import contextlib
import faulthandler
import io
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from reprkit.errors import ReprkitError

HEADROOM = 1 << 30  # bytes
SECONDS = 10
_BLOCKED = 6  # times as long on the clock, after which a call is taken to be blocked
SUCCESS, SENTENCE = "success", "sentence"  # the two outcomes that are right

_RUNS = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "socket.connect", "socket.getaddrinfo", "socket.bind", "ctypes.dlopen", "os.kill", "os.killpg", "signal.pthread_kill",
    "pickle.find_class",
}  # fmt: skip
_CHANGES = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "shutil.rmtree", "shutil.move", "shutil.copyfile", "os.utime",
}  # fmt: skip
_HOME = Path(__file__).parents[2]
_CODE = tuple(
    os.path.realpath(path) + os.sep
    for path in {sys.prefix, sys.base_prefix, *filter(None, sys.path), _HOME / "reprkit", _HOME / "plugins"}
)


def outcome(call, folder, forbidden=(), seconds=SECONDS):
    """Return (kind, details) of ``call()``: "success", "sentence" (a ReprkitError, or a command's exit code 1 or 2), or a fault.

    Args:
        call: a function without arguments.
        folder: the only folder below which files may be changed.
        forbidden: paths that may not be opened at all.
        seconds: after which the process is ended.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of a fork beside threads, which the child does not need
        child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _call(
                call,
                os.path.realpath(folder),
                {os.path.realpath(path) for path in forbidden},
                seconds,
                writer,
            )
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            ("slow", f"over {seconds} s")
            if number in (signal.SIGALRM, signal.SIGPROF)
            else ("killed", f"signal {number}")
        )
    kind, _, details = text.partition("\n")
    return (kind, details) if kind else ("killed", "no outcome was written")


def _call(call, folder, forbidden, seconds, writer):
    def finish(kind, details=""):
        os.write(writer, f"{kind}\n{details[-6000:]}".encode(errors="replace"))
        os._exit(0)

    started = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (started + HEADROOM,) * 2)
    os.chdir(folder)
    faulthandler.disable()
    watch(folder, forbidden, lambda event, what: finish("violation", f"{event}: {what}"))
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of computation, so that a busy machine makes no fault
    signal.alarm(_BLOCKED * seconds)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            call()
    except ReprkitError as error:
        finish(*_sentence(f"error: {error}"))
    except SystemExit as stopped:
        output.flush()
        shown = output.buffer.getvalue().decode(errors="replace")
        if stopped.code in (None, 0):
            finish(SUCCESS)
        if stopped.code not in (1, 2):
            finish("exit code", str(stopped.code))
        finish(*_sentence(shown))
    except BaseException:
        finish("traceback", traceback.format_exc())
    finish(SUCCESS)


def _sentence(text):
    """Return the outcome of a call that has ended in this message."""
    if "Traceback (most recent call last)" in text:
        return "traceback", text
    if any(not (char.isprintable() or char in "\n\t") for char in text if not 0xD800 <= ord(char) <= 0xDFFF):
        return "control characters", ascii(text)
    return (SENTENCE, text) if "error" in text.lower() else ("silence", text)


def watch(folder, forbidden, fault):
    """Add an audit hook that calls ``fault(event, what)`` for what a folder must not cause."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    allowed = (folder + os.sep, os.path.realpath(tempfile.gettempdir()) + os.sep + "torch", "/dev/null")

    def inside(path):
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a descriptor of a file that is open
        real = os.path.realpath(os.fsdecode(path))
        return real == folder or real.startswith(allowed)

    def hook(event, arguments):
        if event in _RUNS and not (
            event == "pickle.find_class" and arguments[0].startswith(("torch", "numpy"))
        ):
            if event == "ctypes.dlopen" and (os.sep not in str(arguments[0]) or not inside(arguments[0])):
                return  # a library of the installation, loaded late
            fault(event, ascii(arguments))
        elif event == "open":
            path, mode, flags = arguments
            if (
                isinstance(path, str | bytes | os.PathLike)
                and os.path.realpath(os.fsdecode(path)) in forbidden
            ):
                fault(event, ascii(path))
            writes = (
                any(letter in mode for letter in "wax+")
                if isinstance(mode, str)
                else bool((flags or 0) & writing)
            )
            if writes and not inside(path):
                fault(event, ascii(path))
        elif event in _CHANGES and not inside(arguments[0]):
            fault(event, ascii(arguments))
        elif event == "exec":
            name = getattr(arguments[0], "co_filename", "")
            if not name.startswith("<") and not os.path.realpath(name).startswith(_CODE):
                fault(event, ascii(name))

    sys.addaudithook(hook)
