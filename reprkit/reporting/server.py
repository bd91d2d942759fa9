"""A local web page that follows runs while they train: ``reprkit serve DIR``.  Does not import torch.

It listens on the loopback address only, answers GET alone, serves nothing but pages made from run folders, and refuses requests
that were sent to another host name (DNS rebinding).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

from reprkit.errors import ReprkitError
from reprkit.reporting.run_history import format_duration
from reprkit.reporting.writer import current_page
from reprkit.runs.comparison import describe_data, describe_latents
from reprkit.runs.reader import FILES, describe_steps, find_runs, is_run, read_run
from reprkit.utils.atomic_files import explain_os_error

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")
_POLICY = "frame-ancestors 'none'; base-uri 'none'"  # a page of a run states its own for content
_INDEX_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td,th{padding:.25rem 1rem .25rem 0;text-align:left}"
)


class RunPages:
    """The pages of a run, or of all runs below a folder, made anew when their files change.

    Args:
        folder: a run, or a folder with runs below it.
        refresh: seconds after which a browser loads the page of an unfinished run again.

    Raises:
        ReprkitError: the folder does not exist.
    """

    def __init__(self, folder: Path, refresh: int = 5) -> None:
        if not folder.is_dir():
            raise ReprkitError(f"there is no folder {folder}")
        self.folder, self.refresh = folder, refresh
        self._pages: dict[Path, tuple[object, str]] = {}
        self._lock = threading.Lock()

    def runs(self) -> dict[str, Path]:
        """Return the runs by their path below the folder; a run itself is called "."."""
        if is_run(self.folder):
            return {".": self.folder}
        return {path.relative_to(self.folder).as_posix(): path for path in find_runs(self.folder)}

    def page(self, path: str) -> str | None:
        """Return the page of a request's path; None if there is none."""
        runs = self.runs()
        if path == "/":
            return self._run_page(self.folder) if "." in runs else self._index(runs)
        name = unquote(path.removeprefix("/run/").rstrip("/"))
        return self._run_page(runs[name]) if path.startswith("/run/") and name in runs else None

    def _run_page(self, folder: Path) -> str:
        state = tuple(_stamp(folder / name) for name in FILES)
        unfinished = read_run(folder).status == "running"
        with self._lock:
            if self._pages.get(folder, (None, ""))[0] != (state, unfinished):
                html = current_page(folder).html()
                if unfinished:
                    mark = f'<meta http-equiv="refresh" content="{self.refresh}">'
                    html = re.sub(r"<head>", lambda found: found[0] + mark, html, count=1)
                self._pages[folder] = ((state, unfinished), html)
            return self._pages[folder][1]

    def _index(self, runs: dict[str, Path]) -> str:
        rows = []
        for name, folder in runs.items():
            run = read_run(folder)
            stage = run.stages.get(run.stage or "", {})
            cells = (
                describe_latents(run.record),
                describe_data(run.record),
                run.status,
                describe_steps(stage) or "",
                format_duration(run.seconds) if run.seconds else "",
            )
            link = f'<a href="/run/{quote(name)}/">{escape(name)}</a>'
            rows.append(f"<tr><td>{link}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
        heads = "".join(f"<th>{head}</th>" for head in ("run", "latent", "data", "state", "steps", "time"))
        body = f"<table><tr>{heads}</tr>{''.join(rows)}</table>" if rows else "<p>No runs yet.</p>"
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_INDEX_POLICY}">'
            f'<meta http-equiv="refresh" content="{self.refresh}"><title>runs</title><style>{_STYLE}</style></head>'
            f"<body><h1>{escape(self.folder.resolve().name)}</h1>{body}</body></html>"
        )


class RunServer:
    """Serves the page of a run, or of all runs below a folder.

    Args:
        folder: a run, or a folder with runs below it.
        port: 0 chooses a free one.
        refresh: seconds after which a browser loads the page of an unfinished run again.

    Attributes:
        url: where it listens.

    Raises:
        ReprkitError: the folder does not exist, or the port is taken.
    """

    def __init__(self, folder: Path, port: int = 0, refresh: int = 5) -> None:
        pages = RunPages(folder, refresh)
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(pages))
        except (OSError, OverflowError) as error:
            reason = explain_os_error(error) if isinstance(error, OSError) else str(error)
            raise ReprkitError(
                f"cannot listen on port {port}: {reason}\n  give another --port, or 0 for a free one"
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer requests until ``close`` is called or the process is interrupted."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def running(self) -> Iterator[RunServer]:
        """Context in which a thread serves."""
        thread = threading.Thread(target=self.serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.close()
            thread.join()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _handler(pages: RunPages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "reprkit", ""

        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
            if host not in _NAMES:
                self.send_error(HTTPStatus.FORBIDDEN, "this page is for this machine only")
                return
            try:
                page = pages.page(self.path.partition("?")[0])
            except ReprkitError as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"<pre>{escape(str(error))}</pre>")
                return
            if page is None:
                self.send_error(HTTPStatus.NOT_FOUND, "there is no such run")
            else:
                self._answer(HTTPStatus.OK, page)

        def _answer(self, status: HTTPStatus, html: str) -> None:
            body = html.encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", _POLICY)
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Requests are not logged."""

    return Handler
