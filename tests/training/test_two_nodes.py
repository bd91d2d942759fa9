"""Two nodes, each a network namespace with an address: one is killed, and torchrun's elastic restart goes on from the last save.

Needs the right to create namespaces (root, or CAP_SYS_ADMIN and CAP_NET_ADMIN); nothing is sent outside of them.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import reprkit as rk
from reprkit.runs.reader import read_metrics, read_record

pytestmark = [pytest.mark.ranks, pytest.mark.slow, pytest.mark.timeout(900)]
STEPS, PORT = 150, 29400
RECIPE = f"""
import json, os, time
import torch
import reprkit as rk

torch.set_num_threads(1)

def main(
    out: str = "", pause: float = 0.0, resume: bool = False, launch: rk.Launch = rk.Launch(device="cpu", clip=1.0)
) -> None:
    data = rk.dataset("digits").split()[0]
    model = rk.build(data=data, encoder="mlp(widths=(16,))", latent="vq(codes=16, dim=4)", decoder="mlp(widths=(16,))")
    first = None
    given = {{"steps": {STEPS}, "batch": 48, "lr": 1e-3, "save_every": 0.5, "log_every": 1, **launch}}
    for step in rk.loop(model, data, out=out, resume=resume, **given):
        if first is None:
            first = {{"node": os.environ.get("NODE"), "world": int(os.environ.get("WORLD_SIZE", 1)), "first": step.index}}
            with open(f"{{out}}/attempts", "a") as file:
                file.write(json.dumps(first) + "\\n")
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        time.sleep(pause)
    model.save(f"{{out}}/model")

if __name__ == "__main__":
    rk.recipe(main)
"""


class Node:
    """A network namespace with one address, and what runs in it."""

    def __init__(self, name, address):
        self.name, self.address, self.processes = name, address, []

    def run(self, *command, **options):
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)
        self.processes.append(process)
        return process

    def kill(self):
        """End everything in it at once, as when the power fails."""
        told = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        for pid in map(int, told.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait(30)
        self.processes.clear()


def ip(*command):
    subprocess.run(["ip", *command], check=True, capture_output=True, text=True)


@pytest.fixture
def nodes():
    """Two namespaces joined by a cable, removed afterwards with all that runs in them."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2) for network namespaces")
    one, two = (Node(f"rk{os.getpid()}{letter}", f"10.77.0.{n}") for n, letter in ((1, "a"), (2, "b")))
    made = []
    try:
        for node in (one, two):
            ip("netns", "add", node.name)
            made.append(node)
        ip("link", "add", "rk0", "netns", one.name, "type", "veth", "peer", "name", "rk0", "netns", two.name)
        for node in (one, two):
            ip("-n", node.name, "address", "add", f"{node.address}/24", "dev", "rk0")
            for device in ("lo", "rk0"):
                ip("-n", node.name, "link", "set", device, "up")
        yield one, two
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
    finally:
        for node in made:
            node.kill()
            ip("netns", "delete", node.name)


def launch(node, place, out, *, first):
    """Start torchrun on a node; the first node holds the rendezvous."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    settings |= {"PYTHONPATH": str(Path(rk.__file__).parents[1]), "GLOO_SOCKET_IFNAME": "rk0"}
    settings |= {"NODE": node.name[-1]}
    # With it torch 2.11 sends the address of the store in the first round only, and a node that joins later waits for it in vain.
    settings |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1"]
    torchrun += ["--max-restarts", "3", "--rdzv-backend", "c10d", "--rdzv-id", "test", "--local-addr"]
    torchrun += [node.address, "--rdzv-endpoint", f"10.77.0.1:{PORT}", "--monitor-interval", "0.5"]
    torchrun += ["--rdzv-conf", f"is_host={int(first)},last_call_timeout=4,timeout=120"]
    with (place / f"log-{node.name[-1]}").open("a") as log:
        command = [
            *torchrun,
            str(place / "recipe.py"),
            "--out",
            str(out),
            "--pause",
            "0.1",
            "--resume",
            "--saving",
            "sharded",
        ]
        return node.run(*command, env=settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place)


def attempts(out):
    import json

    file = out / "attempts"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(condition, process, place, what, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(place.glob("log-*")))
        assert process.poll() in (None, 0), f"torchrun ended with {process.returncode}\n{logs}"
        assert time.monotonic() < end, f"no {what} after {seconds} s\n{logs}"
        time.sleep(0.1)


def saved_step(out):
    return max((int(path.name[5:]) for path in (out / "state").glob("step-*")), default=0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process without interruption."""
    place = tmp_path_factory.mktemp("alone")
    (place / "recipe.py").write_text(RECIPE)
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(rk.__file__).parents[1])}
    command = [sys.executable, str(place / "recipe.py"), "--out", str(place / "run")]
    subprocess.run(command, check=True, env=settings, timeout=250, cwd=place, capture_output=True)
    return place / "run"


def check(out, alone):
    """The run is that of one process: every step once, the same losses and weights."""
    assert read_record(out)["status"] == "finished"
    one, other = read_metrics(alone), read_metrics(out)
    assert [line["step"] for line in other] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in other] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    whole = rk.load(alone / "model").state_dict()
    for name, value in rk.load(out / "model").state_dict().items():
        torch.testing.assert_close(
            value, whole[name], rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("returns", [False, True], ids=["the other goes on alone", "the node comes back"])
def test_a_node_is_lost_in_the_middle(nodes, alone, tmp_path, returns):
    one, two = nodes
    (tmp_path / "recipe.py").write_text(RECIPE)
    out = tmp_path / "run"
    survivor = launch(one, tmp_path, out, first=True)
    launch(two, tmp_path, out, first=False)
    wait_for(lambda: saved_step(out) >= 10, survivor, tmp_path, "saved state")
    assert [(each["world"], each["first"]) for each in attempts(out)] == [(2, 0)] * 2
    two.kill()
    kept = saved_step(out)
    wait_for(lambda: len(attempts(out)) >= 3, survivor, tmp_path, "restart")
    again = attempts(out)[2]
    assert (again["node"], again["world"]) == ("a", 1)
    assert kept <= again["first"] < STEPS, "it goes on from the last save"
    if returns:
        launch(two, tmp_path, out, first=False)
        wait_for(lambda: len(attempts(out)) >= 5, survivor, tmp_path, "restart of both")
        both = attempts(out)[3:5]
        assert {each["node"] for each in both} == {"a", "b"}
        assert [each["world"] for each in both] == [2, 2]
        assert again["first"] < both[0]["first"] == both[1]["first"]
    assert survivor.wait(250) == 0, (tmp_path / "log-a").read_text()[-3000:]
    check(out, alone)
