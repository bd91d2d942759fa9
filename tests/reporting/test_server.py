"""``reprkit serve``: pages of runs on the loopback address, and nothing else."""

import http.client
import json
import signal
import subprocess
import sys

import pytest

from reprkit.errors import ReprkitError
from reprkit.reporting.server import HOST, RunServer


def write_run(folder, status="finished", name="<script>alert(1)</script>"):
    folder.mkdir(parents=True)
    model = {"factors": {"code": {"encoder": "mlp", "latent": name}}}
    record = {"status": status, "stages": {"main": {"model": model, "steps": 5, "step": 3, "status": status}}}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    return folder


def get(server, path, host=None, method="GET"):
    connection = http.client.HTTPConnection(HOST, int(server.url.rstrip("/").rpartition(":")[2]), timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.getheaders())


@pytest.mark.slow
def test_a_folder_of_runs_has_an_index_and_a_page_for_each(tmp_path):
    write_run(tmp_path / "runs/a b/c")
    write_run(tmp_path / "runs/d", status="running")
    (tmp_path / "runs/secret.txt").write_text("secret")
    with RunServer(tmp_path / "runs").running() as server:
        status, index, headers = get(server, "/")
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        assert 'href="/run/a%20b/c/"' in index
        assert "<script>" not in index
        assert "&lt;script&gt;" in index
        status, page, _ = get(server, "/run/a%20b/c/")
        assert (status, "total loss" in page, 'http-equiv="refresh"' in page) == (200, True, False)
        assert 'http-equiv="refresh"' in get(server, "/run/d")[1]
        for path in (
            "/run/../secret.txt",
            "/secret.txt",
            "/run/",
            "/run/%2e%2e/secret.txt",
            "/run/e",
            "/run//etc",
        ):
            status, text, _ = get(server, path)
            assert (status, "secret" in text.replace(path, "")) == (404, False)
    assert not (tmp_path / "runs/d/report.html").exists()


@pytest.mark.slow
def test_a_page_follows_its_run(tmp_path):
    folder = write_run(tmp_path / "run", status="finished", name="vq")
    with RunServer(folder).running() as server:
        before = get(server, "/")[1]
        assert get(server, "/")[1] == before
        (folder / "results.json").write_text(json.dumps({"knn": {"accuracy": 0.8125}}))
        after = get(server, "/")[1]
        assert "0.812" in after
        assert "0.812" not in before
        (folder / "results.json").write_text("{")
        assert "is damaged" in get(server, "/")[1]


def test_other_hosts_and_methods_are_refused(tmp_path):
    with RunServer(write_run(tmp_path / "run")).running() as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert get(server, "/", host="evil.example:80")[0] == 403
        assert get(server, "/", host="localhost:1")[0] == 200
        for method in ("POST", "PUT", "DELETE"):
            assert get(server, "/", method=method)[0] == 501


def test_a_port_in_use_and_a_missing_folder_are_errors(tmp_path):
    with (
        RunServer(write_run(tmp_path / "run")).running() as server,
        pytest.raises(ReprkitError, match="cannot listen on port"),
    ):
        RunServer(tmp_path / "run", int(server.url.rstrip("/").rpartition(":")[2]))
    with pytest.raises(ReprkitError, match="there is no folder"):
        RunServer(tmp_path / "none")


@pytest.mark.slow
def test_the_command_ends_on_interrupt_with_code_0(tmp_path):
    write_run(tmp_path / "run")
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent may ignore it
        "from reprkit.commands.main import main; main()"
    )
    command = [sys.executable, "-c", code, "serve", str(tmp_path / "run"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
